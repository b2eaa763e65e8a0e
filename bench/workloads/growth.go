package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// curve is how the cost goes with one figure while all others stay.
type curve struct {
	name, unit string
	at         []int
	of         func(o *options, at int) setting
}

// setting is what is loaded for one point of a curve.
type setting struct {
	history
	customers, shards int
	more              string // of the configuration
}

// mix is the load of the workload retail.
func (o *options) mix() setting {
	return setting{history: history{events: o.events, purchases: 1, hot: 0.9}, customers: o.customers, shards: shards}
}

var curves = []curve{
	{"customers", "customers", []int{10_000, 100_000, 1_000_000, 10_000_000}, func(o *options, at int) setting {
		l := o.mix()
		l.customers, l.each, l.events = at, true, max(o.events, 2*at)
		return l
	}},
	{"orders", "orders per customer", []int{1, 5, 20, 100, 500}, func(o *options, at int) setting {
		return setting{history: history{events: o.events, purchases: 10}, customers: max(o.events/at, 1), shards: shards, more: "limits: {orders_per_customer: 2000}"}
	}},
	{"shards", "shards", []int{1, 4, 16, 64}, func(o *options, at int) setting {
		l := o.mix()
		l.shards = at
		return l
	}},
	{"size", "bytes more per record", []int{0, 1000, 4000, 16_000}, func(o *options, at int) setting {
		l := o.mix()
		l.padding, l.events = at, o.events/(1+at/1000)
		return l
	}},
	{"cycle", "records per cycle", []int{100, 500, 2000, 5000, 20_000}, func(o *options, at int) setting {
		l := o.mix()
		l.more = fmt.Sprintf("cycle: {records: %d, bytes: 64MiB}", at)
		return l
	}},
}

// growth is how the cost of a record and memory go with customers, orders, shards, size and cycles. No curve has more customers than
// are asked for.
func growth(ctx context.Context, o *options, t *table) error {
	t.load = fmt.Sprintf("%d records, 1 purchase to 9 interactions, %d customers to draw from, %d shards, where nothing else is said", o.events, o.customers, shards)
	var csv strings.Builder
	csv.WriteString("curve,unit,at,whole_us,half_us,peak_mib\n")
	for _, c := range curves {
		if !slices.Contains(strings.Split(o.curves, ","), c.name) {
			continue
		}
		for _, at := range c.at {
			l := c.of(o, at)
			if l.customers > o.customers && c.name == "customers" {
				continue
			}
			app := fmt.Sprintf("%s-%s-%d", t.name, c.name, at)
			is, peak, err := o.point(ctx, app, l)
			if err != nil {
				return fmt.Errorf("%d %s: %w", at, c.unit, err)
			}
			fmt.Fprintf(&csv, "%s,%q,%d,%.2f,%.2f,%.0f\n", c.name, c.unit, at, is.whole, is.half, peak)
			t.add(fmt.Sprintf("%d %s", at, c.unit), "", "%.1f us, second half %.1f us, %.0f MiB", is.whole, is.half, peak)
			if err := o.broker.Drop(ctx, app); err != nil {
				return err
			}
		}
	}
	if o.csv == "" {
		return nil
	}
	return os.WriteFile(o.csv, []byte(csv.String()), 0o600)
}

// point measures one load, and holds what came out against what was sent.
func (o *options) point(ctx context.Context, app string, l setting) (c cost, peak float64, err error) {
	e, err := newSharded(ctx, o, app, l.shards, l.more)
	if err != nil {
		return c, 0, err
	}
	defer e.remove()
	b := newBook(e, l.customers)
	if err := o.load(ctx, b.past(l.history, time.Now())); err != nil {
		return c, 0, err
	}
	if err := e.start(ctx); err != nil {
		return c, 0, err
	}
	if c, err = e.catchUp(ctx, b.records); err != nil {
		return c, 0, err
	}
	peak = e.peak()
	_, err = e.right(ctx, b)
	return c, peak, err
}
