package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// latency is purchases by a schedule at half load: from the instant at which a record was to be sent until the answer to it can be read.
func latency(ctx context.Context, o *options, t *table) error {
	e, b, c, err := o.warm(ctx, t.name, o.orders(o.events))
	if err != nil {
		return err
	}
	defer e.remove()
	rate := o.halfLoad(c)
	traffic := &traffic{rate: rate, most: o.events, among: o.customers}
	t.load = fmt.Sprintf("%d purchases of %d customers and newcomers, %.0f a second, %d shards", o.events, o.customers, rate, shards)
	w, err := o.watch(ctx, e.topic("segment-changes"))
	if err != nil {
		return err
	}
	outputs, err := e.outputs(ctx)
	if err != nil {
		return err
	}
	cpu := e.cpu()
	traffic.begin(ctx, o.broker, b)
	if err := traffic.wait(false); err != nil {
		return err
	}
	if err := w.await(ctx, traffic.newcomers, o.limit); err != nil {
		return err
	}
	spent := e.cpu() - cpu
	if err := w.close(); err != nil {
		return err
	}
	if err := e.consumed(ctx, b.records); err != nil {
		return err
	}
	after, err := e.outputs(ctx)
	if err != nil {
		return err
	}
	is := w.measured(traffic)
	t.add("CPU for each record at full load before", "", "%.1f us", c.half)
	t.add("CPU for each record at this rate", "", "%.1f us", spent/float64(traffic.sent)*1e6)
	t.add("we were behind the schedule by at most", "", "%v", traffic.late.Round(time.Millisecond))
	t.add("p50 / p99 / p99.9 from timestamp to readable", "p99 150 ms", "%s", is.text())
	customers, err := e.right(ctx, b)
	if err != nil {
		return err
	}
	e.stop()
	raw, err := o.raw(ctx, e, after-outputs, rate)
	if err != nil {
		return fmt.Errorf("raw: %w", err)
	}
	t.add("the same of the raw pipeline: no state, as many outputs", "", "%s", raw.text())
	t.add("p99 against that of the raw pipeline", "", "%.1f", is.ratio(raw))
	t.add("checked", "", "one answer to each of %d newcomers, profiles and sequences of all %d customers", traffic.newcomers, customers)
	return nil
}

// measured leaves out the first tenth, in which caches and connections become warm.
func (w *watcher) measured(t *traffic) latencies {
	return w.latencies(t.began.Add(t.length()/10), t.began.Add(t.length()+time.Hour))
}

// outputs is where all topics that others read end.
func (e *engine) outputs(ctx context.Context) (n int64, err error) {
	for _, topic := range []string{"segment-changes", "churn-risk", "profiles"} {
		end, err := e.o.broker.Outputs(ctx, e.topic(topic))
		if err != nil {
			return 0, err
		}
		n += end
	}
	return n, nil
}

// raw sends the same traffic to the raw pipeline of the peers, which is to write as much.
func (o *options) raw(ctx context.Context, e *engine, outputs int64, rate float64) (latencies, error) {
	input, output := e.app+"-raw-in", e.app+"-raw-out"
	for _, topic := range []string{input, output} {
		if err := o.broker.Create(ctx, topic, shards); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(e.dir, "raw.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(ctx, o.binary("raw"), "-outputs", fmt.Sprint(max(outputs, int64(o.events))), "-events", fmt.Sprint(o.events)) // #nosec G204 -- built by us
	cmd.Env = append(os.Environ(), "PEER_BROKERS="+o.broker.Address, "PEER_INPUT="+input, "PEER_OUTPUT="+output, "PEER_GROUP="+e.app+"-raw")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	b := &book{purchases: input, rng: newBook(e, 0).rng, customers: make([]account, o.customers)}
	w, err := o.watch(ctx, output)
	if err != nil {
		return nil, err
	}
	// Its group begins with a wait: what is measured begins when it has answered.
	if err := o.load(ctx, func(yield func(*kgo.Record) bool) { yield(b.purchase(newcomer, 0, time.Now())) }); err != nil {
		return nil, err
	}
	if err := w.await(ctx, 1, time.Minute); err != nil {
		return nil, err
	}
	t := &traffic{rate: rate, most: o.events, among: o.customers}
	t.begin(ctx, o.broker, b)
	if err := t.wait(false); err != nil {
		return nil, err
	}
	if err := w.await(ctx, t.newcomers+1, o.limit); err != nil {
		return nil, err
	}
	return w.measured(t), w.close()
}
