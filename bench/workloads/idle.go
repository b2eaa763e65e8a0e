package main

import (
	"context"
	"fmt"
	"time"
)

// idle is customers of whom nothing comes.
func idle(ctx context.Context, o *options, t *table) error {
	e, b, _, err := o.warm(ctx, t.name, o.orders(max(o.events, o.customers)))
	if err != nil {
		return err
	}
	defer e.remove()
	length := o.idle
	if length == 0 {
		length = between(3*time.Second, time.Duration(o.customers)*time.Second/10_000, 30*time.Second)
	}
	// What was read is flushed and compacted first; that goes on for some seconds.
	if err := e.pause(ctx, length); err != nil {
		return err
	}
	before, err := e.metrics(ctx)
	if err != nil {
		return err
	}
	began, cpu := time.Now(), e.cpu()
	if err := e.pause(ctx, length); err != nil {
		return err
	}
	spent, took := e.cpu()-cpu, time.Since(began).Seconds()
	after, err := e.metrics(ctx)
	if err != nil {
		return err
	}
	more := func(name string) float64 { return after.sum(name) - before.sum(name) }
	if n := more("asiduo_records_consumed_total"); n != 0 {
		return fmt.Errorf("%.0f records came from nowhere", n)
	}
	t.load = fmt.Sprintf("%d customers, nothing sent for %v, %d shards", o.customers, length.Round(time.Second), shards)
	t.add("CPU", "that of timers due and heartbeats only", "%.1f ms a second (%.2f %% of a core)", spent/took*1000, spent/took*100)
	t.add("timers that came due meanwhile", "", "%.0f", more("asiduo_timers_fired_total"))
	t.add("cycles that were committed meanwhile", "", "%.0f", more("asiduo_cycles_total"))
	return e.sizes(ctx, t, b)
}
