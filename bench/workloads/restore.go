package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// restore loses the data directory, and then the process at full load.
func restore(ctx context.Context, o *options, t *table) error {
	t.load = fmt.Sprintf("%d purchases of %d customers, then as many more at once", o.events, o.customers)
	e, b, _, err := o.warm(ctx, t.name, o.orders(o.events))
	if err != nil {
		return err
	}
	defer e.remove()
	e.stop()
	if err := e.lost(ctx, t, b.seen()); err != nil {
		return fmt.Errorf("after the loss of the directory: %w", err)
	}
	if err := e.killed(ctx, t, b); err != nil {
		return fmt.Errorf("after kill -9: %w", err)
	}
	return nil
}

// lost restores every shard from the changelog, and tells the process's CPU from its first instruction until all are served and counted.
func (e *engine) lost(ctx context.Context, t *table, customers int64) error {
	if err := os.RemoveAll(e.data()); err != nil {
		return err
	}
	if err := e.start(ctx); err != nil {
		return err
	}
	if err := e.until(ctx, "restore", 200*time.Millisecond, func() (bool, error) {
		f, err := e.metrics(ctx)
		return err == nil && int64(f.sum("asiduo_customers")) == customers && f.sum("asiduo_shard_state", `state="running"`) == shards, err
	}); err != nil {
		return err
	}
	cpu := e.cpu()
	records, took := e.restored()
	verified, err := e.verified(ctx)
	if err != nil {
		return err
	}
	t.add("customers restored for each second of CPU, start included", "250,000", "%.0f", float64(customers)/cpu)
	t.add("records of the changelog for each second of CPU", "", "%.0f", float64(records)/cpu)
	t.add("longest restore of a shard", "", "%v", took.Round(time.Millisecond))
	t.add("checked", "", "%s", verified)
	return nil
}

// restored is what this life of the process says of all shards: records of the changelog read, and the longest time that took.
func (e *engine) restored() (records int64, longest time.Duration) {
	for _, l := range e.log("shard restored") {
		records += l.Records
		longest = max(longest, l.Took)
	}
	return records, longest
}

// verified holds every store against the changelog.
func (e *engine) verified(ctx context.Context) (string, error) {
	told, err := e.tool(ctx, "state", "verify")
	if err != nil {
		return "", err
	}
	if n := strings.Count(told, ": equal"); n != shards {
		return "", fmt.Errorf("%d of %d stores are equal to the changelog:\n%s", n, shards, told)
	}
	return fmt.Sprintf("%d stores equal to the changelog, byte by byte", shards), nil
}

// killed loads the process with all that it can take, kills it in the middle, and tells what the next one has to read.
func (e *engine) killed(ctx context.Context, t *table, b *book) error {
	before := b.records
	if err := e.o.load(ctx, b.past(history{events: e.o.events, purchases: 10, fresh: true}, time.Now())); err != nil {
		return err
	}
	done := int64(0)
	if err := e.until(ctx, "half of it", 50*time.Millisecond, func() (bool, error) {
		f, err := e.metrics(ctx)
		if err == nil {
			done = int64(f.sum("asiduo_records_consumed_total"))
		}
		return done >= (b.records-before)/2, err
	}); err != nil {
		return err
	}
	e.kill()
	if err := e.start(ctx); err != nil {
		return err
	}
	if err := e.until(ctx, "shards are served", 100*time.Millisecond, func() (bool, error) {
		return len(e.log("shard restored")) >= shards, nil
	}); err != nil {
		return err
	}
	served := time.Since(e.began)
	records, longest := e.restored()
	if err := e.until(ctx, "read on", time.Second, func() (bool, error) {
		return e.o.broker.Done(ctx, e.app, e.purchases()) >= b.records, nil
	}); err != nil {
		return err
	}
	verified, err := e.verified(ctx)
	if err != nil {
		return err
	}
	customers, err := e.right(ctx, b)
	if err != nil {
		return err
	}
	t.add("kill -9 after so many of the records at once", "", "%d of %d", done, b.records-before)
	t.add("longest reading of a shard after it", "5 s", "%v", longest.Round(time.Millisecond))
	t.add("records of the changelog read then", "", "%d", records)
	t.add("from start to all shards restored", "", "%v", served.Round(time.Millisecond))
	t.add("checked", "", "%s; profiles and sequences of all %d customers: each order once, each event once", verified, customers)
	return nil
}
