package holdout

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
)

// leastSlope is that of a map by Platt: with less it would say nearly the same of everybody, and turn their order around below 0.
const leastSlope = 0.05

// Pairs are probabilities that were stated and what happened.
type Pairs struct {
	P      []float64
	Active []bool
}

func (s *Pairs) add(more Pairs) {
	s.P, s.Active = append(s.P, more.P...), append(s.Active, more.Active...)
}

// LearnPlatt is Platt's map (1999): logistic regression on the logit, by Newton's method with steps that are halved until they
// are no worse (Lin, Lin & Weng 2007). The slope is kept from falling below leastSlope.
func LearnPlatt(s Pairs) model.Map {
	m := model.Map{Method: "platt", B: 1, Learnt: len(s.P)}
	climb(&m, s, false)
	if m.B < leastSlope {
		m.A, m.B = 0, leastSlope
		climb(&m, s, true)
	}
	return m
}

// climb takes a map to the greatest likelihood; its slope stays if it is to.
func climb(m *model.Map, s Pairs, level bool) {
	at := likelihood(m, s)
	for range 100 {
		var ga, gb, haa, hab, hbb float64
		for i, p := range s.P {
			x := model.Logit(p)
			q := 1 / (1 + math.Exp(-m.A-m.B*x))
			d, w := indicator(s.Active[i])-q, q*(1-q)
			ga, gb = ga+d, gb+d*x
			haa, hab, hbb = haa+w, hab+w*x, hbb+w*x*x
		}
		haa, hbb = haa+1e-9, hbb+1e-9 // nothing to learn from: a small step
		if level {
			gb, hab = 0, 0
		}
		det := haa*hbb - hab*hab
		da, db := (hbb*ga-hab*gb)/det, (haa*gb-hab*ga)/det
		from := *m
		for halvings := 0; ; halvings++ {
			m.A, m.B = from.A+da, from.B+db
			if l := likelihood(m, s); l >= at && m.Check() == nil || l >= at && m.B < leastSlope {
				if l-at < 1e-12*(1+math.Abs(at)) {
					return
				}
				at = l
				break
			}
			if da, db = da/2, db/2; halvings > 60 || math.Abs(da)+math.Abs(db) < 1e-9 {
				*m = from
				return
			}
		}
	}
}

