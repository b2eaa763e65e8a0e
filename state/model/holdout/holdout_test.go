package holdout

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-12*(1+math.Abs(want))) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestCustomer(t *testing.T) {
	c := Customer{Days: []int32{10, 14, 20}, Paid: []float64{7, 0, 5}}
	for _, test := range []struct {
		day  int32
		want fit.History
		mean fit.Spend
	}{
		{10, fit.History{X: 0, TX: 0, E: 0, N: 1}, fit.Spend{}},
		{13, fit.History{X: 0, TX: 0, E: 3, N: 1}, fit.Spend{}},
		{14, fit.History{X: 1, TX: 4, E: 0, N: 1}, fit.Spend{}}, // nothing was paid
		{25, fit.History{X: 2, TX: 10, E: 5, N: 1}, fit.Spend{N: 2, Mean: 2.5}},
	} {
		if got := c.History(test.day); got != test.want {
			t.Errorf("day %d: %+v", test.day, got)
		}
		if got := c.Spend(test.day); got != test.mean {
			t.Errorf("day %d: %+v", test.day, got)
		}
	}
	if n, paid := c.between(10, 20); n != 2 || paid != 5 {
		t.Errorf("%d, %v", n, paid)
	}
	if n, _ := c.between(20, 30); n != 0 {
		t.Errorf("%d", n)
	}
	if got := Known([]Customer{c, {}, {Days: []int32{11}}}, 10); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// Who may be older than the log is not learnt from.
func TestBorn(t *testing.T) {
	all := []Customer{{Days: []int32{100, 130, 135}}, {Days: []int32{129}}, {Days: []int32{130}}}
	born, from := Born(all, 0, 140) // gaps 30 and 5: 95 % of them are at most 30
	if from != 130 || len(born) != 1 || born[0].Days[0] != 130 {
		t.Errorf("from %d: %v", from, born)
	}
	if born, from = Born(all, 0, 134); from != 130 || len(born) != 1 { // as of the cut there is one gap
		t.Errorf("from %d: %v", from, born)
	}
	if born, from = Born(all, 101, 140); from != 105 || len(born) != 2 { // the gap that begins on 100 is not known
		t.Errorf("from %d: %v", from, born)
	}
	if born, from = Born(all, 131, 140); from != 100 || len(born) != 3 { // no gap is
		t.Errorf("from %d: %v", from, born)
	}
	if born, _ = Born(nil, 0, 5); born != nil {
		t.Error(born)
	}
}

// The figures against their definitions, on random scores with many ties.
func TestMetrics(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		n := 20 + r.IntN(200)
		score, amount, active := make([]float64, n), make([]float64, n), make([]bool, n)
		for i := range score {
			score[i] = float64(r.IntN(8)) / 8
			active[i] = r.Float64() < score[i]
			amount[i] = float64(r.IntN(5))
		}
		var pairs, won, positives float64
		for i := range score {
			positives += indicator(active[i])
			for j := range score {
				if active[i] && !active[j] {
					pairs++
					if score[i] > score[j] {
						won++
					} else if score[i] == score[j] {
						won += 0.5
					}
				}
			}
		}
		got := ranking(score, active)
		near(t, "AUC", got.AUC, won/pairs)
		// The best tenth, ties broken at random, on average.
		var hits, share, sum float64
		const tries = 1000
		for range tries {
			order := r.Perm(n)
			slices.SortStableFunc(order, func(a, b int) int { return int(8*score[b] - 8*score[a]) })
			for _, i := range order[:tenth(n)] {
				hits += indicator(active[i]) / tries
				share += amount[i] / tries
			}
		}
		for _, a := range amount {
			sum += a
		}
		if want := hits / positives; math.Abs(got.Capture-want) > 0.03 {
			t.Errorf("capture %v, want about %v", got.Capture, want)
		}
		near(t, "lift", got.Lift, got.Capture*float64(n)/float64(tenth(n)))
		if want := share / sum; math.Abs(captured(score, amount)-want) > 0.03 {
			t.Errorf("captured %v, want about %v", captured(score, amount), want)
		}
		p := probabilities(score, active)
		var brier float64
		customers := 0
		for i, v := range score {
			brier += math.Pow(v-indicator(active[i]), 2) / float64(n)
		}
		near(t, "Brier", p.Brier, brier)
		for k, b := range p.Bins {
			customers += b.Customers
			if k > 0 && b.Predicted < p.Bins[k-1].Predicted {
				t.Errorf("bins %v", p.Bins)
			}
		}
		if customers != n || len(p.Bins) != 10 {
			t.Errorf("%d customers in %d bins", customers, len(p.Bins))
		}
	}
	perfect := probabilities([]float64{0, 0, 1, 1}, []bool{false, false, true, true})
	near(t, "perfect", perfect.Brier+perfect.LogLoss+perfect.ECE, 0)
	same := totals([]float64{1, 2, 3}, []float64{1, 2, 3})
	if same != (Totals{Predicted: 6, Correlation: same.Correlation}) {
		t.Errorf("%+v", same)
	}
	near(t, "correlation", same.Correlation, 1)
	off := totals([]float64{2, 0}, []float64{1, 3})
	near(t, "bias", off.Bias, -0.5)
	near(t, "MAE", off.MAE, 2)
	near(t, "RMSE", off.RMSE, math.Sqrt(5))
	near(t, "correlation", off.Correlation, -1)
	if r := ranking([]float64{1, 2}, []bool{false, false}); r != (Ranking{}) {
		t.Errorf("nobody ordered: %+v", r)
	}
}

