package kpi

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestPromotions: shares of customers drawn from a beta distribution give it back, and customers of each kind are told apart.
func TestPromotions(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var all []Deals
	for range 30_000 {
		share := max(r.Float64(), r.Float64())                      // beta(2, 1)
		d := Deals{Orders: 1 + r.IntN(4) + r.IntN(1+int(20*share))} // who likes promotions orders more
		for range d.Orders {
			d.Paid += 10
			if r.Float64() < share {
				d.Promoted, d.PaidPromoted = d.Promoted+1, d.PaidPromoted+10
			}
		}
		all = append(all, d)
	}
	p := PromotionsOf(all)
	if math.Abs(p.A-2) > .1 || math.Abs(p.B-1) > .05 {
		t.Errorf("beta(%v, %v), want beta(2, 1)", p.A, p.B)
	}
	var customers, orders, revenue float64
	for _, x := range p.Types {
		customers, orders, revenue = customers+x.Customers.Of, orders+x.Orders.Of, revenue+x.Revenue.Of
		if x.Customers.All != 30_000 || x.Orders.All != p.Orders.All || x.Customers.Of == 0 {
			t.Errorf("%+v", x)
		}
	}
	if customers != 30_000 || orders != p.Orders.All || math.Abs(revenue-p.Revenue.All) > 1e-6 {
		t.Errorf("the types have %v customers, %v orders, %v", customers, orders, revenue)
	}
}

func TestBuyerTypes(t *testing.T) {
	p := &Promotions{A: .5, B: .5}
	for _, c := range []struct {
		d    Deals
		want string
	}{
		{Deals{10, 8, 100, 80}, Opportunist},
		{Deals{10, 8, 100, 40}, Mixed}, // little of the money
		{Deals{1, 1, 100, 100}, Mixed}, // one order
		{Deals{10, 6, 100, 80}, Mixed}, // 6.5 of 11
		{Deals{10, 1, 100, 10}, BrandLover},
		{Deals{4, 0, 100, 0}, Mixed},   // too few orders
		{Deals{10, 2, 100, 10}, Mixed}, // 2.5 of 11
		{Deals{10, 1, 30, 10}, Mixed},  // pays less than the middle customer
	} {
		if got := p.typeOf(c.d, 50); got != c.want {
			t.Errorf("%+v, share %.3f: %s, want %s", c.d, p.Share(c.d), got, c.want)
		}
	}
	if PromotionsOf(nil) != nil {
		t.Error("promotions of nobody")
	}
	none := PromotionsOf([]Deals{{5, 0, 50, 0}, {1, 0, 10, 0}})
	if none.Orders.Rate != 0 || none.A != 0 || none.B != 100 || none.Types[1].Customers.Of != 1 {
		t.Errorf("%+v", none)
	}
	same := PromotionsOf([]Deals{{4, 2, 40, 20}, {4, 2, 40, 20}}) // no spread at all
	if same.A != 50 || same.B != 50 || same.Types[2].Customers.Of != 2 {
		t.Errorf("%+v", same)
	}
}
