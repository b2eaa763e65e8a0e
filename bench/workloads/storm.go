package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recency is the silence after which a customer with one order changes segment, by the rules of the defaults.
const recency = 30 * 24 * time.Hour

// storm is a timer for every customer, all due at one instant, while others go on to buy.
func storm(ctx context.Context, o *options, t *table) error {
	lead := o.lead
	if lead == 0 {
		lead = 12*time.Second + time.Duration(o.customers)*time.Second/12_000
	}
	e, err := newEngine(ctx, o, t.name, shards, "churn: {method: none}")
	if err != nil {
		return err
	}
	defer e.remove()
	if err := e.start(ctx); err != nil {
		return err
	}
	if err := e.until(ctx, "all shards are served", 100*time.Millisecond, func() (bool, error) { return len(e.log("shard restored")) == shards, nil }); err != nil {
		return err
	}
	due := time.Now().Add(lead).Truncate(time.Second)
	b := newBook(e, o.customers)
	if err := o.load(ctx, func(yield func(*kgo.Record) bool) {
		for n := range o.customers {
			if !yield(b.purchase(known, n, due.Add(-recency))) {
				return
			}
		}
	}); err != nil {
		return err
	}
	c, err := caughtUp(ctx, b.records, e.began, e)
	if err != nil {
		return err
	}
	calm := between(3*time.Second, time.Duration(o.customers)*time.Second/20_000, 10*time.Second)
	if time.Until(due) < calm+time.Second {
		return fmt.Errorf("the timers were due before everything was ready: give -lead more than %v", lead)
	}
	w, err := o.watch(ctx, e.topic("segment-changes"))
	if err != nil {
		return err
	}
	w.due = due
	if err := e.pause(ctx, time.Until(due.Add(-calm-time.Second))); err != nil {
		return err
	}
	s := &traffic{rate: o.halfLoad(c)}
	t.load = fmt.Sprintf("%d timers due at once, %.0f purchases a second meanwhile, %d shards", o.customers, s.rate, shards)
	return e.drain(ctx, t, b, w, s, calm)
}

// drain measures the calm before the storm and the storm.
func (e *engine) drain(ctx context.Context, t *table, b *book, w *watcher, s *traffic, calm time.Duration) error {
	s.begin(ctx, e.o.broker, b)
	from := w.due.Add(-calm)
	if err := e.pause(ctx, time.Until(from)); err != nil {
		return err
	}
	cpu := e.cpu()
	if err := e.pause(ctx, time.Until(w.due)); err != nil {
		return err
	}
	quiet := e.cpu() - cpu
	cpu += quiet
	all := len(b.customers)
	if err := e.until(ctx, "all timers", 20*time.Millisecond, func() (bool, error) {
		_, fired, err := w.count()
		return fired == all, err
	}); err != nil {
		return err
	}
	end := time.Now()
	took := end.Sub(w.due)
	spent := e.cpu() - cpu - quiet*took.Seconds()/calm.Seconds()
	if err := s.wait(true); err != nil {
		return err
	}
	if err := w.await(ctx, s.newcomers, e.o.limit); err != nil {
		return err
	}
	if err := e.consumed(ctx, b.records); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	customers, err := e.right(ctx, b)
	if err != nil {
		return err
	}
	before, meanwhile := w.latencies(from, w.due), w.latencies(w.due.Add(grace), end)
	t.add("from the instant to the last change that can be read, the grace of 2 s included", "", "%v", took.Round(time.Millisecond))
	t.add("CPU for each timer, beyond that of the purchases", "", "%.1f us", spent/float64(all)*1e6)
	t.add("p50 / p99 / p99.9 of the purchases before", "", "%s", before.text())
	t.add("p50 / p99 / p99.9 of the purchases meanwhile", "", "%s", meanwhile.text())
	t.add("p99 meanwhile against before", "2", "%.1f", meanwhile.ratio(before))
	t.add("peak memory", "", "%.0f MiB", e.peak())
	t.add("checked", "nothing early, order kept", "each of %d timers once and as of its instant, profiles and sequences of all %d customers", all, customers)
	return nil
}
