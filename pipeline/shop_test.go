package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/events"
)

// shop is an application of two shards on a broker of its own, and one process of it at a time.
type shop struct {
	t    *testing.T
	cfg  config.Config
	cl   *kgo.Client
	adm  *kadm.Client
	ends map[string]map[int32]int64 // of the inputs, as written
	who  [2]string                  // a customer of each shard

	place Partitioner

	cluster  *kfake.Cluster
	disk     vfs.FS
	clock    Manual
	log      logged
	pipe     *Pipeline
	registry *prometheus.Registry
	stop     func() // ends the process and returns when it has ended
}

func newShop(t *testing.T, opts ...kfake.Opt) *shop {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second), kfake.SeedTopics(2, "purchases", "interactions"),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg := config.Default()
	cfg.App, cfg.Currency, cfg.Time.Clock, cfg.State.Dir, cfg.Cycle.Min = "shop", "EUR", "manual", "data", 0
	cfg.Kafka.Brokers, cfg.Outputs.ReplicationFactor = cluster.ListenAddrs(), 1
	cfg.Group.SessionTimeout, cfg.Group.Heartbeat = config.Duration(2*time.Second), config.Duration(100*time.Millisecond)
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	s := &shop{t: t, cfg: cfg, cluster: cluster, cl: cl, adm: kadm.NewClient(cl), ends: map[string]map[int32]int64{}, disk: vfs.NewMem()}
	if _, err := Init(t.Context(), s.adm, cfg, 2, 1); err != nil {
		t.Fatal(err)
	}
	place, err := NewPartitioner("murmur2")
	if err != nil {
		t.Fatal(err)
	}
	s.place = place
	for i := 0; s.who[0] == "" || s.who[1] == ""; i++ {
		id := fmt.Sprintf("customer-%d", i)
		s.who[place([]byte(id), 2)] = id
	}
	return s
}

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// lines are those that contain a text.
func (l *logged) lines(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// start runs a process on the shop's disk.
func (s *shop) start(change ...func(*Pipeline)) {
	s.t.Helper()
	pipe := s.process(change...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- pipe.Run(ctx) }()
	var stopped atomic.Bool
	s.stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("run: %v", err)
		}
	}
	s.t.Cleanup(s.stop)
}

// process makes a process that does not run yet.
func (s *shop) process(change ...func(*Pipeline)) *Pipeline {
	s.t.Helper()
	s.registry = prometheus.NewRegistry()
	pipe, err := New(s.cfg, Deps{Log: slog.New(slog.NewTextHandler(&s.log, nil)), Registry: s.registry, FS: s.disk, Manual: &s.clock, Client: []kgo.Opt{
		kgo.MetadataMinAge(10 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond }),
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range change {
		f(pipe)
	}
	s.pipe = pipe
	return pipe
}

// order is a purchase of a customer, with other members instead of its own if they are given.
func order(who, id string) string {
	return fmt.Sprintf(`{"order_id":%q,"customer_id":%q,"ordered_at":"2024-05-01T09:00:00Z","amount":"12.50","currency":"EUR"}`, id, who)
}

// put writes a record, stamped 2024-05-01T10:00:00Z, and returns its offset.
func (s *shop) put(topic string, partition int32, key, value string) int64 {
	s.t.Helper()
	r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte(key), Value: []byte(value), Timestamp: time.UnixMilli(draftedAt)}
	if err := s.cl.ProduceSync(s.t.Context(), r).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	if topic == "purchases" || topic == "interactions" {
		if s.ends[topic] == nil {
			s.ends[topic] = map[int32]int64{}
		}
		s.ends[topic][partition] = r.Offset + 1
	}
	return r.Offset
}

// buy writes an order of the customer of each shard.
func (s *shop) buy(id string) {
	s.t.Helper()
	for shard, who := range s.who {
		s.put("purchases", int32(shard), who, order(who, id))
	}
}

// crowd writes one order of each of many customers.
func (s *shop) crowd(n int) {
	s.t.Helper()
	place, err := NewPartitioner("murmur2")
	if err != nil {
		s.t.Fatal(err)
	}
	if s.ends["purchases"] == nil {
		s.ends["purchases"] = map[int32]int64{}
	}
	var all []*kgo.Record
	for i := range n {
		who := fmt.Sprintf("%x", i*7919)
		shard := place([]byte(who), 2)
		all = append(all, &kgo.Record{Topic: "purchases", Partition: shard, Key: []byte(who), Value: []byte(order(who, who)), Timestamp: time.UnixMilli(draftedAt)})
		s.ends["purchases"][shard]++
	}
	if err := s.cl.ProduceSync(s.t.Context(), all...).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

// patience is how long a test waits for what mostly takes milliseconds: a machine may be busy with others.
var patience = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("ASIDUO_PATIENCE")); err == nil {
		return d
	}
	return time.Minute
}()

