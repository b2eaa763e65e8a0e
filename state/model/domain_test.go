package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// point is a place in the domain that the package states.
type point struct {
	x, tx, e, h, rate, p float64
}

// random draws from the domain: log-uniform, with the ends and what is common more often.
type random struct{ *rand.Rand }

func (r random) log(lo, hi float64) float64 {
	switch r.IntN(20) {
	case 0:
		return lo
	case 1:
		return hi
	}
	return math.Exp(math.Log(lo) + r.Float64()*math.Log(hi/lo))
}

func (r random) shape() float64 { return r.log(1e-4, 1e6) }
func (r random) scale() float64 { return r.log(1e-4, 1e7) }

func (r random) time() float64 {
	if r.IntN(4) == 0 {
		return 0
	}
	return r.log(1e-3, 1e6)
}

func (r random) point() point {
	p := point{e: r.time(), h: r.log(1e-3, 1e6), rate: r.log(1e-7, 10), p: r.Float64()}
	if r.IntN(3) > 0 {
		p.x, p.tx = math.Floor(r.log(1, 1e5)), r.log(1e-3, 1e6)
	}
	switch r.IntN(10) {
	case 0:
		p.p = 1e-9
	case 1:
		p.p = 1 - 1e-9
	}
	p.p = min(max(p.p, 1e-9), 1-1e-9)
	return p
}

func (r random) models() []Model {
	return []Model{
		MBGNBD{r.shape(), r.scale(), r.shape(), r.shape()}, BGNBD{r.shape(), r.scale(), r.shape(), r.shape()},
		ParetoNBD{r.shape(), r.scale(), r.shape(), r.scale()}, NBD{r.shape(), r.scale()},
	}
}

// checkPoint says what is wrong with a model at a point, and the empty text if nothing is.
func checkPoint(m Model, a point, later float64) string {
	const slack = 1e-11 // relative; what is left of 16 digits where exponents are as large as 1e7
	b := a
	b.e += later
	finite := func(v, lo, hi float64) bool { return v >= lo && v <= hi && !math.IsInf(v, 0) }
	falls := func(v, w float64) bool { return w <= v*(1+slack)+1e-300 }
	ll := m.LogLikelihood(a.x, a.tx, a.e)
	alive, aliveLater := m.Alive(a.x, a.tx, a.e), m.Alive(b.x, b.tx, b.e)
	no, noLater := m.NoOrder(a.x, a.tx, a.e, a.h), m.NoOrder(b.x, b.tx, b.e, b.h)
	orders, ordersLater := m.Orders(a.x, a.tx, a.e, a.h), m.Orders(b.x, b.tx, b.e, b.h)
	residual, residualLater := m.Residual(a.x, a.tx, a.e, a.rate), m.Residual(b.x, b.tx, b.e, b.rate)
	_, gradient := m.Gradient(a.x, a.tx, a.e)
	for _, v := range gradient {
		if !finite(v, math.Inf(-1), math.Inf(1)) {
			return fmt.Sprintf("gradient %v", gradient)
		}
	}
	if o, is := m.(interface {
		Overdue(x, tx, e float64) float64
	}); is && (!finite(o.Overdue(a.x, a.tx, a.e), 0, 1) || !falls(o.Overdue(b.x, b.tx, b.e), o.Overdue(a.x, a.tx, a.e))) {
		return fmt.Sprintf("overdue %v, later %v", o.Overdue(a.x, a.tx, a.e), o.Overdue(b.x, b.tx, b.e))
	}
	until, from := m.AliveUntil(a.x, a.tx, a.p), m.NoOrderFrom(a.x, a.tx, a.h, a.p)
	switch {
	case !finite(ll, math.Inf(-1), math.Inf(1)):
		return fmt.Sprintf("log likelihood %v", ll)
	case !finite(alive, 0, 1) || !falls(alive, aliveLater) || !finite(m.Alive(a.x, a.tx, 0), alive-slack, 1):
		return fmt.Sprintf("alive %v, later %v", alive, aliveLater)
	case !finite(no, 0, 1) || !falls(noLater, no):
		return fmt.Sprintf("no order %v, later %v", no, noLater)
	case !falls(no, m.NoOrder(a.x, a.tx, a.e, a.h*1.5)):
		return fmt.Sprintf("no order %v, in a longer time %v", no, m.NoOrder(a.x, a.tx, a.e, a.h*1.5))
	case !finite(orders, 0, math.MaxFloat64) || !falls(orders, ordersLater) || !falls(m.Orders(a.x, a.tx, a.e, a.h*1.5), orders):
		return fmt.Sprintf("orders %v, later %v, in a longer time %v", orders, ordersLater, m.Orders(a.x, a.tx, a.e, a.h*1.5))
	case orders < (1-no)*(1-1e-9)-1e-14:
		return fmt.Sprintf("orders %v, but the chance of one is %v", orders, 1-no)
	case !finite(residual, 0, math.MaxFloat64) || !falls(residual, residualLater):
		return fmt.Sprintf("residual %v, later %v", residual, residualLater)
	case !falls(residual, m.Residual(a.x, a.tx, a.e, a.rate*1.5)):
		return fmt.Sprintf("residual %v, more discounted %v", residual, m.Residual(a.x, a.tx, a.e, a.rate*1.5))
	case !finite(m.NewOrders(a.h), 0, math.MaxFloat64):
		return fmt.Sprintf("new orders %v", m.NewOrders(a.h))
	case !(until >= 0) || !crosses(-a.p, until, func(e float64) float64 { return -m.Alive(a.x, a.tx, e) }):
		return fmt.Sprintf("alive until %v: is %v", until, m.Alive(a.x, a.tx, until))
	case !(from >= 0) || !crosses(a.p, from, func(e float64) float64 { return m.NoOrder(a.x, a.tx, e, a.h) }):
		return fmt.Sprintf("no order from %v: is %v", from, m.NoOrder(a.x, a.tx, from, a.h))
	}
	return ""
}

