package model

import "math"

// NBD are the parameters of the negative binomial model of buying (Ehrenberg 1959): nobody ever drops out. It is the null
// model that every other has to beat.
type NBD struct {
	R, Alpha float64 // gamma mixing of the purchase rate: shape, scale in units of time
}

// LogLikelihood is in the form that knows when the orders came, so that it can be compared with the other models'.
func (m NBD) LogLikelihood(x, tx, e float64) float64 {
	t := tx + e
	return logRising(m.R, x) - m.R*math.Log1p(t/m.Alpha) - x*math.Log(m.Alpha+t)
}

// Alive is 1.
func (m NBD) Alive(_, _, _ float64) float64 { return 1 }

// NoOrder is the probability of no order in the next h.
func (m NBD) NoOrder(x, tx, e, h float64) float64 {
	return math.Exp(-(m.R + x) * math.Log1p(h/(m.Alpha+tx+e)))
}

// Orders is the expected number of orders in the next h.
func (m NBD) Orders(x, tx, e, h float64) float64 { return (m.R + x) * (h / (m.Alpha + tx + e)) }

// NewOrders is the expected number of repeat orders of a new customer.
func (m NBD) NewOrders(h float64) float64 { return m.R * (h / m.Alpha) }

// Residual is the expected number of discounted orders.
func (m NBD) Residual(x, tx, e, rate float64) float64 { return (m.R + x) / (m.Alpha + tx + e) / rate }

// AliveUntil is +Inf.
func (m NBD) AliveUntil(_, _, _ float64) float64 { return math.Inf(1) }

// NoOrderFrom is a closed form.
func (m NBD) NoOrderFrom(x, tx, h, p float64) float64 {
	return nbdNoOrderFrom(m.R+x, m.Alpha+tx, h, p)
}

// nbdNoOrderFrom is the silence after which a customer whose rate was Gamma(s, base) at the last order orders nothing in
// the next h with probability p.
func nbdNoOrderFrom(s, base, h, p float64) float64 {
	return max(0, h/math.Expm1(-math.Log(p)/s)-base)
}
