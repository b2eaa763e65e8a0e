package holdout

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
)

// live plays customers as the model describes them: orders come at a rate of their own until they leave, after an order or at once.
func live(r *rand.Rand, m model.MBGNBD, day, end float64) (orders []float64) {
	gamma := func(shape, scale float64) (v float64) { // of a whole shape
		for range int(shape) {
			v -= math.Log(r.Float64()) / scale
		}
		return v
	}
	x, y := gamma(m.A, 1), gamma(m.B, 1)
	rate, leaves := gamma(m.R, m.Alpha), x/(x+y)
	for at := day; ; {
		orders = append(orders, at)
		if r.Float64() < leaves {
			return orders
		}
		if at -= math.Log(r.Float64()) / rate; at > end {
			return orders
		}
	}
}

// drifted counts customers of one world by the model of another, between the days 200 and 260.
func drifted(world, by model.MBGNBD) *Drift {
	const cut, end = 200, 260
	r := rand.New(rand.NewPCG(1, 2))
	d := NewDrift(by, end-cut)
	for range 40_000 {
		orders := live(r, world, 200*r.Float64(), end)
		h, later := fit.History{X: -1, N: 1}, 0
		for _, at := range orders {
			if at > cut {
				later++
				continue
			}
			h.X, h.TX, h.E = h.X+1, at-orders[0], cut-at
		}
		d.Add(h, later, later > 0)
		d.Before(by.NoOrder(h.X, h.TX, h.E, 90))
		d.After(by.NoOrder(h.X, h.TX, h.E+60*indicator(later == 0), 90))
	}
	d.Close()
	return d
}

func TestDrift(t *testing.T) {
	shop := model.MBGNBD{R: 1, Alpha: 30, A: 1, B: 3}
	same := drifted(shop, shop)
	if math.Abs(same.Orders.Ratio-1) > .02 || math.Abs(same.Buyers.Ratio-1) > .02 {
		t.Errorf("customers as the model has them: %+v %+v", same.Orders, same.Buyers)
	}
	var orders, came float64
	var customers int64
	for _, c := range same.ByOrders {
		orders, came, customers = orders+c.Expected, came+c.Came, customers+c.Customers
		if math.Abs(c.Ratio-1) > .06 {
			t.Errorf("%s: %+v", c.Of, c)
		}
	}
	if math.Abs(orders-same.Orders.Expected) > 1e-6 || came != same.Orders.Came || customers != 40_000 {
		t.Errorf("the classes have %v of %v orders, %v of %v, %d customers", orders, same.Orders.Expected, came, same.Orders.Came, customers)
	}
	slow := drifted(model.MBGNBD{R: 1, Alpha: 60, A: 1, B: 3}, shop)
	if slow.Orders.Ratio > .9 {
		t.Errorf("customers who order half as often: %+v", slow.Orders)
	}
	for _, d := range []*Drift{same, slow} {
		var before, after, sum float64
		for i, p := range d.Scores {
			before, after = before+p.Before, after+p.After
			sum += (p.After - p.Before) * math.Log((p.After+1e-9)/(p.Before+1e-9))
			if i > 0 && p.From != d.Scores[i-1].To {
				t.Errorf("a gap before %+v", p)
			}
		}
		if math.Abs(before-1) > 1e-9 || math.Abs(after-1) > 1e-9 || math.Abs(sum-*d.Stable) > .05*sum+1e-3 {
			t.Errorf("shares sum to %v and %v, PSI %v, by hand %v", before, after, *d.Stable, sum)
		}
	}
}

// TestStable: the index is 0 for the same scores, known for known shares, and none without scores.
func TestStable(t *testing.T) {
	of := func(after func(i int) float64) *Drift {
		d := NewDrift(nil, 30)
		for i := range 10_000 {
			d.Before(float64(i) / 10_000)
			d.After(after(i))
		}
		d.Add(fit.History{}, 1, true)
		d.Close()
		return d
	}
	if d := of(func(i int) float64 { return float64(i) / 10_000 }); *d.Stable != 0 || d.Orders != nil || d.Scores[9].To != 1 {
		t.Errorf("%+v", d)
	}
	// All in the upper half: five tenths go from .1 to nothing, five from .1 to .2.
	none := .5 / 10_005
	want := 5*(none-.1)*math.Log(none/.1) + 5*.1*math.Log(2)
	if d := of(func(i int) float64 { return .5 + float64(i)/20_000 }); math.Abs(*d.Stable-want) > .01 {
		t.Errorf("%v, want %v", *d.Stable, want)
	}
	if d := of(func(int) float64 { return 1 }); *d.Stable < 1 {
		t.Errorf("everybody at 1: %v", *d.Stable)
	}
	empty := NewDrift(nil, 30)
	empty.Before(.5)
	empty.Close()
	if empty.Stable != nil {
		t.Errorf("%+v", empty)
	}
}
