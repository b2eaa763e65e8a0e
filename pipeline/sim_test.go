//go:build synctests

package pipeline_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state"
)

var steps = []pipeline.Step{
	"", pipeline.BeforeInit, pipeline.AfterInit, pipeline.BeforeOwner, pipeline.AfterOwner, pipeline.AfterRestore,
	pipeline.BeforeProduce, pipeline.BeforeEnd, pipeline.AfterEnd, pipeline.AfterApply,
}

// TestSim runs whole pipelines under faults in virtual time. The seed fixes the log, the faults and when they happen, not
// how goroutines interleave. SEEDS=n runs the seeds 1 to n, SEED=n that one.
func TestSim(t *testing.T) {
	from, to := uint64(1), uint64(10)
	if n, err := strconv.ParseUint(os.Getenv("SEEDS"), 10, 64); err == nil {
		to = n
	}
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		from, to = n, n
	}
	for seed := from; seed <= to; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			defer forgiveClient(t)
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

// forgiveClient forgives the Kafka client one goroutine that it rarely leaves behind when it is closed while it turns from
// one topic to another (franz-go v1.22.2, fetchManager), and nothing else: a bubble ends with a panic if anything is left.
func forgiveClient(t *testing.T) {
	v := recover()
	if v == nil {
		return
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	left, client := 0, 0
	for _, g := range strings.Split(string(stacks), "\n\n") {
		if head, _, _ := strings.Cut(g, "\n"); strings.Contains(head, "synctest bubble") {
			left++
			if strings.Contains(g, "kgo.(*fetchManager).manageFetchConcurrency") {
				client++
			}
		}
	}
	if !strings.Contains(fmt.Sprint(v), "blocked goroutines remain") || left != client {
		panic(v)
	}
	t.Logf("the client left %d goroutines", client)
}

func simulate(t *testing.T, seed uint64) {
	c := oracle.Configs().Example(int(seed))
	log := oracle.Logs(c).Example(int(seed))
	w := newWorld(t, seed, c)
	defer w.close()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d: %d records, %d partitions, %d shards, cycles of %d\n%s", seed, len(log), c.Partitions, w.cfg.Shards, w.cfg.Cycle.Records, strings.Join(w.history, "\n"))
		}
	}()
	w.start("a", "", 0)
	for len(log) > 0 {
		n := min(1+w.rng.IntN(12), len(log))
		w.write(log[:n])
		log = log[n:]
		time.Sleep(time.Duration(w.rng.IntN(400)) * time.Millisecond)
		w.fault()
	}
	if len(w.live) == 0 {
		w.start("a", "", 0)
	}
	for _, f := range w.refusing {
		f.Remove()
	}
	for name, p := range w.live { // those that a step has killed are started again
		p.safe.Store(true)
		if p.killed.Load() {
			w.kill(name, false)
			w.start(name, "", 0)
		}
	}
	end, err := time.Parse(time.RFC3339, c.EndClock)
	if err != nil {
		t.Fatal(err)
	}
	got := w.finish(state.Instant(end.UnixMilli()))
	want, err := oracle.Play(c, oracle.Logs(c).Example(int(seed)))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range oracle.Diff(want, got) {
		t.Error(d)
	}
}

// fault does something to one of the processes, or starts one.
func (w *world) fault() {
	names := []string{"a", "b", "c"}
	name := names[w.rng.IntN(len(names))]
	p := w.live[name]
	if p == nil {
		step := steps[w.rng.IntN(len(steps))]
		n := int64(1 + w.rng.IntN(4))
		w.note("start %s, killed at %q for the %d. time", name, step, n)
		w.start(name, step, n)
		return
	}
	switch k := w.rng.IntN(9); k {
	case 0:
		w.note("stop %s", name)
		w.stop(name)
	case 1, 2:
		w.note("kill %s, power cut %t", name, k == 2)
		w.kill(name, k == 2)
	case 3:
		w.note("kill %s and wipe its disk", name)
		w.kill(name, true)
		delete(w.disks, name)
	case 4:
		w.note("cut the connections of %s", name)
		p.net.cut(false)
	case 5:
		down := time.Duration(w.rng.IntN(6000)) * time.Millisecond
		w.note("take %s off the network for %v", name, down)
		p.net.cut(true)
		time.Sleep(down)
		p.net.cut(false)
	case 6, 7:
		w.refuse()
	}
}

