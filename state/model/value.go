package model

import "math"

// Value is what a customer will bring in: the expected margin within a horizon, discounted continuously (Fader, Hardie & Lee 2005,
// RFM and CLV, up to a horizon). What was earned already is not in it.
type Value struct {
	Spend   GammaGamma // of what is paid on a day with orders, the first included
	Horizon float64    // days
	Rate    float64    // discount in a year: .1 is 10 %
	Margin  float64    // of revenue
}

const year = 365.25

// Alive is the value of a customer who is alive, with x repeat orders, the last tx days after the first and e days ago, who
// paid mean on each of the x + 1 days; in the unit of mean and Spend.Gamma. Times MBGNBD.Alive it is the value as far as is known.
//
// The discounted orders are the integral of e^(-d u) dY(u) with Y(u) the orders expected within u. By parts it needs Y alone, at few
// points: Y rises steeply at first, so they are taken evenly in the root of u, which is right to 1e-4.
func (v *Value) Alive(m MBGNBD, x, tx, e, mean float64) float64 {
	d, h := math.Log1p(v.Rate)/year, v.Horizon
	discounted := func(u float64) float64 {
		return float64(math.Exp(-d*u) * ordersAlive(m.R+x, m.Alpha+tx+e, m.A, m.B+x+1, u))
	}
	orders := discounted(h)
	for i, x := range gaussX {
		for _, at := range [2]float64{(1 - x) / 2, (1 + x) / 2} {
			orders += float64(d * h * at * gaussW[i] * discounted(h*at*at))
		}
	}
	return v.Margin * v.Spend.Spend(x+1, mean) * orders
}
