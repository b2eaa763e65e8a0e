package main

import (
	"context"
	"fmt"

	"github.com/asiduo/asiduo/bench/measure"
)

// retail is the mix of a shop.
func retail(ctx context.Context, o *options, t *table) error {
	return throughput(ctx, o, t, o.mix(), "5 us")
}

// uniform is the same mix where no customer is more likely than another: nothing that was read lately helps.
func uniform(ctx context.Context, o *options, t *table) error {
	l := o.mix()
	l.hot = 0
	return throughput(ctx, o, t, l, "15 us, of 10 M customers")
}

// throughput reads what lies there as fast as it can, all outputs included, and tells the cost of a record. Everybody is met first, so that
// the second half is of customers who are known.
func throughput(ctx context.Context, o *options, t *table, l setting, goal string) error {
	l.rounds = 1
	t.load = fmt.Sprintf("%d records, 1 purchase to 9 interactions, %d customers, all outputs", o.events, o.customers)
	e, b, c, err := o.warm(ctx, t.name, l)
	if err != nil {
		return err
	}
	defer e.remove()
	t.add("CPU for each record, whole run", "", "%.1f us", c.whole)
	t.add("CPU for each record, second half", goal, "%.1f us", c.half)
	t.add("records a second, second half", "", "%.0f", c.rate)
	return e.sizes(ctx, t, b)
}

// sizes ends the process and tells what it took, after it has checked that the answers are right.
func (e *engine) sizes(ctx context.Context, t *table, b *book) error {
	peak := e.peak()
	customers, err := e.right(ctx, b)
	if err != nil {
		return err
	}
	e.stop()
	changelog, err := e.o.broker.Changelog(ctx, e.app)
	if err != nil {
		return err
	}
	t.add("peak memory", "1024 MiB at 10 M customers", "%.0f MiB", peak)
	t.add("disk for each customer", "150 B", "%.0f B", float64(measure.Size(e.data()))/float64(customers))
	t.add("changelog for each customer, as it is on the broker", "", "%.0f B", float64(changelog)/float64(customers))
	t.add("checked", "", "profiles of all %d customers: orders, money, last interaction; sequences", customers)
	return nil
}
