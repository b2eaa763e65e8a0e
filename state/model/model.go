// Package model is the mathematics of repeat buying as functions of numbers. It knows no customer, no clock and no
// storage.
//
// A customer's history is x, the number of repeat occasions (distinct days with orders, the first not counted); tx, the
// time from the first occasion to the last, 0 if x is 0; and e, the time of silence since the last. The literature has
// T = tx + e. The unit of time is free, the same for histories, horizons and parameters; asiduo uses days. A rate of
// discount is continuous, per unit of time.
//
// The domain in which every function is finite and, where it says so, monotone: shapes R, A, B, S, P, Q from 1e-4 to
// 1e6, scales Alpha, Beta, Gamma from 1e-4 to 1e7, x from 0 to 1e5, times from 0 to 1e6, rates of discount from 1e-7 to
// 10, probabilities strictly between 0 and 1. Nothing is checked; outside the domain results may be NaN.
package model

import "math"

// IsShape says whether a shape lies in the domain.
func IsShape(v float64) bool { return v >= 1e-4 && v <= 1e6 }

// IsScale is IsShape for a scale.
func IsScale(v float64) bool { return v >= 1e-4 && v <= 1e7 }

// Model is a model of repeat buying. Its functions do not allocate. Parameters are the fields of the types below, scales in units of time.
//
// In silence, as e grows with x and tx fixed, Alive, Orders and Residual never rise and NoOrder never falls: so each
// crosses a bound once, and AliveUntil and NoOrderFrom say when.
type Model interface {
	// LogLikelihood is the logarithm of the density of a history, in units of 1/time^x.
	LogLikelihood(x, tx, e float64) float64
	// Gradient is the log likelihood and its derivatives by the parameters, in the order of the fields.
	Gradient(x, tx, e float64) (float64, [4]float64)
	// Alive is the probability that the customer has not become inactive for ever. For the risk that he stays away
	// use NoOrder: BG/NBD holds everybody without a repeat order for alive.
	Alive(x, tx, e float64) float64
	// NoOrder is the probability that no order comes in the next h > 0 units of time.
	NoOrder(x, tx, e, h float64) float64
	// Orders is the expected number of orders in the next h >= 0 units of time.
	Orders(x, tx, e, h float64) float64
	// NewOrders is the expected number of repeat orders of a new customer in the h >= 0 units after the first order.
	NewOrders(h float64) float64
	// Residual is the expected number of orders from now on, each discounted with the continuous rate > 0 (DERT).
	Residual(x, tx, e, rate float64) float64
	// AliveUntil is the silence e at which Alive has fallen to p; 0 if it is not above p right after the order, +Inf if
	// that never happens.
	AliveUntil(x, tx, p float64) float64
	// NoOrderFrom is the silence e at which NoOrder over h > 0 has risen to p; 0 if it is there right after the order,
	// +Inf if that is beyond every number.
	NoOrderFrom(x, tx, h, p float64) float64
}

// MBGNBD are the parameters of the modified beta-geometric / NBD model (Batislam, Denizel, Filiztekin 2007; also
// CBG/NBD, Hoppe & Wagner 2007). All are positive; Alpha is in days.
type MBGNBD struct {
	R, Alpha float64 // gamma mixing of the purchase rate: shape, scale
	A, B     float64 // beta mixing of the dropout chance after each purchase, the first included
}

// NoOrder is the probability that no order comes in the next h days, for a customer with x repeat occasions, the last
// of them tx days after the first, who has been silent for e days: dead already, or alive and slow.
//
// It never falls as e grows, and lies in [0, 1] for finite x, tx, e, h >= 0. Products are rounded explicitly so that
// no platform fuses them: every machine gives the same float64.
func (m MBGNBD) NoOrder(x, tx, e, h float64) float64 {
	s := m.R + x
	odds := math.Log(m.A) - math.Log(m.B+x) + float64(s*math.Log1p(e/(m.Alpha+tx)))
	dead := 1 / (1 + math.Exp(-odds))
	silent := math.Exp(-float64(s * math.Log1p(h/(m.Alpha+tx+e))))
	return dead + float64((1-dead)*silent)
}

// Overdue is the chance that the next gap between two occasions would be over after e silent days, for a customer who still
// buys: gaps are exponential, their rate is gamma distributed as x repeat occasions over tx days leave it, so that gaps follow
// a Lomax distribution. It lies in [0, 1] and never falls as e grows.
func (m MBGNBD) Overdue(x, tx, e float64) float64 { return overdue(m.R+x, m.Alpha+tx, e) }

func overdue(shape, scale, e float64) float64 {
	return -math.Expm1(-float64(shape * math.Log1p(e/scale)))
}

// Rhythm is the heuristic for shops without a fitted model: a customer's own gap between occasions, shrunk to the
// shop's, and a Weibull-like chance of silence that reaches one half when the silence is twice the gap.
type Rhythm struct {
	ShopGap float64 // typical days between two orders in this shop, positive
}

// Silence is the score in [0, 1) of e silent days after x repeat occasions over tx days. It never falls as e grows.
func (m Rhythm) Silence(x, tx, e float64) float64 {
	gap := (float64(2*m.ShopGap) + tx) / (2 + x)
	q := e / gap / 2
	return 1 - math.Exp(-float64(math.Ln2*float64(q*q)))
}

// Overdue is that of MBGNBD where two gaps of the shop are all that is known of a customer before the first.
func (m Rhythm) Overdue(x, tx, e float64) float64 { return overdue(2+x, float64(2*m.ShopGap)+tx, e) }
