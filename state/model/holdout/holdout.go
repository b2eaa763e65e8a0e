package holdout

import (
	"fmt"

	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
)

// Case is a population at a cut, and what it did afterwards.
type Case struct {
	Cut, Horizon int32      // the end of a day, and days
	Known        []Customer // as was known at the cut
	Histories    []fit.History
	Active       []bool // ordered within the horizon
	Orders       []float64
	Revenue      []float64
	All          []Customer // the same customers, as known at the end
}

// NewCase holds customers as known at a cut against the same customers as known later.
func NewCase(known, later []Customer, cut, horizon int32) (*Case, error) {
	if len(known) != len(later) {
		return nil, fmt.Errorf("%d customers at the cut, %d later", len(known), len(later))
	}
	c := &Case{Cut: cut, Horizon: horizon, Known: known, All: later, Histories: Histories(known, cut)}
	for i := range later {
		orders, paid := later[i].between(cut, cut+horizon)
		c.Active = append(c.Active, orders > 0)
		c.Orders = append(c.Orders, float64(orders))
		c.Revenue = append(c.Revenue, paid)
	}
	return c, nil
}

// Method is a way to foresee, with how it did. What it cannot foresee is nil.
type Method struct {
	Name          string         `json:"name"`
	Baseline      bool           `json:"baseline"`
	What          string         `json:"what"`
	Orders        *Totals        `json:"orders"`
	Ranking       *Ranking       `json:"ranking"` // by the probability to order, or the score
	ByOrders      *Ranking       `json:"ranking_by_orders"`
	Probabilities *Probabilities `json:"probabilities"` // of at least one order
	Calibrated    *Probabilities `json:"calibrated"`    // the same after recalibration, where one was learnt
	CalibratedAUC float64        `json:"calibrated_auc,omitempty"`
	Alive         *Alive         `json:"alive"`
	Revenue       *Revenue       `json:"revenue"`
	Tracking      *Tracking      `json:"tracking"`

	Chance []float64 `json:"-"` // of at least one order, by customer
}

// Alive is what the probability to be alive is worth when it is taken for that of an order: what a score of churn must not be.
type Alive struct {
	AUC   float64 `json:"auc"`
	Brier float64 `json:"brier"`
}

// Revenue holds the revenue that was expected against what came.
type Revenue struct {
	Predicted float64 `json:"predicted"`
	Bias      float64 `json:"bias"`
	Capture   float64 `json:"top_decile_capture"` // share of what came that was paid by the best tenth by expected revenue
}

// Judge holds a model against a case. Spending may be nil.
func (c *Case) Judge(name string, m model.Model, spending *model.GammaGamma) *Method {
	n, h := len(c.Known), float64(c.Horizon)
	expected, alive := make([]float64, n), make([]float64, n)
	r := &Method{Name: name, What: "fitted at the cut", Chance: make([]float64, n)}
	for i, x := range c.Histories {
		r.Chance[i] = 1 - m.NoOrder(x.X, x.TX, x.E, h)
		expected[i] = m.Orders(x.X, x.TX, x.E, h)
		alive[i] = m.Alive(x.X, x.TX, x.E)
	}
	r.Alive = &Alive{ranking(alive, c.Active).AUC, probabilities(alive, c.Active).Brier}
	orders, rank, by, p := totals(expected, c.Orders), ranking(r.Chance, c.Active), ranking(expected, c.Active), probabilities(r.Chance, c.Active)
	r.Orders, r.Ranking, r.ByOrders, r.Probabilities = &orders, &rank, &by, &p
	r.Tracking = c.track(m)
	if spending != nil {
		value := make([]float64, n)
		var sum, came float64
		for i := range value {
			s := c.Known[i].Spend(c.Cut)
			value[i] = expected[i] * spending.Spend(s.N, s.Mean)
			sum += value[i]
			came += c.Revenue[i]
		}
		r.Revenue = &Revenue{Predicted: sum, Capture: captured(value, c.Revenue)}
		if came > 0 {
			r.Revenue.Bias = sum/came - 1
		}
	}
	return r
}