// distorted are pairs whose true logit is a + b times the stated one.
func distorted(a, b float64, n int, seed uint64) Pairs {
	r := rand.New(rand.NewPCG(seed, 1))
	var s Pairs
	for range n {
		p := r.Float64()
		q := 1 / (1 + math.Exp(-a-b*model.Logit(p)))
		s.P, s.Active = append(s.P, p), append(s.Active, r.Float64() < q)
	}
	return s
}

func TestMaps(t *testing.T) {
	learn, test := distorted(0.6, 0.7, 20000, 1), distorted(0.6, 0.7, 20000, 2)
	platt, isotonic := LearnPlatt(learn), LearnIsotonic(learn)
	if math.Abs(platt.A-0.6) > 0.06 || math.Abs(platt.B-0.7) > 0.04 {
		t.Errorf("platt %+v", platt)
	}
	raw := probabilities(test.P, test.Active)
	for _, m := range []model.Map{platt, isotonic} {
		if p := probabilities(m.ApplyAll(test.P), test.Active); p.ECE > 0.015 || p.LogLoss >= raw.LogLoss {
			t.Errorf("%s: %.4f, log loss %.4f; raw %.4f, %.4f", m.Method, p.ECE, p.LogLoss, raw.ECE, raw.LogLoss)
		}
		for p, was := 0.0, 0.0; p <= 1; p += 0.001 {
			q := m.Apply(p)
			if q < was || q < 0 || q > 1 {
				t.Fatalf("%s: %v at %v, %v before", m.Method, q, p, was)
			}
			was = q
		}
	}
	none := model.Map{Method: "none"}
	near(t, "none", none.Apply(0.3), 0.3)
	// Whatever the data, a map never turns the order around.
	for _, s := range []Pairs{{}, {[]float64{0.2, 0.8}, []bool{true, false}}, {[]float64{0, 1, 1}, []bool{true, true, true}}, {[]float64{0.5}, []bool{true}}} {
		for _, m := range []model.Map{LearnPlatt(s), LearnIsotonic(s)} {
			if len(s.P) == 0 && m.Method == "isotonic" {
				continue
			}
			if a, b := m.Apply(0.1), m.Apply(0.9); !(a <= b && a >= 0 && b <= 1) {
				t.Errorf("%+v: %v, %v", m, a, b)
			}
		}
	}
}

// shopOf draws customers of MBG/NBD who come in over the whole time.
func shopOf(m model.MBGNBD, n int, days int32, seed uint64) []Customer {
	src := rand.NewPCG(seed, 3)
	r := rand.New(src)
	gamma := func(shape float64) float64 { // by sums, for whole shapes
		sum := 0.0
		for range int(shape) {
			sum += r.ExpFloat64()
		}
		return sum
	}
	var all []Customer
	for range n {
		lambda := gamma(m.R) / m.Alpha
		a, b := gamma(m.A), gamma(m.B)
		chance := a / (a + b)
		at := r.Float64() * float64(days)
		c := Customer{}
		for at < float64(days) {
			if day := int32(at); len(c.Days) == 0 || day > c.Days[len(c.Days)-1] {
				c.Days, c.Paid = append(c.Days, day), append(c.Paid, 10)
			}
			if r.Float64() < chance {
				break
			}
			at += r.ExpFloat64() / lambda
		}
		all = append(all, c)
	}
	return all
}