// likelihood is the log likelihood of a map by Platt.
func likelihood(m *model.Map, s Pairs) (l float64) {
	for i, p := range s.P {
		x := m.A + m.B*model.Logit(p)
		if !s.Active[i] {
			x = -x
		}
		l -= math.Log1p(math.Exp(-math.Abs(x))) + max(-x, 0)
	}
	return l
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

// The origins: over as long a horizon as is asked for, or a third of what there is, as long as a quarter of it is there to
// learn from. The newest has an outcome that is just known at the cut; a map is tried there which was learnt from those whose
// outcome was known there, a whole horizon before it and more. What wins is learnt from all of them and from those in between.
const (
	maxOrigins = 4 // in each of the two groups
	originStep = 8 // of a horizon
)

// origin is a cut before the cut, and what was foreseen there.
type origin struct {
	fit.Origin
	histories []fit.History
	pairs     Pairs
}

// Calibrate learns a map from what models fitted at cuts before the cut foresaw and what then came, all of it up to the cut. It
// is used only if it beats the raw probabilities at the newest origin by log loss, without costing the ranking. It does not look from
// before the day since, from which on all days of orders are known.
func Calibrate(known []Customer, since, cut, horizon int32, fitted Fitter) (*fit.Calibration, *Tried) {
	start := cut
	for i := range known {
		start = min(start, known[i].Days[0])
	}
	span := cut - start
	days := min(horizon, span/3)
	var at []origin // newest first
	for _, k := range []int32{0, 1, 2, 3, originStep, originStep + 1, originStep + 2, originStep + 3} {
		day := cut - days - k%originStep*max(1, days/originStep)
		if k >= originStep {
			day -= days
		}
		if days < 1 || day-start < span/4 || day < since-1 {
			break
		}
		o, ok := look(known, day, days, fitted)
		if !ok {
			break
		}
		at = append(at, o)
	}
	c := &fit.Calibration{Map: model.Map{Method: "none"}}
	for _, o := range slices.Backward(at) {
		c.Origins = append(c.Origins, o.Origin)
	}
	return c, decide(c, at, days)
}

// Tried is what was stated at the newest cut before the cut, by the model as it would have been fitted there and the map that has
// won, and what came: what another model may be held against.
type Tried struct {
	Cut, Days int32
	Histories []fit.History // as of the end of Cut
	Pairs
}

// look is what is foreseen at an origin for the days after it, and what came; false if there is too little to learn from.
func look(known []Customer, day, days int32, fitted Fitter) (o origin, ok bool) {
	then := Known(known, day)
	m := fitted(then, day)
	if m == nil {
		return o, false
	}
	o.Origin = fit.Origin{Cut: day, Days: int(days), Customers: len(then)}
	for i := range then {
		h := then[i].History(day)
		orders, _ := then[i].between(day, day+days)
		o.histories = append(o.histories, h)
		o.pairs.P, o.pairs.Active = append(o.pairs.P, 1-m.NoOrder(h.X, h.TX, h.E, float64(days))), append(o.pairs.Active, orders > 0)
		o.Active += int(indicator(orders > 0))
	}
	return o, true
}

// decide tries maps at the newest origin, and learns the one that has won from all; nil if none could be tried.
func decide(c *fit.Calibration, at []origin, days int32) *Tried {
	var before, all Pairs // whose outcome was known at the newest, and all
	for _, o := range at {
		all.add(o.pairs)
		if o.Cut+days <= at[0].Cut {
			before.add(o.pairs)
		}
	}
	if len(before.P) == 0 {
		c.Reason = fmt.Sprintf("a map needs two horizons of days to be learnt and tried on, and before them enough to fit a model to; there are %d", min(len(at), 1))
		return nil
	}
	newest := at[0].pairs
	tried := &Tried{at[0].Cut, days, at[0].histories, newest}
	learners := []struct {
		name  string
		learn func(Pairs) model.Map
	}{{"none", func(Pairs) model.Map { return model.Map{Method: "none"} }}, {"platt", LearnPlatt}, {"isotonic", LearnIsotonic}}
	best := 0
	for i, l := range learners {
		m := l.learn(before)
		q := m.ApplyAll(newest.P)
		p := probabilities(q, newest.Active)
		c.Trials = append(c.Trials, fit.Trial{Method: l.name, LogLoss: p.LogLoss, Brier: p.Brier, ECE: p.ECE, AUC: ranking(q, newest.Active).AUC})
		if t := c.Trials[i]; t.LogLoss < c.Trials[best].LogLoss && t.AUC >= c.Trials[0].AUC-maxAUCLoss && chosen(newest, q) {
			best, tried.P = i, q
		}
	}
	c.Map = learners[best].learn(all)
	c.Map.Days = int(days)
	c.Reason = fmt.Sprintf("least log loss at the newest cut before the cut: %.4f, %.4f without a map", c.Trials[best].LogLoss, c.Trials[0].LogLoss)
	if best == 0 {
		c.Reason = fmt.Sprintf("no map beat the raw probabilities (log loss %.4f) by more than chance at the newest cut before the cut", c.Trials[0].LogLoss)
	}
	return tried
}

// Compare holds what another model states of the same customers and days against it.
func (s *Tried) Compare(theirs []float64) fit.Against {
	p := probabilities(theirs, s.Active)
	a := fit.Against{
		Days: int(s.Days), LogLoss: p.LogLoss, Brier: p.Brier, ECE: p.ECE, AUC: ranking(theirs, s.Active).AUC,
	}
	a.Gain, a.Error = gain(s.Active, theirs, s.P)
	return a
}

// chosen says whether probabilities q have less log loss than those that were stated, by more than chance may make it look so.
func chosen(s Pairs, q []float64) bool {
	mean, deviation := gain(s.Active, s.P, q)
	return mean > deviation
}

// gain is how much less log loss probabilities q have than p, and the standard error of that mean difference.
func gain(active []bool, p, q []float64) (mean, deviation float64) {
	var squares float64
	n := float64(len(q))
	for i := range q {
		d := logLoss(p[i], active[i]) - logLoss(q[i], active[i])
		mean, squares = mean+d/n, squares+d*d
	}
	return mean, math.Sqrt(max(squares/n-mean*mean, 0) / n)
}

// maxAUCLoss is how much ranking a map may cost.
const maxAUCLoss = 0.002

// Recalibrate adds what a map makes of a method's probabilities.
func (c *Case) Recalibrate(r *Method, m *model.Map) {
	q := m.ApplyAll(r.Chance)
	p := probabilities(q, c.Active)
	r.Calibrated, r.CalibratedAUC = &p, ranking(q, c.Active).AUC
}
