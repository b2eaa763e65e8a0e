package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/asiduo/asiduo/bench/measure"
)

// curve is how the cost goes with one figure. Of customers each has two records on average at least; the longer records are, the fewer
// there are, and the fewer customers.
type curve struct {
	name, unit string
	at         []int
	of         func(o *options, at int) setting
}

var curves = []curve{
	{"customers", "customers", []int{10_000, 100_000, 1_000_000, 10_000_000}, func(o *options, at int) setting {
		l := o.mix()
		l.customers, l.rounds, l.events = at, 1, max(o.events, 2*at)
		return l
	}},
	{"orders", "orders per customer", []int{1, 5, 20, 100, 500}, func(o *options, at int) setting {
		l := o.orders(o.events)
		l.rounds, l.customers, l.more = at, max(o.events/at, 1), "limits: {orders_per_customer: 2000}"
		return l
	}},
	{"shards", "shards", []int{1, 4, 16, 64}, func(o *options, at int) setting {
		l := o.mix()
		l.shards = at
		return l
	}},
	{"size", "bytes more per record", []int{0, 1000, 4000, 16_000}, func(o *options, at int) setting {
		l := o.mix()
		scale := 1 + at/1000
		l.padding, l.events, l.customers, l.more = at, o.events/scale, max(o.customers/scale, 10), "cycle: {bytes: 64MiB}"
		return l
	}},
	{"cycle", "records per cycle", []int{100, 500, 2000, 10_000, 50_000}, func(o *options, at int) setting {
		l := o.mix()
		l.more = fmt.Sprintf("cycle: {records: %d, bytes: 64MiB}", at)
		return l
	}},
}

// choose takes the names of curves.
func (o *options) choose(which string) error {
	for _, name := range strings.Split(which, ",") {
		i := slices.IndexFunc(curves, func(c curve) bool { return c.name == name })
		if i < 0 {
			var all []string
			for _, c := range curves {
				all = append(all, c.name)
			}
			return fmt.Errorf("unknown curve %q; there are %s", name, strings.Join(all, ", "))
		}
		if slices.ContainsFunc(o.curves, func(c curve) bool { return c.name == name }) {
			return fmt.Errorf("the curve %q is named twice", name)
		}
		o.curves = append(o.curves, curves[i])
	}
	return nil
}

// growth is how the cost of a record and memory go with customers, orders, shards, size and cycles. No point has more customers
// than are asked for. The file is whole or as it was.
func growth(ctx context.Context, o *options, t *table) error {
	t.load = fmt.Sprintf("%d records, 1 purchase to 9 interactions, %d customers to draw from, %d shards, where nothing else is said", o.events, o.customers, shards)
	which := o.curves
	if which == nil {
		which = curves
	}
	csv := "curve,unit,at,records,whole_us,half_us,peak_mib,disk_b,cycles\n"
	for _, c := range which {
		for _, at := range c.at {
			l := c.of(o, at)
			if l.customers > o.customers {
				continue
			}
			app := fmt.Sprintf("%s-%s-%d", t.name, c.name, at)
			p, err := o.point(ctx, app, l)
			if err != nil {
				return fmt.Errorf("%d %s: %w", at, c.unit, err)
			}
			csv += fmt.Sprintf("%s,%s,%d,%d,%.2f,%.2f,%.0f,%.0f,%.0f\n", c.name, c.unit, at, l.events, p.whole, p.half, p.peak, p.disk, p.cycles)
			if o.csv != "" {
				if err := os.WriteFile(o.csv+".part", []byte(csv), 0o600); err != nil {
					return err
				}
			}
			t.add(fmt.Sprintf("%d %s, %d records", at, c.unit, l.events), "", "%.1f us, second half %.1f us, %.0f MiB, %.0f B on disk for each customer, %.0f cycles", p.whole, p.half, p.peak, p.disk, p.cycles)
			if err := o.broker.Drop(ctx, app); err != nil {
				return err
			}
		}
	}
	if o.csv == "" {
		return nil
	}
	return os.Rename(o.csv+".part", o.csv)
}

// point is what one load has cost.
type point struct {
	cost
	peak, disk, cycles float64 // MiB; bytes for each customer; of all shards
}

// point measures one load, and holds what came out against what was sent.
func (o *options) point(ctx context.Context, app string, l setting) (p point, err error) {
	e, b, c, err := o.warm(ctx, app, l)
	if err != nil {
		return p, err
	}
	defer e.remove()
	f, err := e.metrics(ctx)
	if err != nil {
		return p, err
	}
	p = point{cost: c, peak: e.peak(), cycles: f.sum("asiduo_cycles_total")}
	customers, err := e.right(ctx, b)
	if err != nil {
		return p, err
	}
	e.stop()
	p.disk = float64(measure.Size(e.data())) / float64(customers)
	return p, nil
}