// A model that is the truth is calibrated, tracks what comes, and beats the rules of thumb.
func TestJudge(t *testing.T) {
	m := model.MBGNBD{R: 1, Alpha: 60, A: 1, B: 3}
	all := shopOf(m, 6000, 720, 4)
	cut, horizon := int32(540), int32(179)
	var known, later []Customer
	for _, c := range Known(all, cut) {
		n := c.until(cut)
		known, later = append(known, Customer{c.Days[:n], c.Paid[:n]}), append(later, c)
	}
	c, err := NewCase(known, later, cut, horizon)
	if err != nil {
		t.Fatal(err)
	}
	got := c.Judge("mbg_nbd", m, &model.GammaGamma{P: 1e6, Q: 1e6 + 1, Gamma: 10})
	if got.Probabilities.ECE > 0.02 || math.Abs(got.Orders.Bias) > 0.05 || got.Tracking.MAPE > 0.03 {
		t.Errorf("ECE %.4f, bias %.4f, tracking %.4f", got.Probabilities.ECE, got.Orders.Bias, got.Tracking.MAPE)
	}
	if got.Revenue == nil || math.Abs(got.Revenue.Predicted/got.Orders.Predicted-10) > 0.01 {
		t.Errorf("revenue %+v for %v orders", got.Revenue, got.Orders.Predicted)
	}
	if w := got.Tracking.Weeks; w[len(w)-1].Week != 25 || got.Tracking.CameAtCut >= got.Tracking.CameAtEnd {
		t.Errorf("weeks to %d", w[len(w)-1].Week)
	}
	baselines := c.Baselines(LearnHiatus(known, cut, horizon))
	if len(baselines) != 7 {
		t.Errorf("%d baselines", len(baselines))
	}
	for _, b := range baselines {
		if b.Ranking != nil && b.Ranking.AUC > got.Ranking.AUC+0.005 || b.Probabilities != nil && b.Probabilities.Brier < got.Probabilities.Brier ||
			b.Orders != nil && b.Orders.RMSE < got.Orders.RMSE {
			t.Errorf("%s beats the truth: %+v %+v %+v", b.Name, b.Ranking, b.Probabilities, b.Orders)
		}
	}
	if _, err := NewCase(known, later[1:], cut, horizon); err == nil {
		t.Error("another number of customers")
	}
}

// TestBadQuarter has a shop whose customers bought little in the quarter before the cut: what is learnt from it alone would be
// wrong of the next one. A map must have been right of days that it was not learnt from, or it is not used.
func TestBadQuarter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const cut, horizon = 720, 90
	var all []Customer
	for range 3000 {
		c := Customer{Days: []int32{int32(r.IntN(500))}, Paid: []float64{1}}
		rate := r.ExpFloat64() / 60
		for d := c.Days[0] + 1; d < cut+horizon; d++ {
			k := rate
			if d > cut-horizon && d <= cut {
				k *= 0.4
			}
			if r.Float64() < 1-math.Exp(-k) {
				c.Days, c.Paid = append(c.Days, d), append(c.Paid, 1)
			}
		}
		all = append(all, c)
	}
	cal, _ := Calibrate(Known(all, cut), 0, cut, horizon, func(known []Customer, day int32) model.Model {
		return model.MBGNBD{R: 1, Alpha: 60, A: 0.05, B: 5}
	})
	if cal.Map.Method != "none" || len(cal.Trials) != 3 {
		t.Errorf("%+v", cal)
	}
	for _, trial := range cal.Trials {
		if trial.ECE < 0.15 { // a map that had seen the quarter would have some .08
			t.Errorf("the trial of %s has seen what it was tried on: %+v", trial.Method, trial)
		}
	}
}

// TestPlattIsNoWorse: whatever was stated and came, the map that is learnt from it fits it at least as well.
func TestPlattIsNoWorse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low, width := math.Pow(10, -rapid.Float64Range(0, 4).Draw(t, "low")), math.Pow(10, -rapid.Float64Range(0, 3).Draw(t, "width"))
		a, b := rapid.Float64Range(-8, 8).Draw(t, "a"), rapid.Float64Range(-1, 4).Draw(t, "b")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var s Pairs
		for range rapid.IntRange(0, 400).Draw(t, "pairs") {
			p := min(low+width*r.Float64(), 1)
			s.P, s.Active = append(s.P, p), append(s.Active, r.Float64() < 1/(1+math.Exp(-a-b*model.Logit(p))))
		}
		m := LearnPlatt(s)
		if err := m.Check(); err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		was, is := probabilities(s.P, s.Active).LogLoss, probabilities(m.ApplyAll(s.P), s.Active).LogLoss
		if m.B > leastSlope && is > was+1e-9 {
			t.Errorf("log loss %v, was %v, by %+v", is, was, m)
		}
	})
}

