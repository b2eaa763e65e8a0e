package model

import "math"

// Value is what a customer will bring in: the expected margin within a horizon, discounted (Fader, Hardie & Lee 2005, RFM
// and CLV, with the sum over periods in place of the integral). What was earned already is not in it.
type Value struct {
	Spend   GammaGamma // of what is paid on a day with orders, the first included
	Horizon float64    // days
	Rate    float64    // discount in a year: .1 is 10 %
	Margin  float64    // of revenue
}

const year = 365.25

// Alive is the value of a customer who is alive, with x repeat orders, the last tx days after the first and e days ago, who
// paid mean on each of the x + 1 days; in the unit of mean and Spend.Gamma. It is a sum over months, each discounted to its
// middle; times MBGNBD.Alive it is the value as far as is known.
func (v *Value) Alive(m MBGNBD, x, tx, e, mean float64) float64 {
	const month = year / 12
	var sum, before float64
	for from := 0.0; from < v.Horizon; from += month {
		to := min(from+month, v.Horizon)
		orders := ordersAlive(m.R+x, m.Alpha+tx+e, m.A, m.B+x+1, to)
		sum += float64((orders - before) * math.Exp(-math.Log1p(v.Rate)*(from+to)/(2*year)))
		before = orders
	}
	return v.Margin * v.Spend.Spend(x+1, mean) * sum
}
