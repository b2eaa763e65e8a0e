package holdout

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
)

// Pairs are probabilities that were stated and what happened.
type Pairs struct {
	P      []float64
	Active []bool
}

func (s *Pairs) add(more Pairs) {
	s.P, s.Active = append(s.P, more.P...), append(s.Active, more.Active...)
}

// LearnPlatt is Platt's map (1999): logistic regression on the logit, by Newton's method. The slope is kept above 0.
func LearnPlatt(s Pairs) model.Map {
	m := model.Map{Method: "platt", B: 1, Learnt: len(s.P)}
	for range 50 {
		var ga, gb, haa, hab, hbb float64
		for i, p := range s.P {
			x := model.Logit(p)
			q := 1 / (1 + math.Exp(-m.A-m.B*x))
			d, w := indicator(s.Active[i])-q, q*(1-q)
			ga, gb = ga+d, gb+d*x
			haa, hab, hbb = haa+w, hab+w*x, hbb+w*x*x
		}
		det := haa*hbb - hab*hab
		if det <= 1e-12 {
			break
		}
		da, db := (hbb*ga-hab*gb)/det, (haa*gb-hab*ga)/det
		m.A, m.B = m.A+da, max(m.B+db, 0.05)
		if math.Abs(da)+math.Abs(db) < 1e-12 {
			break
		}
	}
	return m
}

// LearnIsotonic is the non-decreasing map of least squares, by pooling adjacent violators; between the centres of its
// blocks it goes straight, so that it does not make equal what was not.
func LearnIsotonic(s Pairs) model.Map {
	order := make([]int, len(s.P))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(s.P[a], s.P[b]) })
	type block struct{ n, p, y float64 } // sums
	var blocks []block
	for from, to := 0, 0; from < len(order); from = to {
		var b block
		for to = from; to < len(order) && s.P[order[to]] == s.P[order[from]]; to++ {
			b.n, b.p, b.y = b.n+1, b.p+s.P[order[to]], b.y+indicator(s.Active[order[to]])
		}
		blocks = append(blocks, b)
		for k := len(blocks) - 1; k > 0 && blocks[k-1].y*blocks[k].n >= blocks[k].y*blocks[k-1].n; k-- {
			blocks[k-1].n, blocks[k-1].p, blocks[k-1].y = blocks[k-1].n+blocks[k].n, blocks[k-1].p+blocks[k].p, blocks[k-1].y+blocks[k].y
			blocks = blocks[:k]
		}
	}
	m := model.Map{Method: "isotonic", Learnt: len(s.P)}
	for _, b := range blocks {
		m.P = append(m.P, b.p/b.n)
		m.Q = append(m.Q, min(max(b.y/b.n, 1e-4), 1-1e-4))
	}
	return m
}

// Fitter estimates a model from customers as known at the end of a day; nil if they are too few.
type Fitter func(known []Customer, day int32) model.Model

// The origins: as long a horizon as is asked for, or half of what there is; the newest so that its outcome is just known,
// older ones an eighth of the horizon before, as long as three eighths of the history are there to learn from.
const (
	maxOrigins = 4
	originStep = 8
)

// Calibrate learns a map from what models fitted at cuts before the cut foresaw and what then came, all of it up to the cut. It
// is used only if it beats the raw probabilities at the newest origin by log loss, without costing the ranking.
func Calibrate(known []Customer, cut, horizon int32, fitted Fitter) *fit.Calibration {
	c := &fit.Calibration{Map: model.Map{Method: "none"}}
	start := cut
	for i := range known {
		start = min(start, known[i].Days[0])
	}
	span := cut - start
	days := min(horizon, span/2)
	var pairs []Pairs
	for k := range int32(maxOrigins) {
		at := cut - days - k*max(1, days/originStep)
		if at-start < span*3/8 || days < 1 {
			break
		}
		then := Known(known, at)
		m := fitted(then, at)
		if m == nil {
			break
		}
		var p Pairs
		o := fit.Origin{Cut: at, Days: int(days), Customers: len(then)}
		for i := range then {
			h := then[i].History(at)
			orders, _ := then[i].between(at, at+days)
			p.P, p.Active = append(p.P, 1-m.NoOrder(h.X, h.TX, h.E, float64(days))), append(p.Active, orders > 0)
			o.Active += int(indicator(orders > 0))
		}
		pairs, c.Origins = append(pairs, p), append(c.Origins, o)
	}
	slices.Reverse(pairs)
	slices.Reverse(c.Origins)
	decide(c, pairs, int(days))
	return c
}

// decide learns from the older origins, tries at the newest, and learns from all what has won.
func decide(c *fit.Calibration, pairs []Pairs, days int) {
	if len(pairs) < 2 {
		c.Reason = fmt.Sprintf("%d cuts before the cut with enough to learn from, 2 are needed", len(pairs))
		return
	}
	var older, all Pairs
	for _, p := range pairs[:len(pairs)-1] {
		older.add(p)
	}
	newest := pairs[len(pairs)-1]
	all.add(older)
	all.add(newest)
	learners := []struct {
		name  string
		learn func(Pairs) model.Map
	}{{"none", func(Pairs) model.Map { return model.Map{Method: "none"} }}, {"platt", LearnPlatt}, {"isotonic", LearnIsotonic}}
	best := 0
	for i, l := range learners {
		m := l.learn(older)
		q := m.ApplyAll(newest.P)
		p := probabilities(q, newest.Active)
		c.Trials = append(c.Trials, fit.Trial{Method: l.name, LogLoss: p.LogLoss, Brier: p.Brier, ECE: p.ECE, AUC: ranking(q, newest.Active).AUC})
		if t := c.Trials[i]; t.LogLoss < c.Trials[best].LogLoss && t.AUC >= c.Trials[0].AUC-maxAUCLoss {
			best = i
		}
	}
	c.Map = learners[best].learn(all)
	c.Map.Days = days
	c.Reason = fmt.Sprintf("least log loss at the newest cut before the cut: %.4f, %.4f without a map", c.Trials[best].LogLoss, c.Trials[0].LogLoss)
	if best == 0 {
		c.Reason = fmt.Sprintf("no map beat the raw probabilities (log loss %.4f) at the newest cut before the cut", c.Trials[0].LogLoss)
	}
}

// maxAUCLoss is how much ranking a map may cost.
const maxAUCLoss = 0.002

// Recalibrate adds what a map makes of a method's probabilities.
func (c *Case) Recalibrate(r *Method, m *model.Map) {
	q := m.ApplyAll(r.Chance)
	p := probabilities(q, c.Active)
	r.Calibrated, r.CalibratedAUC = &p, ranking(q, c.Active).AUC
}
