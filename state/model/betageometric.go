package model

import "math"

// BGNBD are the parameters of the beta-geometric / NBD model (Fader, Hardie & Lee 2005, "Counting your customers the easy
// way"): customers may become inactive after each repeat order, so those without one count as alive for ever.
type BGNBD struct {
	R, Alpha float64 // gamma mixing of the purchase rate: shape, scale in units of time
	A, B     float64 // beta mixing of the dropout chance after each repeat order
}

// betaGeometric is what MBG/NBD and BG/NBD have in common.
type betaGeometric struct {
	r, alpha, a, b float64
	m              float64 // chances to drop out before the first repeat order: 1 in MBG/NBD, 0 in BG/NBD
}

func (m MBGNBD) family() betaGeometric { return betaGeometric{m.R, m.Alpha, m.A, m.B, 1} }
func (m BGNBD) family() betaGeometric  { return betaGeometric{m.R, m.Alpha, m.A, m.B, 0} }

// LogLikelihood is that of Batislam, Denizel & Filiztekin 2007, in the form of Hardie's note 027, which cannot overflow.
func (m MBGNBD) LogLikelihood(x, tx, e float64) float64 { return m.family().logLikelihood(x, tx, e) }

// LogLikelihood is equation 6 of Fader, Hardie & Lee 2005, in the form of Hardie's note 027, which cannot overflow.
func (m BGNBD) LogLikelihood(x, tx, e float64) float64 { return m.family().logLikelihood(x, tx, e) }

func (m betaGeometric) logLikelihood(x, tx, e float64) float64 {
	s, base := m.r+x, m.alpha+tx
	alive, dead := -s*math.Log1p(e/base), math.Inf(-1)
	if m.m+x > 0 {
		dead = math.Log(m.a) - math.Log(m.b+(x+m.m-1))
	}
	return logRising(m.r, x) - m.r*math.Log1p(tx/m.alpha) - x*math.Log(base) +
		logRising(m.b, x+m.m) - logRising(m.a+m.b, x+m.m) + logAddExp(alive, dead)
}

// Alive is the probability of being active (Batislam, Denizel & Filiztekin 2007).
func (m MBGNBD) Alive(x, tx, e float64) float64 { return m.family().alive(x, tx, e) }

// Alive is the probability of being active (Hardie's note 021); 1 if x is 0.
func (m BGNBD) Alive(x, tx, e float64) float64 { return m.family().alive(x, tx, e) }

// never says whether the customer has had no chance to drop out.
func (m betaGeometric) never(x float64) bool { return m.m+x == 0 }

// logOdds is ln((1 - Alive) / Alive); not for never.
func (m betaGeometric) logOdds(x, tx, e float64) float64 {
	return math.Log(m.a/(m.b+(x+m.m-1))) + (m.r+x)*math.Log1p(e/(m.alpha+tx))
}

func (m betaGeometric) alive(x, tx, e float64) float64 {
	if m.never(x) {
		return 1
	}
	return logistic(-m.logOdds(x, tx, e))
}

// NoOrder is the probability of no order in the next h: dead already, or alive and slow. It is the ratio of the
// likelihoods of the history at T+h and at T.
func (m BGNBD) NoOrder(x, tx, e, h float64) float64 {
	f, dead := m.family(), 0.0
	if !f.never(x) {
		dead = logistic(f.logOdds(x, tx, e))
	}
	return dead + (1-dead)*math.Exp(-(m.R+x)*math.Log1p(h/(m.Alpha+tx+e)))
}

// Orders is the expected number of orders (Batislam, Denizel & Filiztekin 2007). Without a bound in h if A <= 1.
func (m MBGNBD) Orders(x, tx, e, h float64) float64 { return m.family().orders(x, tx, e, h) }

// Orders is equation 10 of Fader, Hardie & Lee 2005. Without a bound in h if A <= 1.
func (m BGNBD) Orders(x, tx, e, h float64) float64 { return m.family().orders(x, tx, e, h) }

func (m betaGeometric) orders(x, tx, e, h float64) float64 {
	return m.alive(x, tx, e) * ordersAlive(m.r+x, m.alpha+tx+e, m.a, m.b+x+m.m, h)
}

// NewOrders is the expectation for a customer who has just placed the first order and may have dropped out with it.
func (m MBGNBD) NewOrders(h float64) float64 { return m.family().orders(0, 0, 0, h) }

// NewOrders is equation 9 of Fader, Hardie & Lee 2005.
func (m BGNBD) NewOrders(h float64) float64 { return m.family().orders(0, 0, 0, h) }

// ordersAlive is the expected number of orders within t of a customer alive now, whose rate is Gamma(r, alpha) and whose
// dropout chance p is Beta(a, b): the mean over p of (1 - (1 + p t/alpha)^-r) / p. The closed form with a hypergeometric
// function overflows and has a pole at a = 1. Its Euler transform is a series that does not; where that is long or would
// lose digits, the mean itself is computed.
func ordersAlive(r, alpha, a, b, t float64) float64 {
	if t <= 0 {
		return 0
	}
	if v, ok := ordersSeries(r, alpha, a, b, t); ok {
		return v
	}
	return betaMean(a, b, (r+1)*t/alpha, func(p float64) float64 {
		return -math.Expm1(-r*math.Log1p(p*t/alpha)) / p
	})
}

