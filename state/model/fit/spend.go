package fit

import (
	"cmp"
	"math"
	"slices"

	"github.com/asiduo/asiduo/state/model"
)

// Spend is what a customer paid: the mean amount, above 0, of n >= 1 occasions.
type Spend struct {
	N, Mean float64
}

// Spending is a fitted model of spending.
type Spending struct {
	Model         model.GammaGamma
	Errors        []float64 // standard errors of P, Q, Gamma; nil where the likelihood is flat
	LogLikelihood float64
	Customers     int
	Correlation   float64 // of n and the mean amount; the model assumes that there is none
	Status        Status
	Reason        string
}

// farCorrelated is the correlation of frequency and amounts from which the assumption of independence is in doubt.
const farCorrelated = 0.3

// FitSpending estimates the gamma-gamma model. Q is kept above 1, where a mean amount exists.
func FitSpending(spends []Spend) Spending {
	all := slices.Clone(spends)
	slices.SortFunc(all, func(a, b Spend) int { return cmp.Or(cmp.Compare(a.N, b.N), cmp.Compare(a.Mean, b.Mean)) })
	s := Spending{Customers: len(all), Correlation: correlation(all), Status: Good}
	if len(all) < 2 {
		s.Status, s.Reason = TooFew, textf("%d customers with amounts", len(all))
		return s
	}
	var unit float64
	for _, v := range all {
		unit += v.Mean / float64(len(all))
	}
	f := func(theta, gradient []float64) float64 {
		g := spendingOf(theta, 1)
		clear(gradient)
		var sum float64
		for _, v := range all {
			ll, d := g.Gradient(v.N, v.Mean/unit)
			sum += ll / float64(len(all))
			if gradient != nil {
				for i, scale := range [3]float64{g.P, g.Q - 1, g.Gamma} {
					gradient[i] += d[i] * scale / float64(len(all))
				}
			}
		}
		return sum
	}
	best := maximize(f, [][]float64{{1, 1, 0}, {2, 0, 1}, {0, 1, 1}})
	s.Model = spendingOf(best.theta, unit)
	s.LogLikelihood = float64(len(all)) * (f(best.theta, nil) - math.Log(unit))
	if d, _ := deviations(f, best.theta, float64(len(all))); d != nil {
		s.Errors = []float64{d[0] * s.Model.P, d[1] * (s.Model.Q - 1), d[2] * s.Model.Gamma}
	}
	switch at := atBound(best.theta); {
	case at[0] || at[1] || at[2]:
		s.Status, s.Reason = Bound, textf("p %.4g, q %.4g, gamma %.4g: a parameter runs away", s.Model.P, s.Model.Q, s.Model.Gamma)
	case !best.converged:
		s.Status, s.Reason = NotConverged, "the search has not come to rest"
	case len(all) < MinRepeats:
		s.Status, s.Reason = TooFew, textf("%d customers with amounts, at least %d are needed", len(all), MinRepeats)
	}
	if math.Abs(s.Correlation) > farCorrelated && s.Status == Good {
		s.Reason = textf("amounts and frequency correlate by %.2f; the model assumes that they do not", s.Correlation)
	}
	return s
}

func spendingOf(theta []float64, unit float64) model.GammaGamma {
	return model.GammaGamma{P: math.Exp(theta[0]), Q: 1 + math.Exp(theta[1]), Gamma: math.Exp(theta[2]) * unit}
}

// correlation of frequency and mean amount; 0 if either does not vary.
func correlation(all []Spend) float64 {
	var n, m float64
	for _, v := range all {
		n += v.N / float64(len(all))
		m += v.Mean / float64(len(all))
	}
	var nn, mm, nm float64
	for _, v := range all {
		nn += (v.N - n) * (v.N - n)
		mm += (v.Mean - m) * (v.Mean - m)
		nm += (v.N - n) * (v.Mean - m)
	}
	if nn == 0 || mm == 0 {
		return 0
	}
	return nm / math.Sqrt(nn*mm)
}
