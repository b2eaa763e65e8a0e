// Package kpi counts what a shop's customers did: who comes back, how often, how much of the revenue is whose. Every
// rate keeps its numerator and denominator. It is pure: customers in, figures out. It knows no model; nothing in it is
// foreseen. Definitions follow the customer-base literature (Farris et al. 2010, Marketing Metrics; Fader & Hardie's
// cohort tables): an order is a day with orders.
package kpi

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Customer is what is known of one customer.
type Customer struct {
	Days        []int32 // with orders, ascending, since 1970-01-01
	Orders      int     // days with orders, at least 1
	First, Last int32
	Paid        float64 // for all of them, major units
}

// Rate is a share of something that was counted.
type Rate struct {
	Of   float64 `json:"numerator"`
	All  float64 `json:"denominator"`
	Rate float64 `json:"rate"` // 0 if the denominator is
}

func rate(of, all float64) Rate {
	r := Rate{Of: of, All: all}
	if all != 0 {
		r.Rate = of / all
	}
	return r
}

// Report is what there is to say as of the end of a day.
type Report struct {
	Since         int32         `json:"-"` // day since 1970-01-01: what is counted day by day begins on it or later
	Until         int32         `json:"-"`
	Customers     int           `json:"customers"`
	Orders        int           `json:"orders"` // days with orders
	Revenue       float64       `json:"revenue"`
	Repeat        Rate          `json:"repeat_rate"`    // customers with a second order, of all
	Basket        Rate          `json:"average_basket"` // revenue per order
	Frequency     Rate          `json:"orders_per_customer"`
	PerCustomer   Rate          `json:"revenue_per_customer"`
	Tenure        Rate          `json:"tenure_days"`      // from the first order to the end, per customer
	ActiveSpan    Rate          `json:"active_span_days"` // from the first to the last order, per customer
	Interval      Rate          `json:"interval_days"`    // between two orders, per pair; longer ones are not over yet
	Concentration []Share       `json:"concentration"`
	MedianGap     *float64      `json:"median_interval_days"`
	WinBack       *Rate         `json:"win_back_rate"` // who came back, of all who had stayed away longer than WinBackDays
	WinBackDays   int32         `json:"win_back_days"`
	Retention     []Period      `json:"retention"` // by calendar quarter
	Cohorts       []CohortMonth `json:"cohorts"`   // by calendar month of the first order
}

// Share is what the best customers paid, of all revenue.
type Share struct {
	Top float64 `json:"top"` // of the customers, by what they paid
	Rate
}

// Period is how many of the buyers of one calendar quarter bought in the next.
type Period struct {
	From string `json:"from"` // 1997Q1
	To   string `json:"to"`
	Rate
}

// CohortMonth is a cohort and who of it bought in the months after the first, the first of them month 1.
type CohortMonth struct {
	Month     string `json:"month"` // 1997-01
	Customers int    `json:"customers"`
	Bought    []Rate `json:"bought"` // in month 1, 2, ...; months that are not over are left out
}

// Of makes the report of customers as they were at the end of a day, everybody with an order. Of their days before the day
// since only the first, the last and the number need be right: intervals, lapses, retention and cohorts that begin before it
// are left out. Who stays away for more than winBack days has lapsed.
func Of(all []Customer, since, until, winBack int32) *Report {
	r := &Report{Since: since, Until: until, WinBackDays: winBack}
	var repeaters, tenure, span, pairs float64
	for i := range all {
		c := &all[i]
		r.Orders += c.Orders
		r.Revenue += c.Paid
		if c.Orders > 1 {
			repeaters++
		}
		tenure += float64(until - c.First)
		span += float64(c.Last - c.First)
		pairs += float64(c.Orders - 1)
	}
	r.Customers = len(all)
	n, orders := float64(len(all)), float64(r.Orders)
	r.Repeat, r.Basket, r.Frequency, r.PerCustomer = rate(repeaters, n), rate(r.Revenue, orders), rate(orders, n), rate(r.Revenue, n)
	r.Tenure, r.ActiveSpan, r.Interval = rate(tenure, n), rate(span, n), rate(span, pairs)
	r.Concentration = concentration(all, r.Revenue)
	r.gaps(all)
	r.retention(all)
	r.cohorts(all)
	return r
}