// await waits for a condition of the process.
func (s *shop) await(what string, until func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.pipe.Wait(ctx, until); err != nil {
		s.t.Fatalf("waiting for %s: %v; %+v", what, err, s.pipe.Status())
	}
}

// read waits until everything written has been processed on the given shards.
func (s *shop) read(shards ...int32) {
	s.t.Helper()
	s.await("the inputs to be read", func() bool {
		at := s.pipe.Positions()
		for topic, ends := range s.ends {
			for n, end := range ends {
				if slices.Contains(shards, n%int32(len(s.who))) && at[topic][n] < end {
					return false
				}
			}
		}
		return true
	})
}

// stopped waits until a shard has stopped, and holds that it says why and that readiness and metrics do.
func (s *shop) stopped(shard int32, reason, why string) {
	s.t.Helper()
	var status ShardStatus
	s.await("the shard to stop", func() bool {
		for _, status = range s.pipe.Status() {
			if status.Shard == shard && (status.State == "stopped" || s.counter("asiduo_shard_closed_total", "error") > 3) {
				return true
			}
		}
		return false
	})
	if status.Reason != why {
		s.t.Errorf("the shard is %s:\n%s\nwant\n%s", status.State, status.Reason, why)
	}
	if err := s.pipe.Ready(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("shard %d is stopped: %s", shard, why)) {
		s.t.Errorf("ready says %v", err)
	}
	if n := s.counter("asiduo_shard_closed_total", reason); n < 1 {
		s.t.Errorf("the shard has not been closed for %s", reason)
	}
}

// counter is the sum of a metric over the series that have a label of that value; of a histogram, how much was observed.
func (s *shop) counter(name, value string) (sum float64) {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == value {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
					break
				}
			}
		}
	}
	return sum
}

// gauge is the value of a metric without labels.
func (s *shop) gauge(name string) (v float64) {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			v = f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return v
}

// letters are the dead letters: reason by place.
func (s *shop) letters() map[string]string {
	s.t.Helper()
	found := map[string]string{}
	for _, r := range s.out(events.DeadLetters) {
		h := headersOf(r)
		at := h[events.TopicHeader] + "/" + h[events.PartitionHeader] + "@" + h[events.OffsetHeader]
		if found[at] != "" {
			s.t.Errorf("two dead letters of %s", at)
		}
		found[at] = h[events.ReasonHeader]
	}
	return found
}

func headersOf(r *kgo.Record) map[string]string {
	h := map[string]string{}
	for _, kv := range r.Headers {
		h[kv.Key] = string(kv.Value)
	}
	return h
}

// out are the committed records of an output.
func (s *shop) out(output string) (rs []*kgo.Record) {
	s.t.Helper()
	topic := s.cfg.App + "." + output
	ends, err := s.adm.ListEndOffsets(s.t.Context(), topic)
	if err != nil {
		s.t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.cfg.Kafka.Brokers...), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	next := map[int32]int64{}
	for next[0] < ends[topic][0].Offset || next[1] < ends[topic][1].Offset {
		fetched := cl.PollFetches(s.t.Context())
		if err := fetched.Err(); err != nil {
			s.t.Fatal(err)
		}
		for r := range fetched.RecordsAll() {
			if next[r.Partition] = r.Offset + 1; !r.Attrs.IsControl() {
				rs = append(rs, r)
			}
		}
	}
	return rs
}
