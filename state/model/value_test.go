package model

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// The value is the integral over the horizon of discounted expected orders, times margin and expected amount, up to what
// months in place of instants cost; more time, more margin or less discount never make it smaller.
func TestValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string, lo, hi float64) float64 { return rapid.Float64Range(lo, hi).Draw(t, name) }
		m := MBGNBD{draw("r", 0.1, 5), draw("alpha", 1, 200), draw("a", 0.1, 5), draw("b", 0.1, 10)}
		x := float64(rapid.IntRange(0, 50).Draw(t, "x"))
		tx, e := 0.0, draw("e", 0, 1000)
		if x > 0 {
			tx = draw("tx", 1, 1000)
		}
		v := Value{GammaGamma{draw("p", 0.5, 10), draw("q", 1.5, 10), draw("gamma", 1, 100)}, draw("horizon", 1, 2000), draw("rate", 0, 1), draw("margin", 0.01, 1)}
		mean := draw("mean", 0, 1000)
		got := v.Alive(m, x, tx, e, mean)

		// Integrated by parts, so that it needs orders alone: e^(-d h) Y(h) + d int e^(-d u) Y(u) du, by Simpson's rule.
		alive := m.Alive(x, tx, e)
		orders := func(u float64) float64 { return m.Orders(x, tx, e, u) / alive }
		d, h := math.Log1p(v.Rate)/365.25, v.Horizon
		const steps = 2000
		area := 0.0
		for k := range steps + 1 {
			w := 2.0 + 2*float64(k%2)
			if k == 0 || k == steps {
				w = 1
			}
			s := float64(k) / steps
			u := h * s * s * s // orders rise steeply at first
			area += w * math.Exp(-d*u) * orders(u) * 3 * h * s * s / steps / 3
		}
		want := v.Margin * v.Spend.Spend(x+1, mean) * (math.Exp(-d*h)*orders(h) + d*area)
		if math.Abs(got-want) > 1e-4*want {
			t.Fatalf("value %v, integral %v", got, want)
		}
		for _, more := range []Value{{v.Spend, v.Horizon * 1.1, v.Rate, v.Margin}, {v.Spend, v.Horizon, v.Rate / 2, v.Margin}, {v.Spend, v.Horizon, v.Rate, v.Margin * 1.5}} {
			if other := more.Alive(m, x, tx, e, mean); other < got*(1-1e-4) {
				t.Fatalf("%+v gives %v, %+v %v", v, got, more, other)
			}
		}
	})
}

func BenchmarkValue(b *testing.B) {
	v, m := Value{GammaGamma{6.25, 3.74, 15.44}, 3 * 365.25, 0.1, 1}, MBGNBD{0.525, 43.281, 0.891, 1.614}
	for b.Loop() {
		v.Alive(m, 3, 120, 60, 30)
	}
}
