package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// snapshot writes all customers as Parquet while others go on to buy.
func snapshot(ctx context.Context, o *options, t *table) error {
	e, b, c, err := o.warm(ctx, t.name, o.orders(max(o.events, o.customers)))
	if err != nil {
		return err
	}
	defer e.remove()
	w, err := o.watch(ctx, e.topic("segment-changes"))
	if err != nil {
		return err
	}
	s := &traffic{rate: o.halfLoad(c), among: o.customers}
	t.load = fmt.Sprintf("%d customers, %.0f purchases a second meanwhile, %d shards", o.customers, s.rate, shards)
	s.begin(ctx, o.broker, b)
	if err := e.pause(ctx, 2*time.Second); err != nil {
		return err
	}
	calm, err := e.span(ctx, func() error {
		return e.pause(ctx, between(3*time.Second, time.Duration(o.customers)*time.Second/20_000, 10*time.Second))
	})
	if err != nil {
		return err
	}
	var writing time.Time
	busy, err := e.span(ctx, func() (err error) {
		writing, err = e.snapshot(ctx)
		return err
	})
	if err != nil {
		return err
	}
	during, err := e.manifest()
	if err != nil {
		return err
	}
	if err := s.wait(true); err != nil {
		return err
	}
	if err := w.await(ctx, s.newcomers, o.limit); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	peak := e.peak()
	if err := e.same(ctx, b, during.rows(), s.newcomers); err != nil {
		return err
	}
	before, meanwhile := w.latencies(calm.from, calm.to), w.latencies(writing, busy.to)
	cpu := busy.cpu - calm.cpu*busy.seconds()/calm.seconds()
	t.add("customers for each second of CPU, beyond that of the purchases", "333,333 (10 M in 30 s)", "%.0f", float64(during.rows())/max(cpu, 0.01))
	t.add("time of the command, of that writing", "", "%.1f s, %.1f s", busy.seconds(), busy.to.Sub(writing).Seconds())
	t.add("mean cycle before, meanwhile", "", "%.1f ms, %.1f ms", calm.cycle*1000, busy.cycle*1000)
	t.add("p50 / p99 / p99.9 of the purchases before", "", "%s", before.text())
	t.add("p50 / p99 / p99.9 of the purchases meanwhile", "", "%s", meanwhile.text())
	t.add("p99 meanwhile against before", "1.5", "%.1f", meanwhile.ratio(before))
	t.add("peak memory", "", "%.0f MiB", peak)
	t.add("checked", "", "rows and money of a snapshot after the end are those sent; profiles and sequences of all %d customers", b.seen())
	return nil
}

// snapshot runs the command, and says when the process began to write: first it waits until the silence of that instant is settled.
func (e *engine) snapshot(ctx context.Context) (writing time.Time, err error) {
	writing = time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := e.tool(ctx, "snapshot")
		done <- err
	}()
	for begun := false; ; {
		select {
		case err := <-done:
			return writing, err
		case <-time.After(5 * time.Millisecond):
		}
		for _, file := range []string{"_*.tmp", "part-*"} { // one that is being written; one that is whole
			found, err := filepath.Glob(filepath.Join(e.archive(), "staging", "*", "*", file))
			if !begun && err == nil && len(found) > 0 {
				begun, writing = true, time.Now()
			}
		}
	}
}

// same holds the snapshot of the stopped process, which has read all, against what was sent. The one before lies between that and the
// beginning.
func (e *engine) same(ctx context.Context, b *book, during int64, newcomers int) error {
	if err := e.consumed(ctx, b.records); err != nil {
		return err
	}
	customers, err := e.right(ctx, b)
	if err != nil {
		return err
	}
	if during > customers || during < customers-int64(newcomers) {
		return fmt.Errorf("the snapshot has %d customers, there were %d to %d", during, customers-int64(newcomers), customers)
	}
	e.stop()
	if _, err := e.tool(ctx, "snapshot"); err != nil {
		return err
	}
	m, err := e.manifest()
	if err != nil {
		return err
	}
	money, err := m.cents()
	if err != nil {
		return err
	}
	if m.rows() != customers || money != b.cents() {
		return fmt.Errorf("the snapshot has %d customers and %d cents, there are %d and %d", m.rows(), money, customers, b.cents())
	}
	return nil
}

// span is what happened during something.
type span struct {
	from, to   time.Time
	cpu, cycle float64 // seconds; cycle is the mean
}

func (s span) seconds() float64 { return s.to.Sub(s.from).Seconds() }

func (e *engine) span(ctx context.Context, during func() error) (s span, err error) {
	before, err := e.metrics(ctx)
	if err != nil {
		return s, err
	}
	s.from, s.cpu = time.Now(), -e.cpu()
	if err := during(); err != nil {
		return s, err
	}
	s.to, s.cpu = time.Now(), s.cpu+e.cpu()
	after, err := e.metrics(ctx)
	if err != nil {
		return s, err
	}
	more := func(name string) float64 { return after.sum(name) - before.sum(name) }
	s.cycle = more("asiduo_cycle_phase_duration_seconds_sum") / max(more("asiduo_cycles_total"), 1)
	return s, nil
}

// manifest is what a snapshot says of itself.
type manifest struct {
	Parts []struct {
		Rows    int64  `json:"rows"`
		Revenue string `json:"net_revenue_lifetime"`
	} `json:"parts"`
}

func (m manifest) rows() (n int64) {
	for _, p := range m.Parts {
		n += p.Rows
	}
	return n
}

func (m manifest) cents() (n int64, err error) {
	for _, p := range m.Parts {
		v, err := cents(p.Revenue)
		if err != nil {
			return 0, err
		}
		n += v
	}
	return n, nil
}

func (e *engine) manifest() (m manifest, err error) {
	found, err := filepath.Glob(filepath.Join(e.archive(), "snapshots", "dt=*", "_manifest.json"))
	if err != nil {
		return m, err
	}
	if len(found) == 0 {
		return m, fmt.Errorf("no snapshot in %s", e.archive())
	}
	text, err := os.ReadFile(found[len(found)-1])
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	return m, err
}
