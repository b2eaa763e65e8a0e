package fit

import (
	"math"

	"github.com/asiduo/asiduo/state/model"
)

// Status says what an estimate is good for.
type Status string

// The statuses. All but Good keep a fit from being used without a look (Fitted.Usable).
const (
	Good         Status = "ok"
	TooFew       Status = "insufficient_data"     // below the data minimum
	NoDropout    Status = "degenerate_no_dropout" // the data do not show that customers ever leave; NBD says the same with less
	Bound        Status = "at_bound"              // a parameter runs away: the model is richer than the data
	NotConverged Status = "not_converged"
)

// Estimate is a fitted model.
type Estimate struct {
	Kind          Kind
	Params        []float64 // in the order of Kind.Names
	Errors        []float64 // standard errors; nil where the likelihood is flat
	LogLikelihood float64
	Condition     float64 // of the curvature: how far apart the best and the worst known direction are
	Starts        int     // of those tried, how many led here
	Status        Status
	Reason        string // why the status is not Good
}

// AIC is Akaike's criterion: less is better.
func (e Estimate) AIC() float64 { return 2*float64(len(e.Params)) - 2*e.LogLikelihood }

// BIC is Schwarz's criterion for n customers: less is better.
func (e Estimate) BIC(n int) float64 {
	return float64(len(e.Params))*math.Log(float64(n)) - 2*e.LogLikelihood
}

// Model is the model with the estimated parameters.
func (e Estimate) Model() model.Model {
	m, err := e.Kind.New(e.Params)
	if err != nil {
		panic(err) // estimates are positive
	}
	return m
}

// likelihood is the log likelihood of a kind over grouped histories whose times are divided by unit.
func likelihood(kind Kind, all []History, unit, n float64) objective {
	return func(theta, gradient []float64) float64 {
		p := make([]float64, len(theta))
		for i, v := range theta {
			p[i] = math.Exp(v)
		}
		m, err := kind.New(p)
		if err != nil {
			return math.Inf(-1)
		}
		clear(gradient)
		var sum float64
		for _, h := range all {
			weight := float64(h.N) / n
			if gradient == nil {
				sum += weight * m.LogLikelihood(h.X, h.TX/unit, h.E/unit)
				continue
			}
			ll, d := m.Gradient(h.X, h.TX/unit, h.E/unit)
			sum += weight * ll
			for i := range gradient {
				gradient[i] += weight * d[i] * p[i]
			}
		}
		return sum
	}
}

// starts are where the search begins, times in units of the mean gap.
func starts(kind Kind) [][]float64 {
	points := [][]float64{{1, 1, 1, 3}, {0.3, 0.5, 0.5, 1}, {2, 3, 0.3, 10}}
	if kind == ParetoNBD {
		points = [][]float64{{1, 1, 1, 1}, {0.5, 2, 0.5, 2}, {2, 0.5, 0.2, 10}}
	}
	for _, p := range points {
		for i := range p {
			p[i] = math.Log(p[i])
		}
	}
	for i := range points {
		points[i] = points[i][:len(kind.Names())]
	}
	return points
}

// Fit estimates one kind from histories. At least one customer must have a repeat occasion.
func Fit(kind Kind, histories []History) Estimate {
	return fitGrouped(kind, Group(histories), Summarize(histories))
}

func fitGrouped(kind Kind, all []History, s Summary) Estimate {
	n, unit := float64(s.Customers), s.MeanGap
	if s.Repeats == 0 || unit == 0 {
		return Estimate{Kind: kind, Params: neutral(kind), LogLikelihood: math.NaN(), Status: TooFew, Reason: "nobody has a repeat order"}
	}
	f := likelihood(kind, all, unit, n)
	best := maximize(f, starts(kind))
	e := Estimate{Kind: kind, Params: make([]float64, len(best.theta)), Starts: best.starts, Status: Good}
	// The density of x instants: each has the unit of time in it.
	e.LogLikelihood = n*f(best.theta, nil) - s.Repeats*math.Log(unit)
	deviation, condition := deviations(f, best.theta, n)
	e.Condition = condition
	scale := func(i int) float64 {
		if name := kind.Names()[i]; name == "alpha" || name == "beta" {
			return unit
		}
		return 1
	}
	for i, v := range best.theta {
		e.Params[i] = math.Exp(v) * scale(i)
	}
	if deviation != nil {
		e.Errors = make([]float64, len(deviation))
		for i, d := range deviation {
			e.Errors[i] = d * e.Params[i]
		}
	}
	for i, at := range atBound(best.theta) {
		if at {
			e.Status, e.Reason = Bound, textf("%s runs to %.4g", kind.Names()[i], e.Params[i])
		}
	}
	if e.Status == Good && !best.converged {
		e.Status, e.Reason = NotConverged, "the search has not come to rest"
	}
	return e
}

// neutral are parameters for which there is no evidence.
func neutral(kind Kind) []float64 {
	p := make([]float64, len(kind.Names()))
	for i := range p {
		p[i] = 1
	}
	return p
}
