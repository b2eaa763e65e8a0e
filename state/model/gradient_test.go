package model

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestGradient holds derivatives against central differences, at random parameters and histories.
func TestGradient(t *testing.T) {
	r := random{rand.New(rand.NewPCG(3, 4))}
	for range 2000 {
		p := [4]float64{r.log(0.05, 20), r.log(1, 300), r.log(0.05, 20), r.log(0.5, 300)}
		x, tx, e := 0.0, 0.0, r.log(0.1, 1000)
		if r.IntN(3) > 0 {
			x, tx = float64(1+r.IntN(60)), r.log(1, 1000)
		}
		for _, prefix := range []string{"mbg", "bg", "pnbd", "nbd"} {
			k := 4
			if prefix == "nbd" {
				k = 2
			}
			ll, d := modelOf(prefix, p[:k]).Gradient(x, tx, e)
			if want := modelOf(prefix, p[:k]).LogLikelihood(x, tx, e); math.Abs(ll-want) > 1e-12*(1e-3+math.Abs(want)) {
				t.Errorf("%s %v: %v, want %v", prefix, p, ll, want)
			}
			for i := range k {
				at := func(step float64) float64 {
					q := p
					q[i] *= 1 + step
					return modelOf(prefix, q[:k]).LogLikelihood(x, tx, e)
				}
				const h = 1e-5
				want := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h * p[i])
				if math.Abs(d[i]-want)*p[i] > 1e-8*(1+math.Abs(ll)) {
					t.Errorf("%s %v x=%v tx=%v e=%v: derivative %d is %v, want %v", prefix, p, x, tx, e, i, d[i], want)
				}
			}
		}
		checkSpendGradient(t, GammaGamma{p[0], 1 + p[2], p[1]}, x+1, r.log(1, 1000))
	}
}

func checkSpendGradient(t *testing.T, g GammaGamma, n, mean float64) {
	t.Helper()
	ll, d := g.Gradient(n, mean)
	for i, p := range []float64{g.P, g.Q, g.Gamma} {
		const h = 1e-5
		at := func(step float64) float64 {
			q := [3]float64{g.P, g.Q, g.Gamma}
			q[i] *= 1 + step
			return GammaGamma{q[0], q[1], q[2]}.LogLikelihood(n, mean)
		}
		want := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h * p)
		if math.Abs(d[i]-want)*p > 1e-8*(1+math.Abs(ll)) {
			t.Errorf("%+v n=%v mean=%v: derivative %d is %v, want %v", g, n, mean, i, d[i], want)
		}
	}
}