// ordersSeries is ordersAlive by the Euler-transformed hypergeometric series, if its terms are all positive, fall fast, and
// what is subtracted leaves digits.
func ordersSeries(r, alpha, a, b, t float64) (float64, bool) {
	z := t / (alpha + t)
	below, c := a-1, a+b-1
	up := c - r
	if z > 0.97 || up < 0 {
		return 0, false
	}
	term := up * z
	sum := term
	for j := 1.0; term > 1e-17*sum*(1-z); j++ {
		if j > 1000 {
			return 0, false
		}
		term *= (up + j) * (below + j) / ((c + j) * (j + 1)) * z
		sum += term
	}
	l := math.Log1p(t / alpha)
	whole, part := c*meanLife(below, t/alpha), math.Exp(-below*l)*sum
	return whole - part, whole-part > 0.01*math.Abs(whole)
}

// Residual is the expected number of discounted orders, Alive times the mean of rate/(discount + dropout) over what is
// known of the customer. It has no elementary form.
func (m MBGNBD) Residual(x, tx, e, rate float64) float64 { return m.family().residual(x, tx, e, rate) }

// Residual is the expected number of discounted orders, as for MBGNBD.
func (m BGNBD) Residual(x, tx, e, rate float64) float64 { return m.family().residual(x, tx, e, rate) }

func (m betaGeometric) residual(x, tx, e, rate float64) float64 {
	r, alpha := m.r+x, m.alpha+tx+e
	return m.alive(x, tx, e) * betaMean(m.a, m.b+x+m.m, (r+1)/(rate*alpha), func(p float64) float64 {
		return r / p * scaledE(r+1, rate*alpha/p)
	})
}

// AliveUntil is a closed form.
func (m MBGNBD) AliveUntil(x, tx, p float64) float64 { return m.family().aliveUntil(x, tx, p) }

// AliveUntil is a closed form; +Inf if x is 0.
func (m BGNBD) AliveUntil(x, tx, p float64) float64 { return m.family().aliveUntil(x, tx, p) }

func (m betaGeometric) aliveUntil(x, tx, p float64) float64 {
	if m.never(x) {
		return math.Inf(1)
	}
	odds := math.Log((1-p)/p) - math.Log(m.a/(m.b+(x+m.m-1)))
	return max(0, (m.alpha+tx)*math.Expm1(odds/(m.r+x)))
}

// NoOrderFrom takes about five steps of Newton's method.
func (m MBGNBD) NoOrderFrom(x, tx, h, p float64) float64 { return m.family().noOrderFrom(x, tx, h, p) }

// NoOrderFrom takes about five steps of Newton's method; a closed form if x is 0.
func (m BGNBD) NoOrderFrom(x, tx, h, p float64) float64 { return m.family().noOrderFrom(x, tx, h, p) }

// noOrderFrom solves ln(1 - NoOrder) = ln(1 - p) in u = ln(alpha + T). The left side falls and is concave in u: each of
// its two factors, the chance to be alive and that to order if alive, is. So Newton's method that starts to the right of
// the solution comes down to it and never jumps over. Two closed forms are to the right: the customer stays silent at
// least as likely as one who cannot drop out, and as one who has dropped out.
func (m betaGeometric) noOrderFrom(x, tx, h, p float64) float64 {
	s, base := m.r+x, m.alpha+tx
	start := nbdNoOrderFrom(s, base, h, p)
	if m.never(x) || start == 0 {
		return start
	}
	start = min(start, m.aliveUntil(x, tx, 1-p))
	if start == 0 || math.IsInf(start, 1) {
		return start
	}
	// T is measured from base: growth is (alpha + T) / base.
	goal, odds := math.Log1p(-p), math.Log(m.a/(m.b+(x+m.m-1)))
	growth := math.Log1p(start / base)
	for range 100 {
		share := h / base * math.Exp(-growth) // h / (alpha + T)
		slow := s * math.Log1p(share)
		v := odds + s*growth
		f := -softplus(v) + math.Log(-math.Expm1(-slow)) - goal
		slope := -s * (logistic(v) + share/(1+share)/math.Expm1(slow))
		next := growth - f/slope
		if p < 0.1 && growth-next <= 1e-5*growth {
			// 1 - p has few digits of p: the last step is one in ln NoOrder.
			dead, silent := logistic(v), math.Exp(-slow)
			order := (1 - dead) * -math.Expm1(-slow)
			no := dead + (1-dead)*silent
			growth -= math.Log(no/p) * no / (-slope * order)
			break
		}
		if !(next < growth) || growth-next <= 1e-15*growth {
			break
		}
		growth = next
	}
	return max(0, base*math.Expm1(growth))
}

// softplus is ln(1 + exp(v)).
func softplus(v float64) float64 {
	if v > 0 {
		return v + math.Log1p(math.Exp(-v))
	}
	return math.Log1p(math.Exp(v))
}