func concentration(all []Customer, revenue float64) (shares []Share) {
	paid := make([]float64, len(all))
	for i := range all {
		paid[i] = all[i].Paid
	}
	slices.SortFunc(paid, func(a, b float64) int { return cmp.Compare(b, a) })
	for _, top := range []float64{0.1, 0.2} {
		best := 0.0
		for _, p := range paid[:int(top*float64(len(paid))+0.5)] {
			best += p
		}
		shares = append(shares, Share{top, rate(best, revenue)})
	}
	return shares
}

// gaps looks at the times between two orders, the open one at the end included.
func (r *Report) gaps(all []Customer) {
	var gaps []int32
	var back, lapsed float64
	for i := range all {
		days := all[i].Days
		for k := 1; k < len(days); k++ {
			if days[k-1] < r.Since {
				continue
			}
			gap := days[k] - days[k-1]
			gaps = append(gaps, gap)
			if gap > r.WinBackDays {
				back, lapsed = back+1, lapsed+1
			}
		}
		if all[i].Last >= r.Since && r.Until-all[i].Last > r.WinBackDays {
			lapsed++
		}
	}
	wonBack := rate(back, lapsed)
	r.WinBack = &wonBack
	if len(gaps) > 0 {
		slices.Sort(gaps)
		median := (float64(gaps[(len(gaps)-1)/2]) + float64(gaps[len(gaps)/2])) / 2
		r.MedianGap = &median
	}
}

// quarter numbers the calendar quarters.
func quarter(day int32) int {
	y, m, _ := date(day)
	return y*4 + (int(m)-1)/3
}

// month numbers the calendar months.
func month(day int32) int {
	y, m, _ := date(day)
	return y*12 + int(m) - 1
}

func date(day int32) (int, time.Month, int) {
	return time.Unix(int64(day)*86400, 0).UTC().Date()
}

// over says whether the period of a day, numbered by a function, has ended with another day.
func over(number func(int32) int, period int, until int32) bool { return number(until+1) > period }

func (r *Report) retention(all []Customer) {
	buyers := map[int]float64{} // by quarter
	both := map[int]float64{}   // in it and in the one before
	for i := range all {
		last := -1
		for _, d := range all[i].Days {
			q := quarter(d)
			if q == last {
				continue
			}
			buyers[q]++
			if q == last+1 {
				both[q]++
			}
			last = q
		}
	}
	for _, q := range slices.Sorted(maps.Keys(buyers)) {
		if q > quarter(r.Since-1) && over(quarter, q+1, r.Until) {
			r.Retention = append(r.Retention, Period{quarterName(q), quarterName(q + 1), rate(both[q+1], buyers[q])})
		}
	}
}

func (r *Report) cohorts(all []Customer) {
	size := map[int]int{}
	bought := map[[2]int]float64{} // cohort, months after
	for i := range all {
		born, last := month(all[i].First), -1
		size[born]++
		for _, d := range all[i].Days {
			if m := month(d); m != last {
				bought[[2]int{born, m - born}]++
				last = m
			}
		}
	}
	for _, m := range slices.Sorted(maps.Keys(size)) {
		if m <= month(r.Since-1) {
			continue
		}
		c := CohortMonth{Month: time.Date(m/12, time.Month(m%12+1), 1, 0, 0, 0, 0, time.UTC).Format("2006-01"), Customers: size[m]}
		for k := 1; over(month, m+k, r.Until); k++ {
			c.Bought = append(c.Bought, rate(bought[[2]int{m, k}], float64(size[m])))
		}
		r.Cohorts = append(r.Cohorts, c)
	}
}