// crosses says whether a function that never falls reaches p at e, as well as the digits of e and of it can tell.
func crosses(p, e float64, f func(e float64) float64) bool {
	const slack = 1e-9
	reached := math.IsInf(e, 1) || f(e*(1+slack)+1e-12) >= p-slack*math.Abs(p)
	return reached && (e == 0 || f(min(e, 1e270)*(1-slack)) <= p+slack*math.Abs(p))
}

// TestDomain draws points of the whole stated domain, ASIDUO_POINTS of them: every function of every model is finite, a
// probability where it should be one, monotone in silence, in the horizon and in the discount; crossings cross.
func TestDomain(t *testing.T) {
	n := 500
	if s := os.Getenv("ASIDUO_POINTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	r := random{rand.New(rand.NewPCG(uint64(n), 1))}
	bad := 0
	for range n {
		a, later := r.point(), r.log(1e-3, 1e6)
		for _, m := range r.models() {
			if fault := checkPoint(m, a, later); fault != "" {
				t.Errorf("%T%+v %+v later %v: %s", m, m, a, later, fault)
				if bad++; bad > 10 {
					t.Fatal("and so on")
				}
			}
		}
		g := GammaGamma{r.shape(), 1 + r.shape(), r.scale()}
		x, z := math.Floor(r.log(1, 1e5)), r.log(1e-3, 1e9)
		if l, s, s0 := g.LogLikelihood(x, z), g.Spend(x, z), g.Spend(0, 0); math.IsNaN(l) || math.IsInf(l, 0) || !(s > 0) || !(s0 > 0) ||
			!(g.Spend(x, 1.5*z) >= s) {
			t.Errorf("%+v %v %v: %v %v %v", g, x, z, l, s, s0)
		}
	}
}
