package model

import "math"

// ParetoNBD are the parameters of the Pareto/NBD model (Schmittlein, Morrison & Colombo 1987; Fader & Hardie note 008):
// customers drop out at a rate of their own, at any time.
type ParetoNBD struct {
	R, Alpha float64 // gamma mixing of the purchase rate: shape, scale in units of time
	S, Beta  float64 // gamma mixing of the dropout rate: shape, scale in units of time
}

// silence is the integral of ((a+u)/a)^-r ((b+u)/b)^-(s+1) over u from 0 to e, divided by min(a, b): the chance to drop
// out within e and to order nothing before, up to factors. The integrand is positive, so nothing cancels, unlike in the
// published difference of two hypergeometric functions. Gauss-Legendre panels in y = ln(1 + u/min(a, b)).
func silence(r, a, s, b, e float64) float64 {
	base := min(a, b)
	sum := 0.0
	for y, end := 0.0, math.Log1p(e/base); y < end; {
		u := base * math.Expm1(y)
		rate := r*(base+u)/(a+u) + (s+1)*(base+u)/(b+u) + 1
		half := min(end-y, 6/rate, 2) / 2
		panel := 0.0
		for i, g := range gaussX {
			panel += gaussW[i] * (silent(r, a, s, b, base, y+half*(1-g)) + silent(r, a, s, b, base, y+half*(1+g)))
		}
		panel *= half
		sum += panel
		y += 2 * half
		if panel < 1e-18*sum {
			break
		}
	}
	return sum
}

// silent is the integrand of silence.
func silent(r, a, s, b, base, y float64) float64 {
	u := base * math.Expm1(y)
	return math.Exp(y - r*math.Log1p(u/a) - (s+1)*math.Log1p(u/b))
}

// dropout is the logarithm of s times the integral of silence, over b: ln of the chance to have dropped out in the
// silence, relative to the density of the last order; -Inf if there was no silence.
func (m ParetoNBD) dropout(x, tx, e float64) float64 {
	a, b := m.Alpha+tx, m.Beta+tx
	return math.Log(m.S*min(a, b)/b) + math.Log(silence(m.R+x, a, m.S, b, e))
}

// LogLikelihood is that of Schmittlein, Morrison & Colombo 1987, with the integral in place of its closed form.
func (m ParetoNBD) LogLikelihood(x, tx, e float64) float64 {
	a, b := m.Alpha+tx, m.Beta+tx
	alive := -(m.R+x)*math.Log1p(e/a) - m.S*math.Log1p(e/b)
	return logRising(m.R, x) - m.R*math.Log1p(tx/m.Alpha) - m.S*math.Log1p(tx/m.Beta) - x*math.Log(a) +
		logAddExp(alive, m.dropout(x, tx, e))
}

// logOdds is ln((1 - Alive) / Alive).
func (m ParetoNBD) logOdds(x, tx, e float64) float64 {
	return m.dropout(x, tx, e) + (m.R+x)*math.Log1p(e/(m.Alpha+tx)) + m.S*math.Log1p(e/(m.Beta+tx))
}

// Alive is the probability of being active (Schmittlein, Morrison & Colombo 1987).
func (m ParetoNBD) Alive(x, tx, e float64) float64 { return logistic(-m.logOdds(x, tx, e)) }

// NoOrder is the probability of no order in the next h: dropped out already, or alive and then what it is for a new
// customer whose scales have grown by T.
func (m ParetoNBD) NoOrder(x, tx, e, h float64) float64 {
	alive := m.Alive(x, tx, e)
	return 1 - alive + alive*m.noOrderAlive(x, tx+e, h)
}

// noOrderAlive is NoOrder of a customer alive at the age t.
func (m ParetoNBD) noOrderAlive(x, t, h float64) float64 {
	r, a, b := m.R+x, m.Alpha+t, m.Beta+t
	return min(1, math.Exp(-r*math.Log1p(h/a)-m.S*math.Log1p(h/b))+m.S*min(a, b)/b*silence(r, a, m.S, b, h))
}

// Orders is equation 5 of Fader & Hardie's note 008. Without a bound in h if S <= 1.
func (m ParetoNBD) Orders(x, tx, e, h float64) float64 {
	t := tx + e
	return m.Alive(x, tx, e) * (m.R + x) * ((m.Beta + t) / (m.Alpha + t)) * meanLife(m.S-1, h/(m.Beta+t))
}

// NewOrders is the expected number of repeat orders of a new customer (Schmittlein, Morrison & Colombo 1987).
func (m ParetoNBD) NewOrders(h float64) float64 { return m.Orders(0, 0, 0, h) }

// Residual is equation 2 of Fader, Hardie & Lee 2005, "RFM and CLV", in a form without overflow.
func (m ParetoNBD) Residual(x, tx, e, rate float64) float64 {
	t := tx + e
	return m.Alive(x, tx, e) * (m.R + x) * ((m.Beta + t) / (m.Alpha + t)) * scaledE(m.S, rate*(m.Beta+t))
}

// AliveUntil lies between two closed forms, those of models with both scales equal to the smaller and to the greater.
func (m ParetoNBD) AliveUntil(x, tx, p float64) float64 {
	a, b := m.Alpha+tx, m.Beta+tx
	n := m.R + m.S + x
	goal := math.Log((1 - p) / p)
	grown := math.Log1p(n/m.S*(1-p)/p) / n
	return m.cross(min(a, b), min(a, b)*math.Expm1(grown), max(a, b)*math.Expm1(grown), func(e float64) (f, slope float64) {
		odds := m.logOdds(x, tx, e)
		// d/de of the odds: what is dead stays dead, what is alive orders or drops out
		return odds - goal, (m.R+x)/(a+e) + m.S/(b+e) + m.S/(b+e)*math.Exp(-odds)
	})
}

// NoOrderFrom is Newton's method between 0 and the silence after which the customer has dropped out with probability p.
func (m ParetoNBD) NoOrderFrom(x, tx, h, p float64) float64 {
	if m.NoOrder(x, tx, 0, h) >= p {
		return 0
	}
	goal, s := math.Log(p), m.R+x
	end := m.AliveUntil(x, tx, 1-p)
	return m.cross(min(m.Alpha, m.Beta)+tx, 0, end, func(e float64) (f, slope float64) {
		// NoOrder is the ratio of the likelihoods at T+h and at T; each falls with its hazard.
		f = math.Log(m.NoOrder(x, tx, e, h)) - goal
		return f, s * (m.Alive(x, tx, e)/(m.Alpha+tx+e) - m.Alive(x, tx, e+h)/(m.Alpha+tx+e+h))
	})
}

// cross finds where a rising f is 0 between lo and hi: Newton's method in ln(base + e), kept inside the bracket by
// bisection.
func (m ParetoNBD) cross(base, lo, hi float64, f func(e float64) (f, slope float64)) float64 {
	if math.IsInf(lo, 1) {
		return lo
	}
	const end = 650 // beyond it there is nothing but the overflow
	l, r := math.Log1p(lo/base), min(math.Log1p(hi/base), end)
	u := (l + r) / 2
	for range 200 {
		e := base * math.Expm1(u)
		v, slope := f(e)
		if v < 0 {
			l = u
		} else {
			r = u
		}
		next := u - v/(slope*(base+e))
		if !(next > l && next < r) {
			next = (l + r) / 2
		}
		if math.Abs(next-u) <= 1e-14*u || next == l || next == r {
			u = next
			break
		}
		u = next
	}
	if u > end-1 {
		return math.Inf(1)
	}
	return base * math.Expm1(u)
}