// refusals are requests that the processes send, and what a broker may answer instead of doing them.
var refusals = []struct {
	key    kmsg.Key
	errors []*kerr.Error
}{
	{kmsg.Produce, []*kerr.Error{kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.InvalidProducerEpoch, kerr.UnknownServerError, kerr.KafkaStorageError}},
	{kmsg.InitProducerID, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.UnknownServerError}},
	{kmsg.EndTxn, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.ProducerFenced, kerr.InvalidTxnState, kerr.UnknownServerError, kerr.RequestTimedOut}},
	{kmsg.AddPartitionsToTxn, []*kerr.Error{kerr.ConcurrentTransactions, kerr.NotCoordinator, kerr.InvalidProducerEpoch}},
	{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownLeaderEpoch, kerr.KafkaStorageError}},
	{kmsg.Metadata, []*kerr.Error{kerr.LeaderNotAvailable}},
	{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError}},
	{kmsg.Heartbeat, []*kerr.Error{kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.NotCoordinator}},
	{kmsg.JoinGroup, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.UnknownMemberID}},
	{kmsg.SyncGroup, []*kerr.Error{kerr.RebalanceInProgress, kerr.NotCoordinator}},
	{kmsg.FindCoordinator, []*kerr.Error{kerr.CoordinatorNotAvailable}},
}

// refuse makes the broker answer the next requests of a kind with an error. The test's own writes are left alone.
func (w *world) refuse() {
	r := refusals[w.rng.IntN(len(refusals))]
	f := kfake.Fault{Keys: []kmsg.Key{r.key}, Err: r.errors[w.rng.IntN(len(r.errors))], Count: 1 + w.rng.IntN(4)}
	if r.key == kmsg.Produce {
		f.When = func(req kmsg.Request) bool {
			p, ok := req.(*kmsg.ProduceRequest)
			return ok && p.TransactionID != nil
		}
	}
	w.note("refuse %s %d times: %v", r.key.Name(), f.Count, f.Err)
	w.refusing = append(w.refusing, w.cluster.Fault(f))
}

// outputs are the committed records of a topic.
func (w *world) outputs(topic string) (out []oracle.Output) {
	w.t.Helper()
	ends, err := w.adm.ListEndOffsets(w.t.Context(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for n, end := range ends[topic] {
		if end.Offset > 0 {
			from[n], left[n] = kgo.NewOffset().AtStart(), end.Offset
		}
	}
	if len(from) == 0 {
		return nil
	}
	opts, err := pipeline.ClientOptions(w.cfg.Kafka)
	if err != nil {
		w.t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(opts, kgo.Dialer(w.network.DialContext), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))...)
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	for len(left) > 0 {
		fetched := cl.PollFetches(w.t.Context())
		if err := fetched.Err(); err != nil {
			w.t.Fatal(err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				out = append(out, w.output(r))
			}
		})
	}
	return out
}

func (w *world) output(r *kgo.Record) oracle.Output {
	w.t.Helper()
	o := oracle.Output{Topic: strings.TrimPrefix(r.Topic, w.cfg.App+"."), Key: r.Key, Headers: map[string]string{}}
	for _, h := range r.Headers {
		o.Headers[h.Key] = string(h.Value)
	}
	if o.Topic == oracle.DeadLetters {
		o.Raw = r.Value
		return o
	}
	d := json.NewDecoder(bytes.NewReader(r.Value))
	d.UseNumber()
	if err := d.Decode(&o.Value); err != nil {
		w.t.Fatal(err)
	}
	return o
}

// configOf is the product's configuration for one of the oracle's.
func configOf(t *testing.T, c oracle.Config) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.App, cfg.Epoch, cfg.Currency, cfg.MinorDigits = c.App, c.Epoch, c.Currency, c.MinorDigits
	cfg.Inputs.Purchases, cfg.Inputs.Interactions = c.Inputs.Purchases, c.Inputs.Interactions
	cfg.Time.EventTime, cfg.Time.Zone, cfg.Time.Backfill = c.EventTime, c.TimeZone, c.Backfill
	if c.LiveFrom != nil {
		if err := cfg.Time.LiveFrom.UnmarshalText([]byte(*c.LiveFrom)); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Rules.WindowDays = c.Rules.WindowDays
	copy(cfg.Rules.RecencyDays[:], c.Rules.RecencyDays)
	copy(cfg.Rules.Frequency[:], c.Rules.Frequency)
	for i, m := range c.Rules.Money.Cuts {
		cfg.Rules.Money.Cuts[i] = config.Decimal(m)
	}
	cfg.Churn = config.Churn{
		Method: c.Churn.Method, HorizonDays: c.Churn.HorizonDays, Params: config.ChurnParams(c.Churn.Params),
		Bands:      [2]config.Decimal{config.Decimal(c.Churn.Bands[0]), config.Decimal(c.Churn.Bands[1])},
		Hysteresis: config.Decimal(c.Churn.Hysteresis), Jump: config.Decimal(c.Churn.Jump),
	}
	cfg.State.Memtable = 128 << 10 // made anew at each acquisition
	cfg.Limits.MaxRecordBytes, cfg.Limits.FutureHours = c.Limits.MaxRecordBytes, int(c.Limits.FutureHours)
	return cfg
}
