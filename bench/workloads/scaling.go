package main

import (
	"context"
	"fmt"
	"time"
)

// scaling is the same load for one process, and for two that have half of the shards each.
func scaling(ctx context.Context, o *options, t *table) error {
	t.load = fmt.Sprintf("%d records, 1 purchase to 9 interactions, %d customers to draw from, %d shards", o.events, o.customers, shards)
	one, _, err := o.shared(ctx, t.name+"-one", false)
	if err != nil {
		return fmt.Errorf("one process: %w", err)
	}
	two, customers, err := o.shared(ctx, t.name+"-two", true)
	if err != nil {
		return fmt.Errorf("two processes: %w", err)
	}
	t.add("CPU for each record, one process", "", "%.1f us", one)
	t.add("CPU for each record, two processes together", "", "%.1f us", two)
	t.add("two against one", "1.15", "%.2f", two/one)
	t.add("checked", "", "profiles of all %d customers: orders, money, last interaction; sequences", customers)
	return nil
}

// shared loads an application whose processes have their shards already, and tells the CPU of all of them for each record: there is no start
// and no change of owners in it.
func (o *options) shared(ctx context.Context, app string, two bool) (us float64, customers int64, err error) {
	e, err := newEngine(ctx, o, app, shards, "")
	if err != nil {
		return 0, 0, err
	}
	defer e.remove()
	es := []*engine{e}
	if two {
		m, err := e.mate()
		if err != nil {
			return 0, 0, err
		}
		defer m.remove()
		es = append(es, m)
	}
	for _, e := range es {
		if err := e.start(ctx); err != nil {
			return 0, 0, err
		}
	}
	for _, e := range es {
		if err := e.until(ctx, "its part of the shards is served", 100*time.Millisecond, func() (bool, error) {
			f, err := e.metrics(ctx)
			return err == nil && f.sum("asiduo_shard_state", `state="running"`) == float64(shards/len(es)), err
		}); err != nil {
			return 0, 0, err
		}
	}
	spent := 0.0
	for _, e := range es {
		spent += e.cpu()
	}
	b := newBook(e, o.customers)
	if err := o.load(ctx, b.past(o.mix().history, time.Now())); err != nil {
		return 0, 0, err
	}
	c, err := caughtUp(ctx, b.records, time.Now(), es...)
	if err != nil {
		return 0, 0, err
	}
	customers, err = e.right(ctx, b)
	return c.whole - spent/float64(b.records)*1e6, customers, err
}
