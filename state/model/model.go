// Package model is the mathematics of repeat buying as functions of numbers. It knows no customer, no clock and no
// storage; times are in days.
package model

import "math"

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
