package kpi

import "slices"

// Deals are one customer's orders, and those of them that were promoted: with a coupon, or at a discount.
type Deals struct {
	Orders, Promoted   int
	Paid, PaidPromoted float64 // for all orders, and for the promoted ones, major units
}

// Promotions is how much of a shop's business is promoted, and who buys how (Blattberg & Neslin 1990, Sales Promotion). A customer's
// share of promoted orders is shrunk towards that of the others: (promoted + A) / (orders + A + B).
type Promotions struct {
	Orders  Rate        `json:"orders"`  // promoted, of all
	Revenue Rate        `json:"revenue"` // of promoted orders, of all
	A       float64     `json:"prior_a"` // beta distribution of the share over customers, by moments
	B       float64     `json:"prior_b"`
	Types   []BuyerType `json:"buyer_types"`
}

// BuyerType is a kind of customers and what they are to the shop.
type BuyerType struct {
	Type      string `json:"type"`
	Customers Rate   `json:"customers"`
	Orders    Rate   `json:"orders"`
	Revenue   Rate   `json:"revenue"`
}

// The types of buyers. An opportunist has at least two orders, orders at least six times in ten when something is promoted, and pays at
// least half of what he pays then. A brand lover has at least five orders, at most two in ten of them promoted, and pays as much at full price as
// the middle customer or more.
const (
	Opportunist = "opportunist"
	BrandLover  = "brand_lover"
	Mixed       = "mixed"
)

// PromotionsOf counts customers, everybody with an order; nil if there are none.
func PromotionsOf(all []Deals) *Promotions {
	if len(all) == 0 {
		return nil
	}
	var orders, promoted, paid, paidPromoted float64
	full := make([]float64, len(all))
	for i, d := range all {
		orders, promoted = orders+float64(d.Orders), promoted+float64(d.Promoted)
		paid, paidPromoted = paid+d.Paid, paidPromoted+d.PaidPromoted
		full[i] = d.Paid - d.PaidPromoted
	}
	p := &Promotions{Orders: rate(promoted, orders), Revenue: rate(paidPromoted, paid)}
	p.A, p.B = prior(all, p.Orders.Rate)
	slices.Sort(full)
	middle := full[len(full)/2]
	of := map[string]*[3]float64{Opportunist: {}, BrandLover: {}, Mixed: {}}
	for _, d := range all {
		sums := of[p.typeOf(d, middle)]
		sums[0], sums[1], sums[2] = sums[0]+1, sums[1]+float64(d.Orders), sums[2]+d.Paid
	}
	for _, name := range []string{Opportunist, BrandLover, Mixed} {
		s := of[name]
		p.Types = append(p.Types, BuyerType{name, rate(s[0], float64(len(all))), rate(s[1], orders), rate(s[2], paid)})
	}
	return p
}

// Share is a customer's share of promoted orders, shrunk.
func (p *Promotions) Share(d Deals) float64 {
	return (float64(d.Promoted) + p.A) / (float64(d.Orders) + p.A + p.B)
}

func (p *Promotions) typeOf(d Deals, middle float64) string {
	switch share := p.Share(d); {
	case d.Orders >= 2 && share >= 0.6 && d.PaidPromoted >= d.Paid/2:
		return Opportunist
	case share <= 0.2 && d.Orders >= 5 && d.Paid-d.PaidPromoted >= middle:
		return BrandLover
	}
	return Mixed
}

// prior is the beta distribution that the shares of customers with more than one order have: their mean, and the spread that they have
// beyond what chance gives (Kleinman 1973); without such spread it is as narrow as 100 orders are, and at least as wide as one. Without
// such customers the mean is the shop's.
func prior(all []Deals, shop float64) (a, b float64) {
	var n, sum, few float64
	for _, d := range all {
		if d.Orders > 1 {
			n, sum, few = n+1, sum+float64(d.Promoted)/float64(d.Orders), few+1/float64(d.Orders)
		}
	}
	mean, size := shop, 100.0
	if n > 0 {
		mean, few = sum/n, few/n
	}
	if chance := mean * (1 - mean); n > 1 && chance > 0 {
		var spread float64
		for _, d := range all {
			if d.Orders > 1 {
				off := float64(d.Promoted)/float64(d.Orders) - mean
				spread += off * off / (n - 1)
			}
		}
		// The variance of a share of k orders is chance * (rho + (1-rho)/k), and size is 1/rho - 1.
		if rho := (spread/chance - few) / (1 - few); rho > 0 {
			size = min(max(1/rho-1, 1), 100)
		}
	}
	return mean * size, (1 - mean) * size
}