// Baselines are what every model has to beat. The hiatus is in days, see LearnHiatus.
func (c *Case) Baselines(hiatus float64) []*Method {
	n := len(c.Known)
	var rate float64
	for _, a := range c.Active {
		rate += indicator(a) / float64(n)
	}
	list := []*Method{
		{Name: "base_rate", What: "everybody orders with the probability that was observed: known only afterwards"},
		{Name: "all_zero", What: "nobody orders"},
		{Name: "x_per_t", What: "the orders so far, continued at the same rate"},
		{Name: "recency", What: "ranked by the last order"},
		{Name: "frequency", What: "ranked by the number of orders"},
		{Name: "frequency_then_recency", What: "ranked by the number of orders, then by the last order"},
		{Name: "hiatus", What: fmt.Sprintf("who has been silent for more than %.0f days has left (learnt before the cut)", hiatus)},
	}
	score := make([][]float64, len(list))
	for k := range score {
		score[k] = make([]float64, n)
	}
	for i, x := range c.Histories {
		score[0][i] = rate
		if age := x.TX + x.E; age > 0 {
			score[2][i] = x.X / age * float64(c.Horizon)
		}
		score[3][i] = -x.E
		score[4][i] = x.X
		score[5][i] = x.X - x.E/1e7
		score[6][i] = indicator(x.E <= hiatus)
	}
	for k, b := range list {
		b.Baseline = true
		switch b.Name {
		case "base_rate":
			p := probabilities(score[k], c.Active)
			b.Probabilities = &p
		case "all_zero", "x_per_t":
			t := totals(score[k], c.Orders)
			b.Orders = &t
		}
		if k >= 2 {
			r := ranking(score[k], c.Active)
			b.Ranking = &r
		}
	}
	return list
}

// LearnHiatus finds, from orders before the end of a day alone, the silence that best tells who comes back: a cut within
// those orders, as far back as the horizon but at most in their middle, is looked at from afterwards.
func LearnHiatus(known []Customer, day, horizon int32) float64 {
	start := day
	for i := range known {
		start = min(start, known[i].Days[0])
	}
	back := min(horizon, (day-start)/2)
	inner := Known(known, day-back)
	if len(inner) == 0 || back < 1 {
		return float64(horizon)
	}
	// came[e] less those who did not, after e days of silence: everybody silent for at most the best e is said to come.
	balance := make([]int, day-back-start+1)
	for i := range inner {
		e := int(inner[i].History(day - back).E)
		if orders, _ := inner[i].between(day-back, day); orders > 0 {
			balance[e]++
		} else {
			balance[e]--
		}
	}
	best, at, sum := 0, 0, 0
	for e, b := range balance {
		if sum += b; sum > best {
			best, at = sum, e
		}
	}
	return float64(at)
}

// Tracking holds all repeat orders, cumulated week by week, against what a model expects of new customers as they came in.
type Tracking struct {
	Weeks     []Week  `json:"weeks"`
	AtCut     float64 `json:"expected_at_cut"`
	AtEnd     float64 `json:"expected_at_end"`
	MAPE      float64 `json:"mape"`        // of the cumulated orders, over the weeks of the holdout
	WeekMAPE  float64 `json:"weekly_mape"` // of the orders of a week
	CameAtCut float64 `json:"actual_at_cut"`
	CameAtEnd float64 `json:"actual_at_end"`
}

// Week is the end of one; the cut is at week 0.
type Week struct {
	Week     int     `json:"week"`
	Expected float64 `json:"expected"`
	Came     float64 `json:"actual"`
}

func (c *Case) track(m model.Model) *Tracking {
	start := c.Cut
	for i := range c.Known {
		start = min(start, c.Known[i].Days[0])
	}
	births, repeats := make([]float64, c.Cut-start+1), make([]float64, c.Cut+c.Horizon-start+1)
	for i := range c.All {
		births[c.Known[i].Days[0]-start]++
		for k, day := range c.All[i].Days {
			if k > 0 && day >= start && day <= c.Cut+c.Horizon {
				repeats[day-start]++
			}
		}
	}
	byAge := make([]float64, len(repeats)+1)
	for age := range byAge {
		byAge[age] = m.NewOrders(float64(age))
	}
	t := &Tracking{}
	first := -int(c.Cut-start) / 7
	var came float64
	next := int32(0)
	var off, offWeek float64
	for week := first; week <= int(c.Horizon)/7; week++ {
		end := c.Cut - start + int32(7*week)
		for ; next <= end; next++ {
			came += repeats[next]
		}
		w := Week{Week: week, Came: came}
		for day, n := range births {
			if age := int(end) - day + 1; n > 0 && age > 0 { // a first order is at the beginning of its day
				w.Expected += n * byAge[age]
			}
		}
		if week > 0 {
			was := t.Weeks[len(t.Weeks)-1]
			off += apart(w.Expected, w.Came)
			offWeek += apart(w.Expected-was.Expected, w.Came-was.Came)
		}
		if week == 0 {
			t.AtCut, t.CameAtCut = w.Expected, w.Came
		}
		t.Weeks = append(t.Weeks, w)
		t.AtEnd, t.CameAtEnd = w.Expected, w.Came
	}
	if n := float64(int(c.Horizon) / 7); n > 0 {
		t.MAPE, t.WeekMAPE = off/n, offWeek/n
	}
	return t
}

// apart is the relative difference.
func apart(expected, came float64) float64 {
	if d := expected - came; d < 0 {
		return -d / max(came, 1)
	}
	return (expected - came) / max(came, 1)
}
