// Package holdout judges models of repeat buying honestly: they see what was known at a cut in time, and are held against
// what came after it. It is pure: customers in, figures out.
package holdout

import (
	"slices"
	"sort"

	"github.com/asiduo/asiduo/state/model/fit"
)

// Customer is what a log tells of one customer.
type Customer struct {
	Days []int32   // with orders, ascending, since 1970-01-01
	Paid []float64 // on each day
}

// History is the customer's as of the end of a day, in days. The first order must not be later.
func (c *Customer) History(day int32) fit.History {
	n := c.until(day)
	first, last := c.Days[0], c.Days[n-1]
	return fit.History{X: float64(n - 1), TX: float64(last - first), E: float64(day - last), N: 1}
}

// Spend is the mean of what was paid on the days after the first, up to the end of a day; N is 0 if it is none or
// nothing was paid.
func (c *Customer) Spend(day int32) fit.Spend {
	n := c.until(day)
	var sum float64
	for _, paid := range c.Paid[min(1, n):n] {
		sum += paid
	}
	if sum <= 0 {
		return fit.Spend{}
	}
	return fit.Spend{N: float64(n - 1), Mean: sum / float64(n-1)}
}

// until is the number of days with orders up to the end of a day.
func (c *Customer) until(day int32) int {
	return sort.Search(len(c.Days), func(i int) bool { return c.Days[i] > day })
}

// between are the orders after the end of a day, up to the end of another, and what was paid for them.
func (c *Customer) between(after, to int32) (orders int, paid float64) {
	i, j := c.until(after), c.until(to)
	for _, p := range c.Paid[i:j] {
		paid += p
	}
	return j - i, paid
}

// Known are those who were customers at the end of a day.
func Known(all []Customer, day int32) []Customer {
	var known []Customer
	for _, c := range all {
		if len(c.Days) > 0 && c.Days[0] <= day {
			known = append(known, c)
		}
	}
	return known
}

// Histories are those of all customers as of the end of a day.
func Histories(known []Customer, day int32) []fit.History {
	all := make([]fit.History, len(known))
	for i := range known {
		all[i] = known[i].History(day)
	}
	return all
}

// Spends are those of all customers who paid on other days than their first.
func Spends(known []Customer, day int32) []fit.Spend {
	var all []fit.Spend
	for i := range known {
		if s := known[i].Spend(day); s.N > 0 {
			all = append(all, s)
		}
	}
	return all
}

// AllSpends are those of all customers who paid, over all their days.
func AllSpends(known []Customer, day int32) []fit.Spend {
	var all []fit.Spend
	for i := range known {
		n, sum := known[i].until(day), 0.0
		for _, paid := range known[i].Paid[:n] {
			sum += paid
		}
		if sum > 0 {
			all = append(all, fit.Spend{N: float64(n), Mean: sum / float64(n)})
		}
	}
	return all
}

// bornQuantile is the share of gaps within which somebody who was a customer before a log begins has shown up in it.
const bornQuantile = 0.95

// Born splits off those who may have been customers before the log began: their first order came before the day that is
// returned, the log's first plus the 95 % quantile of the gaps between orders. Models take the first order that they see for
// the first there was, so they learn only from the others. Gaps that begin before the day since are not looked at.
func Born(known []Customer, since, day int32) (born []Customer, from int32) {
	if len(known) == 0 {
		return nil, day
	}
	start := known[0].Days[0]
	var gaps []int32
	for i := range known {
		c := &known[i]
		start = min(start, c.Days[0])
		for k := range c.until(day) - 1 {
			if c.Days[k] >= since {
				gaps = append(gaps, c.Days[k+1]-c.Days[k])
			}
		}
	}
	from = start
	if len(gaps) > 0 {
		slices.Sort(gaps)
		from += gaps[min(len(gaps)-1, int(bornQuantile*float64(len(gaps))))]
	}
	for _, c := range known {
		if c.Days[0] >= from {
			born = append(born, c)
		}
	}
	return born, from
}