// A map is learnt before the cut, used only where it wins there, and mends a model that is off in a lasting way.
func TestCalibrate(t *testing.T) {
	truth := model.MBGNBD{R: 1, Alpha: 60, A: 1, B: 3}
	all := shopOf(truth, 6000, 720, 5)
	cut, horizon := int32(600), int32(90)
	var known []Customer
	for _, c := range Known(all, cut) {
		n := c.until(cut)
		known = append(known, Customer{c.Days[:n], c.Paid[:n]})
	}
	c, err := NewCase(known, Known(all, cut), cut, horizon)
	if err != nil {
		t.Fatal(err)
	}
	off := model.MBGNBD{R: 1, Alpha: 60, A: 3, B: 3} // believes that more leave
	cal, tried := Calibrate(known, 0, cut, horizon, func(then []Customer, day int32) model.Model {
		if day > cut-horizon {
			t.Errorf("looks at %d: the outcome is not known at %d", day, cut)
		}
		return off
	})
	if cal.Map.Method == "none" || len(cal.Origins) != 8 || len(cal.Trials) != 3 || cal.Map.Days != 90 {
		t.Fatalf("%+v", cal)
	}
	if !slices.IsSortedFunc(cal.Origins, func(a, b fit.Origin) int { return int(a.Cut - b.Cut) }) || len(slices.CompactFunc(slices.Clone(cal.Origins), func(a, b fit.Origin) bool { return a.Cut == b.Cut })) != 8 {
		t.Errorf("cuts before the cut: %+v", cal.Origins)
	}
	if tried.Cut != cut-horizon || int(tried.Days) != cal.Map.Days || len(tried.Histories) != len(tried.P) {
		t.Errorf("tried at %d over %d days", tried.Cut, tried.Days)
	}
	right := make([]float64, len(tried.P))
	for i, h := range tried.Histories {
		right[i] = 1 - truth.NoOrder(h.X, h.TX, h.E, float64(tried.Days))
	}
	near(t, "log loss of the map that won", probabilities(tried.P, tried.Active).LogLoss, cal.Tried().LogLoss)
	if a := tried.Compare(tried.P); a.Gain != 0 || a.Error != 0 || a.Worse() {
		t.Errorf("against itself: %+v", a)
	}
	same := tried.Compare(right)
	near(t, "the gain", same.LogLoss-cal.Tried().LogLoss, same.Gain)
	wrong := tried.Compare(slices.Repeat([]float64{0.5}, len(right)))
	if wrong.Gain < 3*wrong.Error || same.Gain > 3*same.Error {
		t.Errorf("against the truth %+v, against a coin %+v", same, wrong)
	}
	r := c.Judge("off", off, nil)
	c.Recalibrate(r, &cal.Map)
	if r.Calibrated.ECE > r.Probabilities.ECE/2 || r.Calibrated.LogLoss >= r.Probabilities.LogLoss || r.CalibratedAUC < r.Ranking.AUC-0.005 {
		t.Errorf("ECE %.4f, was %.4f; log loss %.4f, was %.4f", r.Calibrated.ECE, r.Probabilities.ECE, r.Calibrated.LogLoss, r.Probabilities.LogLoss)
	}
	// One cut is not enough to learn and to try.
	one, _ := Calibrate(known, 0, cut, horizon, func(_ []Customer, day int32) model.Model {
		if day < cut-horizon {
			return nil
		}
		return off
	})
	if one.Map.Method != "none" || one.Reason != "a map needs two horizons of days to be learnt and tried on, and before them enough to fit a model to; there are 1" {
		t.Errorf("%+v", one)
	}
	late, held := Calibrate(known, cut-horizon, cut, horizon, func([]Customer, int32) model.Model { return off })
	if len(late.Origins) != 1 || late.Origins[0].Cut != cut-horizon || held != nil {
		t.Errorf("days are known since %d: %+v", cut-horizon, late.Origins)
	}
	if nobody, _ := Calibrate(nil, 0, cut, horizon, nil); nobody.Map.Method != "none" {
		t.Errorf("%+v", nobody)
	}
}

func TestLearnHiatus(t *testing.T) {
	var known []Customer
	for i := range int32(100) {
		c := Customer{Days: []int32{0}, Paid: []float64{1}}
		if i%2 == 0 { // orders every 10 days to the end, the others only once
			for d := int32(10); d <= 100; d += 10 {
				c.Days, c.Paid = append(c.Days, d), append(c.Paid, 1)
			}
		}
		known = append(known, c)
	}
	if h := LearnHiatus(known, 100, 50); h != 0 { // at day 50 these have ordered on that very day
		t.Errorf("%v", h)
	}
	if h := LearnHiatus(known, 105, 50); h != 5 { // looked at from day 55
		t.Errorf("%v", h)
	}
	if h := LearnHiatus(nil, 105, 50); h != 50 {
		t.Errorf("%v", h)
	}
}
