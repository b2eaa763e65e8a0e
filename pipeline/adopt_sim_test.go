//go:build synctests

package pipeline_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
)

// crew is a broker in virtual time, a clock that is driven unless the broker's counts, and processes of one application.
type crew struct {
	t       *testing.T
	network kfake.VirtualNetwork
	cluster *kfake.Cluster
	cfg     config.Config
	cl      *kgo.Client
	adm     *kadm.Client
	clock   pipeline.Manual
	ends    map[string]map[int32]int64
	live    map[string]*hand
}

// hand is one process, which may be killed when it comes to a step for the n-th time.
type hand struct {
	pipe   *pipeline.Pipeline
	disk   *vfs.MemFS
	killed atomic.Bool
	cancel context.CancelFunc
	done   chan struct{}
}

func (h *hand) status() []pipeline.ShardStatus { return h.pipe.Status() }

func newCrew(t *testing.T, c oracle.Config, change func(*config.Config)) *crew {
	t.Helper()
	w := &crew{t: t, cfg: configOf(t, c), ends: map[string]map[int32]int64{}, live: map[string]*hand{}}
	cluster, err := kfake.NewCluster(kfake.Ports(9091), kfake.ListenFn(w.network.Listen), kfake.GroupMinSessionTimeout(time.Second), kfake.BrokerConfigs(map[string]string{
		// The embedded broker applies the retention of deleted topics to compacted ones.
		"group.initial.rebalance.delay.ms": "0", "log.retention.ms": "-1",
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w.cluster = cluster
	w.cfg.Kafka.Brokers, w.cfg.State.Dir, w.cfg.Outputs.ReplicationFactor = cluster.ListenAddrs(), "data", 1
	w.cfg.Time.Clock, w.cfg.Cycle.Min, w.cfg.Shards = "manual", 0, c.Partitions
	w.cfg.Group.SessionTimeout, w.cfg.Group.Heartbeat = config.Duration(3*time.Second), config.Duration(300*time.Millisecond)
	change(&w.cfg)
	if w.cl, err = pipeline.Connector(w.cfg.Kafka, kgo.Dialer(w.network.DialContext))(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cl.Close)
	w.adm = kadm.NewClient(w.cl)
	for _, topic := range pipeline.InputTopics(w.cfg) {
		if _, err := w.adm.CreateTopic(t.Context(), c.Partitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		w.ends[topic] = map[int32]int64{}
	}
	if _, err := pipeline.Init(t.Context(), w.adm, w.cfg, w.cfg.Shards, 1, kgo.Dialer(w.network.DialContext)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for name := range w.live {
			w.stop(name)
		}
	})
	return w
}

// start begins the life of a process on its disk, or on a new one.
func (w *crew) start(name string, disk *vfs.MemFS, step pipeline.Step, n int64) {
	w.t.Helper()
	if disk == nil {
		disk = vfs.NewCrashableMem()
	}
	p := &hand{disk: disk, done: make(chan struct{})}
	var times atomic.Int64
	pipe, err := pipeline.New(w.cfg, pipeline.Deps{
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), FS: disk, Manual: &w.clock, Client: []kgo.Opt{kgo.Dialer(w.network.DialContext)},
		Interrupt: func(_ int32, at pipeline.Step) error {
			if at == pipeline.BeforeProduce {
				time.Sleep(30 * time.Millisecond) // so that records come while customers are still moved
			}
			if at == step && times.Add(1) == n {
				p.killed.Store(true)
			}
			if p.killed.Load() {
				return errors.New("killed")
			}
			return nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.pipe, p.cancel = pipe, cancel
	go func() {
		defer close(p.done)
		if err := pipe.Run(ctx); err != nil {
			w.t.Errorf("%s: %v", name, err)
		}
	}()
	w.live[name] = p
}

// stop ends a process, and returns its disk: what was written to it, or after a kill what a crash leaves of it.
func (w *crew) stop(name string) *vfs.MemFS {
	p, disk := w.live[name], (*vfs.MemFS)(nil)
	delete(w.live, name)
	if p.killed.Load() {
		disk = p.disk.CrashClone(vfs.CrashCloneCfg{})
	}
	p.cancel()
	<-p.done
	if disk == nil {
		disk = p.disk
	}
	return disk
}

// revive starts again what a step has killed.
func (w *crew) revive() {
	for name, p := range w.live {
		if p.killed.Load() {
			w.start(name, w.stop(name), "", 0)
		}
	}
}

// await waits, in virtual time, for a condition.
func (w *crew) await(what string, until func() bool) {
	w.t.Helper()
	for began := time.Now(); !until(); time.Sleep(10 * time.Millisecond) {
		if w.revive(); time.Since(began) > 5*time.Minute {
			for name, p := range w.live {
				w.t.Logf("%s: %+v", name, p.pipe.Status())
			}
			w.t.Fatalf("waiting for %s", what)
		}
	}
}

// shardsAre waits until every shard is served and as said.
func (w *crew) shardsAre(what string, is func(pipeline.ShardStatus) bool) {
	w.t.Helper()
	w.await(what, func() bool { return shardsAre(w.cfg.Shards, w.live, is) })
}

// shardsAre says whether every shard is served by somebody and as said.
func shardsAre[P interface{ status() []pipeline.ShardStatus }](shards int32, live map[string]P, is func(pipeline.ShardStatus) bool) bool {
	fine := map[int32]bool{}
	for _, p := range live {
		for _, s := range p.status() {
			fine[s.Shard] = fine[s.Shard] || s.State == "running" && is(s)
		}
	}
	return len(fine) == int(shards) && !slices.Contains(slices.Collect(maps.Values(fine)), false)
}

// write puts records into the inputs.
func (w *crew) write(log ...oracle.Record) {
	w.t.Helper()
	for _, r := range log {
		k := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Timestamp: time.UnixMilli(r.Timestamp), Key: r.Key, Value: r.Value}
		for h, v := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h, Value: []byte(v)})
		}
		if err := w.cl.ProduceSync(w.t.Context(), k).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
		w.ends[r.Topic][r.Partition]++
	}
}

// read waits until everything written has been read.
func (w *crew) read() {
	w.t.Helper()
	w.await("the inputs to be read", func() bool {
		at := map[string]map[int32]int64{}
		for _, p := range w.live {
			for topic, next := range p.pipe.Positions() {
				if at[topic] == nil {
					at[topic] = map[int32]int64{}
				}
				for n, offset := range next {
					at[topic][n] = max(at[topic][n], offset)
				}
			}
		}
		for topic, ends := range w.ends {
			for n, end := range ends {
				if at[topic][n] < end {
					return false
				}
			}
		}
		return true
	})
}

// outputs are the committed records of all output topics.
func (w *crew) outputs() (out []oracle.Output) {
	w.t.Helper()
	for _, topic := range pipeline.OutputTopics(w.cfg) {
		ends, err := w.adm.ListEndOffsets(w.t.Context(), topic.Name)
		if err != nil {
			w.t.Fatal(err)
		}
		cl, err := pipeline.Connector(w.cfg.Kafka, kgo.Dialer(w.network.DialContext))(kgo.KeepControlRecords(), kgo.ConsumeTopics(topic.Name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			w.t.Fatal(err)
		}
		left := map[int32]int64{}
		for n, end := range ends[topic.Name] {
			if end.Offset > 0 {
				left[n] = end.Offset
			}
		}
		for len(left) > 0 {
			fetched := cl.PollFetches(w.t.Context())
			if err := fetched.Err(); err != nil {
				w.t.Fatal(err)
			}
			fetched.EachRecord(func(r *kgo.Record) {
				if r.Offset+1 >= left[r.Partition] {
					delete(left, r.Partition)
				}
				if r.Attrs.IsControl() {
					return
				}
				o := oracle.Output{Topic: strings.TrimPrefix(r.Topic, w.cfg.App+"."), Key: r.Key, Headers: map[string]string{}}
				for _, h := range r.Headers {
					o.Headers[h.Key] = string(h.Value)
				}
				if o.Topic == oracle.DeadLetters {
					o.Raw = r.Value
				} else { // consents and complaints follow the interleaving of the inputs in events, not in the last profile
					d := json.NewDecoder(bytes.NewReader(r.Value))
					d.UseNumber()
					if err := d.Decode(&o.Value); err != nil {
						w.t.Fatal(err)
					}
					if o.Topic != oracle.Profiles {
						delete(o.Value, "consent")
						delete(o.Value, "complaint_open")
					}
				}
				out = append(out, o)
			})
		}
		cl.Close()
	}
	return out
}

// publish makes what a configuration says the next version of the rules, or if these are the same, of the model;
// parameters.ErrSame if that is the same too.
func publish(t *testing.T, cfg config.Config, announce bool, dial kgo.Opt) error {
	t.Helper()
	p, err := parameters.Open(t.Context(), pipeline.Connector(cfg.Kafka, dial), cfg.App)
	if err != nil {
		return err
	}
	defer p.Close()
	rules, err := pipeline.RulesOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	model, err := pipeline.ModelOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	rules.Announce, model.Announce = announce, announce
	if _, err = p.PublishRules(t.Context(), rules, 1); errors.Is(err, parameters.ErrSame) {
		_, err = p.PublishModel(t.Context(), model, 1)
	}
	return err
}

func (w *crew) publish(announce bool, change func(*config.Config)) {
	w.t.Helper()
	cfg := w.cfg
	change(&cfg)
	if err := publish(w.t, cfg, announce, kgo.Dialer(w.network.DialContext)); err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Rules, w.cfg.Churn = cfg.Rules, cfg.Churn // processes that start later have the new file, the others the old one
}

// play makes now the given instant and waits until silence has been played up to it.
func (w *crew) play(now state.Instant) {
	w.t.Helper()
	w.clock.Set(now)
	w.shardsAre("silence to be played", func(s pipeline.ShardStatus) bool { return s.Horizon >= now })
}

// way is how an adoption is carried out, which must not be seen.
type way struct {
	shards          int32
	records, timers int
	sweep           int
	crash           pipeline.Step
	processes       int
}

// story is a log in three parts. After the first, other rules are published, after the second another model, after the
// third other rules; each time the next part comes in while customers are moved.
func (w *crew) story(end state.Instant, log []oracle.Record, how way) []oracle.Output {
	w.t.Helper()
	for i := range how.processes {
		w.start(string(rune('a'+i)), nil, "", 0)
	}
	changes := []func(*config.Config){
		func(c *config.Config) { c.Rules.Name, c.Rules.Segments = "rf10", nil },
		func(c *config.Config) {
			c.Churn.Method, c.Churn.Params.ShopGapDays, c.Churn.Jump = "heuristic", 9, "0.05"
		},
		func(c *config.Config) { c.Rules.Name = "klaviyo6" },
	}
	now := state.Instant(1_700_000_000_000) // before all of it
	for part, change := range changes {
		share := log[part*len(log)/3 : (part+1)*len(log)/3]
		w.write(share...)
		for _, r := range share {
			now = max(now, state.Instant(r.Timestamp))
		}
		w.read()
		w.play(now)
		if how.crash != "" {
			w.start("a", w.stop("a"), how.crash, int64(2+part))
			w.play(now)
		}
		w.publish(part != 1, change)
		want := state.Versions{Rules: []uint32{2, 2, 3}[part], Model: []uint32{1, 2, 2}[part]}
		w.shardsAre("the version to be adopted", func(s pipeline.ShardStatus) bool { return s.Versions == want })
	}
	w.play(max(now, end)) // while customers are moved
	w.shardsAre("rest", func(s pipeline.ShardStatus) bool { return s.Sweep == nil })
	return w.outputs()
}

// TestAdoption: neither the order of the sweep, nor how many it moves at a time, nor which shard adopts first, nor a
// crash in its middle, nor how records are cut into cycles can be seen in what comes out.
func TestAdoption(t *testing.T) {
	seeds := 4
	if n, err := strconv.Atoi(os.Getenv("SEEDS")); err == nil {
		seeds = n
	}
	for seed := 1; seeds > 0; seed++ {
		var want []oracle.Output
		c := oracle.Configs().Example(seed)
		c.Backfill = "emit"
		log := oracle.Logs(c).Example(seed)
		people := map[string]bool{}
		for _, r := range log {
			people[string(r.Key)] = true
		}
		if len(log) < 40 || len(people) < 4 {
			continue // somebody must come while others are moved
		}
		seeds--
		// What comes later than silence was played may depend on when that was, with adoption or without (semantics 1.7).
		slices.SortStableFunc(log, func(a, b oracle.Record) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
		last := c.Partitions
		for i, how := range []way{
			{shards: 1, records: 5000, timers: 2000, sweep: 2000, processes: 1},
			{shards: last, records: 2, timers: 3, sweep: 1, processes: 2},
			{shards: last, records: 3, timers: 1, sweep: 2, processes: 2, crash: pipeline.BeforeEnd},
			{shards: 1, records: 1, timers: 2, sweep: 1, processes: 1, crash: pipeline.AfterEnd},
			{shards: last, records: 5, timers: 5, sweep: 3, processes: 1, crash: pipeline.BeforeProduce},
		} {
			t.Run(fmt.Sprintf("%d/%+v", seed, how), func(t *testing.T) {
				defer forgiveClient(t)
				synctest.Test(t, func(t *testing.T) {
					w := newCrew(t, c, func(cfg *config.Config) {
						cfg.Shards, cfg.Cycle.Records, cfg.Cycle.Timers, cfg.Cycle.Sweep = how.shards, how.records, how.timers, how.sweep
					})
					got := w.story(instantOf(t, c.EndClock), log, how)
					if i == 0 {
						want = got
						causes := map[string]int{}
						for _, o := range got {
							causes[causeOf(o)]++
						}
						t.Logf("causes %v", causes)
						return
					}
					if faults := oracle.Diff(want, got); len(faults) > 0 {
						t.Error(strings.Join(faults, "\n"))
					}
				})
			})
		}
	}
}

func causeOf(o oracle.Output) string {
	if t, ok := o.Value["transition"].(map[string]any); ok {
		return fmt.Sprint(t["cause"])
	}
	if c, ok := o.Value["cause"]; ok {
		return fmt.Sprint(c)
	}
	return o.Topic
}

func instantOf(t *testing.T, s string) state.Instant {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return state.Instant(at.UnixMilli())
}
