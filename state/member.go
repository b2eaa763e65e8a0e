package state

import "github.com/asiduo/asiduo/state/population"

// Member appends what the customer counts as in the population: the revenue in the window as of the last evaluation,
// and each counted order in it. A customer without one counts for nothing.
func (c *Customer) Member(m population.Member) population.Member {
	head, revenue := len(m), Money(0)
	m = append(m, population.None)
	for i := range c.Orders {
		if net := c.net(&c.Orders[i]); net > 0 {
			revenue += net
			m = append(m, population.BucketOf(int64(net)))
		}
	}
	if revenue > 0 {
		m[head] = population.BucketOf(int64(revenue))
	}
	return m
}
