package model

import (
	"errors"
	"slices"
	"sort"
)

// Percentiles say where a churn probability stands among customers with about as many orders: frozen from one population at
// one instant, so that a customer's rank moves with the customer alone. Probabilities are in millionths.
type Percentiles []PercentileClass

// PercentileClass are the customers with Orders days of orders or more, up to those of the next class.
type PercentileClass struct {
	Orders    int     `json:"orders"`
	Customers int     `json:"customers"` // learnt from
	Bounds    []int32 `json:"bounds"`    // 100, ascending: the k-th is the least probability that k % of the class do not exceed
}

// Score is what percentiles are learnt from: a customer's days with orders, at least 1, and probability in millionths.
type Score struct {
	Orders      int
	Probability int32
}

// classFrom are the days of orders at which a class may begin; one of fewer than classCustomers joins the one below.
var classFrom = []int{1, 2, 3, 5, 10, 20}

const classCustomers = 100

// LearnPercentiles are those of a population, nil if it is smaller than a class may be. The order of the scores does not matter.
func LearnPercentiles(scores []Score) Percentiles {
	sorted := slices.Clone(scores)
	slices.SortFunc(sorted, func(a, b Score) int { return a.Orders - b.Orders })
	var from []int // places in sorted at which a class begins
	end := len(sorted)
	for _, orders := range slices.Backward(classFrom) {
		at := sort.Search(len(sorted), func(i int) bool { return sorted[i].Orders >= orders })
		if end-at >= classCustomers {
			from, end = append(from, at), at
		}
	}
	if len(from) == 0 {
		return nil
	}
	from[len(from)-1] = 0 // too few below the lowest: they belong to it
	slices.Reverse(from)
	var table Percentiles
	for i, at := range from {
		to := len(sorted)
		if i+1 < len(from) {
			to = from[i+1]
		}
		table = append(table, classOf(sorted[at:to]))
	}
	table[0].Orders = 1
	return table
}

// classOf is the class of its members, of whom the first has the fewest orders.
func classOf(members []Score) PercentileClass {
	c := PercentileClass{Customers: len(members), Bounds: make([]int32, 100)}
	for _, orders := range classFrom {
		if orders <= members[0].Orders {
			c.Orders = orders
		}
	}
	p := make([]int32, len(members))
	for i, m := range members {
		p[i] = m.Probability
	}
	slices.Sort(p)
	for k := range c.Bounds {
		c.Bounds[k] = p[((k+1)*len(p)+99)/100-1]
	}
	return c
}

// At is how many percent of the customers of the class with so many days of orders had at most this probability, rounded
// down, 0 to 100: exactly what sorting the population gives. It never falls as the probability grows. false without a table.
func (t Percentiles) At(probability int32, orders int) (percent int, known bool) {
	i := t.class(orders)
	if i < 0 {
		return 0, false
	}
	bounds := t[i].Bounds
	return sort.Search(len(bounds), func(k int) bool { return bounds[k] > probability }), true
}

// class is the index of the class of so many days of orders, -1 if there is none.
func (t Percentiles) class(orders int) int {
	return sort.Search(len(t), func(i int) bool { return t[i].Orders > orders }) - 1
}

// Check says what is wrong with a table that was read.
func (t Percentiles) Check() error {
	for i, c := range t {
		switch {
		case i == 0 && c.Orders != 1 || i > 0 && c.Orders <= t[i-1].Orders:
			return errors.New("classes of percentiles do not ascend from 1 order")
		case len(c.Bounds) != 100 || !slices.IsSorted(c.Bounds) || c.Bounds[0] < 0 || c.Bounds[99] > 1_000_000:
			return errors.New("a class of percentiles needs 100 ascending bounds from 0 to 1000000")
		}
	}
	return nil
}
