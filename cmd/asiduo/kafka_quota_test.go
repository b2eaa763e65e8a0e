//go:build kafka

package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// metric is the sum of the series of a metric whose labels contain a text; false if the process does not answer.
func (p *process) metric(name, labels string) (sum float64, answered bool) {
	p.t.Helper()
	text, status := p.get(p.cfg.Admin.Listen, "/metrics")
	if status != http.StatusOK {
		return 0, false
	}
	for line := range strings.Lines(text) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		at, rest, _ := strings.Cut(series, "{")
		if !ok || at != name || !strings.Contains(rest, labels) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			p.t.Fatal(line, err)
		}
		sum += v
	}
	return sum, true
}

// pace is what the metrics of a process say about a while.
type pace struct {
	transaction, end time.Duration // of the mean cycle: all of its transaction, and the end of it alone
	lag              float64       // the most records that waited when a cycle had ended
	cycles           float64
}

// watch looks at a process for a while.
func (p *process) watch(during time.Duration) (seen pace) {
	p.t.Helper()
	const cycle, end = "asiduo_cycle_phase_duration_seconds", "asiduo_commit_duration_seconds"
	read := func(name, labels string) float64 {
		v, answered := p.metric(name, labels)
		if !answered {
			p.t.Fatal("the process does not tell its metrics")
		}
		return v
	}
	all := func() [4]float64 {
		return [4]float64{read(cycle+"_sum", `phase="commit"`), read(cycle+"_count", `phase="commit"`), read(end+"_sum", ""), read(end+"_count", "")}
	}
	before := all()
	for began := time.Now(); time.Since(began) < during; time.Sleep(200 * time.Millisecond) {
		seen.lag = max(seen.lag, read("asiduo_lag_records", ""))
	}
	after := all()
	mean := func(sum, count int) time.Duration {
		return time.Duration((after[sum] - before[sum]) / max(after[count]-before[count], 1) * float64(time.Second))
	}
	seen.transaction, seen.end, seen.cycles = mean(0, 1), mean(2, 3), after[1]-before[1]
	return seen
}

// TestKafkaQuota has brokers that let the process write less than comes in: its cycles take longer and are fewer, what waits
// waits in the inputs, no shard is closed for it, and nothing is lost.
func TestKafkaQuota(t *testing.T) {
	w := newWorld(t, "quota")
	a := newProcess(t, w, "a")
	a.start()
	awaitAll(t, 20*time.Second, "one has the shards", worldShards, a)
	w.startLoad(100, a)
	client := "asiduo"
	quota := func(ctx context.Context, op kadm.AlterClientQuotaOp) error {
		entity := kadm.ClientQuotaEntity{{Type: "client-id", Name: &client}}
		done, err := w.adm.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{op}}})
		if err == nil && len(done) == 1 {
			err = done[0].Err
		}
		return err
	}
	gone := kadm.AlterClientQuotaOp{Key: "producer_byte_rate", Remove: true}
	t.Cleanup(func() { _ = quota(context.Background(), gone) })
	closed := func() float64 {
		n, answered := a.metric("asiduo_shard_closed_total", "")
		if !answered {
			t.Fatal("the process does not tell its metrics")
		}
		return n
	}
	awaitCycles(t, 20*time.Second, a.shards(), a)
	before := closed()
	free := a.watch(5 * time.Second)
	// What is held back is held for as long as it has bytes beyond the quota: with one of 3,000 a large cycle met its deadline, which closes a shard.
	if err := quota(t.Context(), kadm.AlterClientQuotaOp{Key: "producer_byte_rate", Value: 8_000}); err != nil {
		t.Fatal(err)
	}
	slow := a.watch(15 * time.Second)
	if err := quota(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	t.Logf("without a quota %+v, with one %+v", free, slow)
	if slow.transaction < 5*free.transaction || slow.transaction < 200*time.Millisecond {
		t.Errorf("a transaction takes %v, without a quota %v: the process was not throttled", slow.transaction, free.transaction)
	}
	if slow.cycles/15 > free.cycles/5/2 { // larger ones: what comes meanwhile waits for the next
		t.Errorf("%v cycles in 15 s, without a quota %v in 5 s", slow.cycles, free.cycles)
	}
	w.stopLoad()
	if n := closed(); n != before {
		t.Errorf("%v shards were closed", n-before)
	}
	w.finish(a)
}
