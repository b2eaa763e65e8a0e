package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/kpi"
)

// deal is what a record says of how an order came about.
type deal struct {
	coupon   bool
	discount float64 // major units
	price    float64 // with the discount added again
}

// order is a version of an order of a customer.
type order struct {
	customer string
	state.Order
}

// dealOf reads what the pipeline does not keep: coupon and discount. What cannot be used is treated as absent, as there.
func dealOf(value []byte) (d deal, told bool) {
	if !bytes.Contains(value, []byte(`"coupon"`)) && !bytes.Contains(value, []byte(`"discount"`)) {
		return d, false
	}
	var v struct {
		Coupon   jsontext.Value `json:"coupon"`
		Discount jsontext.Value `json:"discount"`
		Amount   jsontext.Value `json:"amount"`
	}
	if json.Unmarshal(value, &v) != nil {
		return d, false
	}
	if c := v.Coupon; c.Kind() == '"' {
		d.coupon = len(bytes.TrimSpace(c[1:len(c)-1])) > 0
	}
	d.discount = max(number(v.Discount), 0)
	d.price = number(v.Amount) + d.discount
	return d, true
}

// number is a decimal, as a string or a number; 0 for anything else.
func number(v jsontext.Value) float64 {
	f, err := strconv.ParseFloat(string(bytes.Trim(v, `"`)), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0
	}
	return f
}

// note keeps the deal of a version of an order; which of them counts is the ledger's business.
func (l *purchaseLog) note(f *state.Fact, value []byte) {
	if f.Kind != state.OrderFact {
		return
	}
	key := order{f.Customer, f.Order}
	if d, told := dealOf(value); told {
		if l.deals == nil {
			l.deals = map[order]deal{}
		}
		l.deals[key] = d
	} else {
		delete(l.deals, key)
	}
}

// promotions are counted over the orders that count at the end of a day; nil if no record tells of a coupon or discount. From which share
// of the price on a discount makes an order a promoted one is least, to half of the smallest coin. With free, orders of nothing count.
func (l *purchaseLog) promotions(day int32, free bool, least float64) (*kpi.Promotions, error) {
	if l.deals == nil {
		return nil, nil
	}
	ledgers, err := l.ledgers(day)
	if err != nil {
		return nil, err
	}
	var all []kpi.Deals
	unit := math.Pow10(l.cfg.Digits())
	for customer, ledger := range ledgers {
		var c kpi.Deals
		for i := range ledger.Orders {
			o := &ledger.Orders[i]
			net := float64(ledger.Net(o)) / unit
			if net == 0 && !(free && isFree(o)) {
				continue
			}
			c.Orders, c.Paid = c.Orders+1, c.Paid+net
			if d := l.deals[order{customer, *o}]; d.coupon || d.discount > 0 && d.discount+0.5/unit >= least*d.price {
				c.Promoted, c.PaidPromoted = c.Promoted+1, c.PaidPromoted+net
			}
		}
		if c.Orders > 0 {
			all = append(all, c)
		}
	}
	return kpi.PromotionsOf(all), nil
}

func writePromotions(out io.Writer, p *kpi.Promotions, least float64) error {
	if p == nil {
		return nil
	}
	fmt.Fprintf(out, "\npromoted orders, each counted, not their days (a coupon, or a discount of %.4g %% of the price or more): %.4f (%.0f of %.0f), with %.4f of the revenue\n",
		100*least, p.Orders.Rate, p.Orders.Of, p.Orders.All, p.Revenue.Rate)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "buyers\tcustomers\tof all\torders\tof all\trevenue\tof all\t")
	for _, t := range p.Types {
		fmt.Fprintf(w, "%s\t%.0f\t%.4f\t%.0f\t%.4f\t%.2f\t%.4f\t\n", t.Type, t.Customers.Of, t.Customers.Rate, t.Orders.Of, t.Orders.Rate, t.Revenue.Of, t.Revenue.Rate)
	}
	return w.Flush()
}
