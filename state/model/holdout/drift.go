package holdout

import (
	"math"

	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
)

// Drift is how far a model has moved away from its customers between two looks at them: what was expected of those who were there
// at the first against what came, and how scores have shifted. Customers are counted one by one and not kept.
type Drift struct {
	Days     int32         `json:"days"`     // from the end of the day of the first look to that of the second
	Orders   *Against      `json:"orders"`   // days with orders; nil if the method expects none
	Buyers   *Against      `json:"buyers"`   // customers with at least one of them; nil likewise
	ByOrders []Against     `json:"by_order"` // the orders, by days with orders up to the first look
	Stable   *float64      `json:"psi"`      // see Close; nil without scores
	Scores   [bins]Portion `json:"scores"`   // what PSI is made of

	m             model.Model
	before, after scores
}

// Against is what was expected of some customers, and what came.
type Against struct {
	Of        string  `json:"of,omitempty"`
	Customers int64   `json:"customers"`
	Expected  float64 `json:"expected"`
	Came      float64 `json:"came"`
	Ratio     float64 `json:"ratio"` // of what came to what was expected; 0 if nothing was expected
}

func (a *Against) add(expected, came float64) {
	a.Customers++
	a.Expected += expected
	a.Came += came
	if a.Expected > 0 {
		a.Ratio = a.Came / a.Expected
	}
}

// Portion is a range of scores, about a tenth of the customers at the first look, and its share of them at both.
type Portion struct {
	From   float64 `json:"from"`
	To     float64 `json:"to"`
	Before float64 `json:"before"`
	After  float64 `json:"after"`
}

// classes are of days with orders: up to so many.
var classes = [...]struct {
	most int
	name string
}{{1, "1 order"}, {2, "2 orders"}, {4, "3 and 4 orders"}, {9, "5 to 9 orders"}, {math.MaxInt, "10 and more orders"}}

// NewDrift begins a count over so many days. m may be nil: then only scores are compared.
func NewDrift(m model.Model, days int32) *Drift {
	d := &Drift{Days: days, m: m}
	if m != nil {
		d.Orders, d.Buyers, d.ByOrders = &Against{}, &Against{}, make([]Against, len(classes))
		for i, c := range classes {
			d.ByOrders[i].Of = c.name
		}
	}
	return d
}

// Add counts a customer who was there at the first look, with his history then, the days with orders since, and whether there was
// any: days that were taken back meanwhile are missing in their number.
func (d *Drift) Add(h fit.History, orders int, ordered bool) {
	if d.m == nil {
		return
	}
	days := float64(d.Days)
	expected := d.m.Orders(h.X, h.TX, h.E, days)
	d.Orders.add(expected, float64(orders))
	d.Buyers.add(1-d.m.NoOrder(h.X, h.TX, h.E, days), indicator(ordered))
	for i, c := range classes {
		if int(h.X)+1 <= c.most {
			d.ByOrders[i].add(expected, float64(orders))
			return
		}
	}
}

// Before and After count the score of a customer at either look, from 0 to 1.
func (d *Drift) Before(score float64) { d.before.add(score) }

// After is Before for the second look.
func (d *Drift) After(score float64) { d.after.add(score) }

// scores is a histogram.
type scores struct {
	n     int64
	count [1000]int64
}

func (s *scores) add(score float64) {
	s.n++
	s.count[min(int(score*float64(len(s.count))), len(s.count)-1)]++
}

// Close ends the count.
//
// The population stability index is the sum over tenths of (b - a) ln(b / a), where a and b are the shares of customers with such a
// score at the first and the second look (Siddiqi 2006, Credit Risk Scorecards, ch. 9): below 0.1 hardly anything has moved,
// above 0.25 much. Silence and fewer newcomers move scores too, also of a model that is true. Half a customer is added everywhere, so that empty tenths count.
func (d *Drift) Close() {
	if d.before.n == 0 || d.after.n == 0 {
		return
	}
	size, sum := float64(len(d.before.count)), 0.0
	at, seen := 0, int64(0)
	for i := range d.Scores {
		p := &d.Scores[i]
		p.From = float64(at) / size
		var before, after int64
		for at < len(d.before.count) && (seen < int64(i+1)*d.before.n/bins || i == bins-1) {
			before, after, seen = before+d.before.count[at], after+d.after.count[at], seen+d.before.count[at]
			at++
		}
		p.To, p.Before, p.After = float64(at)/size, share(before, d.before.n), share(after, d.after.n)
		a, b := smooth(before, d.before.n), smooth(after, d.after.n)
		if p.To > p.From { // a tenth whose customers all have the score of the one before is none
			sum += (b - a) * math.Log(b/a)
		}
	}
	d.Stable = &sum
}

func share(n, of int64) float64 { return float64(n) / float64(of) }

func smooth(n, of int64) float64 { return (float64(n) + .5) / (float64(of) + .5*bins) }
