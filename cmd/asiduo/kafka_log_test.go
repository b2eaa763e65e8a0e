//go:build kafka

package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state/store"
)

// What the embedded broker cannot show about transactions and logs.

// briefScale is a load for tests that are about something else.
var briefScale = scale{live: 240, quiet: 60, span: 8 * time.Second}

// TestKafkaConcurrentTransactions lets another owner ask for a shard's transactional id while the shard ends a
// transaction, and right after it has: the brokers are still writing the markers then (CONCURRENT_TRANSACTIONS).
func TestKafkaConcurrentTransactions(t *testing.T) {
	broker := realBroker(t)
	dir := filepath.Join(casesDir(), "21-random")
	c, err := oracle.ReadCase(dir)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var mu sync.Mutex
	answers := map[string]int{}
	take := func(shard int32) {
		req := kmsg.NewPtrInitProducerIDRequest()
		id := fmt.Sprintf("%s-%d", c.Config.App, shard)
		req.TransactionalID, req.TransactionTimeoutMillis = &id, 10_000
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		answer := "took over"
		if resp, err := req.RequestWith(ctx, cl); err != nil {
			answer = err.Error()
		} else if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			answer = err.(*kerr.Error).Message
		}
		mu.Lock()
		defer mu.Unlock()
		answers[answer]++
	}
	var others sync.WaitGroup
	turns := 0
	got := interrupted(t, dir, c, variant{records: 3, shards: int32(c.Config.Partitions)}, broker[0], func(shard int32, step pipeline.Step) error {
		mu.Lock()
		turns++
		n := turns
		mu.Unlock()
		switch {
		case step == pipeline.BeforeEnd && n%3 == 0:
			wait := time.Duration(rand.Int64N(int64(3 * time.Millisecond)))
			others.Go(func() { time.Sleep(wait); take(shard) }) // somewhere in the end of the transaction
		case step == pipeline.AfterEnd && n%3 == 1:
			take(shard)
		}
		return nil
	})
	others.Wait()
	report(t, oracle.Diff(c.Want, got))
	t.Logf("InitProducerID beside and after EndTxn: %v", answers)
	if answers["CONCURRENT_TRANSACTIONS"] == 0 || answers["took over"] == 0 {
		t.Errorf("no race was met: %v", answers)
	}
}

// setAside counts the stores that an instance has set aside for a reason.
func (p *process) setAside(reason string) (n int) {
	p.t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "store is set aside") && strings.Contains(line, reason) {
			n++
		}
	}
	return n
}

// TestKafkaForgottenDeletions puts a deletion into the changelog while a process is away, and lets the cleaner forget it:
// only a process that does not trust its old store knows.
func TestKafkaForgottenDeletions(t *testing.T) {
	w := newWorldOf(t, "forgotten", realBroker(t), briefScale, 1, nil)
	topic, life := w.cfg.App+".changelog", 40*time.Second
	alter(t, w, map[string]string{
		"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "2000", "delete.retention.ms": fmt.Sprint(life.Milliseconds()),
	}, topic)
	a := newProcess(t, w, "a")
	a.start()
	w.startLoad(100, a)
	w.settle()
	p := w.load.people[w.load.live]
	record := func(id string) *kgo.Record {
		return &kgo.Record{Topic: topic, Partition: shardOf(t, w, id), Key: store.CustomerKey(nil, id)}
	}
	before := a.command("state", "scan")
	if !strings.Contains(before, p.id) {
		t.Fatalf("customer %s is not there", p.id)
	}
	a.stop()
	a.start() // a store that is young enough is kept
	awaitAll(t, 20*time.Second, "restart", 4, a)
	a.stop()
	if n := a.setAside(""); n > 0 {
		t.Errorf("%d stores were set aside after a moment", n)
	}

	cl, err := kgo.NewClient(kgo.SeedBrokers(w.cfg.Kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	deletion := record(p.id)
	if err := cl.ProduceSync(t.Context(), deletion).FirstErr(); err != nil {
		t.Fatal(err)
	}
	took := await(t, 2*time.Minute, "the cleaner forgets the deletion", func() bool {
		other := record("nobody") // only a segment that is no longer written to is cleaned
		other.Partition = deletion.Partition
		if err := cl.ProduceSync(t.Context(), other).FirstErr(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		return !holds(t, w, deletion)
	})
	t.Logf("the deletion was forgotten after %v", took)
	a.start()
	awaitAll(t, 30*time.Second, "restart", 4, a)
	if n := a.setAside("older than half"); n != worldShards {
		t.Errorf("%d stores were set aside because of their age, wanted all %d", n, worldShards)
	}
	var want strings.Builder
	for line := range strings.Lines(before) {
		if !strings.Contains(line, `"`+p.id+`"`) {
			want.WriteString(line)
		}
	}
	sameState(t, "without the deleted customer", want.String(), a.command("state", "scan"))
	a.stop()
}

func shardOf(t *testing.T, w *world, id string) int32 {
	t.Helper()
	place, err := pipeline.NewPartitioner(w.cfg.Inputs.Partitioner)
	if err != nil {
		t.Fatal(err)
	}
	return place([]byte(id), worldShards)
}

// holds says whether a record is still in its partition: what is read from its offset on begins with it.
func holds(t *testing.T, w *world, r *kgo.Record) bool {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.cfg.Kafka.Brokers...), kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		r.Topic: {r.Partition: kgo.NewOffset().At(r.Offset)},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		fetched := cl.PollRecords(ctx, 1)
		if err := fetched.Err(); err != nil {
			t.Fatal(err)
		}
		for it := fetched.RecordIter(); !it.Done(); {
			return it.Next().Offset == r.Offset
		}
	}
}

// TestKafkaTruncatedChangelog takes the end of the changelog away, as an unclean election of a leader does: a broker
// comes back with an older copy of it. What the store has beyond it is not trusted. Nothing is lost, since the inputs
// are still there; what had been told since is told again, with the same ids, and means the same.
func TestKafkaTruncatedChangelog(t *testing.T) {
	for _, through := range []string{"itself", "another process", "a running process"} {
		t.Run(through, func(t *testing.T) { truncate(t, through) })
	}
}

func truncate(t *testing.T, through string) {
	w := newWorldOf(t, "truncated", realBroker(t), briefScale, 1, func(w *world) {
		c := &w.cfg
		c.Log.Format = "json"
		if through == "a running process" { // which does not lose its shards while the broker is away
			c.Group.SessionTimeout = config.Duration(30 * time.Second)
			c.State.FlushEvery = config.Duration(100 * time.Millisecond) // stores soon have on disk what is cut
		}
	})
	a := newProcess(t, w, "a")
	a.start()
	w.startLoad(100, a)
	somewhere(2 * time.Second)
	a.stop() // no transaction is under way in what is copied
	kept, err := w.adm.ListEndOffsets(t.Context(), w.cfg.App+".changelog")
	if err != nil {
		t.Fatal(err)
	}
	kafkaScript(t, "kill")
	copyPartitions(t, w, w.cfg.App+".changelog", worldShards, func(live, kept string) { copyDir(t, live, kept) })
	kafkaScript(t, "restart")
	a.start()
	awaitAll(t, 30*time.Second, "restart", 4, a)
	before := a.shards()
	t.Logf("all shards had new cycles after %v", awaitCycles(t, 30*time.Second, before, a))
	if through == "a running process" {
		cutUnder(t, w, a)
		return
	}
	somewhere(2 * time.Second)
	a.stop()
	ahead := marks(t, a)
	maps.DeleteFunc(ahead, func(shard int32, at int64) bool { // a slow machine may have had no time to flush
		end, _ := kept.Lookup(w.cfg.App+".changelog", shard)
		return at < end.Offset
	})
	if len(ahead) == 0 {
		t.Fatal("no store is ahead of what was kept")
	}
	kafkaScript(t, "kill")
	copyPartitions(t, w, w.cfg.App+".changelog", worldShards, func(live, kept string) { copyDir(t, kept, live) })
	kafkaScript(t, "restart")

	if through == "another process" { // the log grows beyond what the store has seen of the old one
		b := newProcess(t, w, "b")
		b.start()
		await(t, sessionTimeout+60*time.Second, "the changelog grows beyond the store", func() bool {
			ends, err := w.adm.ListEndOffsets(t.Context(), w.cfg.App+".changelog")
			if err != nil {
				return false
			}
			for shard, at := range ahead {
				if end, _ := ends.Lookup(w.cfg.App+".changelog", shard); end.Offset < at+10 {
					return false
				}
			}
			return true
		})
		b.kill()
	}
	a.start()
	t.Logf("all shards after %v", awaitAll(t, sessionTimeout+30*time.Second, "restart after the changelog was cut", 4, a))
	if n := a.setAside(""); n != len(ahead) {
		t.Errorf("%d stores were set aside, %d were ahead of the changelog: %v", n, len(ahead), ahead)
	}
	if n, _ := a.metric("asiduo_store_rebuilds_total", `reason="diverged"`); n != float64(len(ahead)) {
		t.Errorf("%v rebuilds in the metric, %d stores were ahead", n, len(ahead))
	}
	w.toldAgain(a)
}

// cutUnder takes the end of the changelog away while a process runs: a cycle that is written behind the cut is not committed, since those
// before it are missing, and the shards are rebuilt from what is left, if their stores have what is not. With one broker most notice when they are acquired again: it was away.
func cutUnder(t *testing.T, w *world, a *process) {
	before := a.shards()
	awaitCycles(t, 30*time.Second, before, a)
	time.Sleep(time.Second) // some load to be told again
	kafkaScript(t, "kill")
	copyPartitions(t, w, w.cfg.App+".changelog", worldShards, func(live, kept string) { copyDir(t, kept, live) })
	kafkaScript(t, "restart")
	awaitAll(t, 60*time.Second, "after the changelog was cut", 4, a)
	awaitCycles(t, 30*time.Second, a.shards(), a)
	text, err := os.ReadFile(a.log)
	if err != nil {
		t.Fatal(err)
	}
	aside := a.setAside("")
	t.Logf("%d cycles were not committed behind the cut, %d stores were rebuilt", strings.Count(string(text), "it was cut, or deleted and made again"), aside)
	if aside == 0 {
		t.Error("no store was set aside, though the changelog was cut under it")
	}
	w.toldAgain(a)
}

// toldAgain ends the load: nothing is lost, what had been told since the cut is told again, with the same ids, and means the same.
func (w *world) toldAgain(a *process) {
	t := w.t
	t.Helper()
	w.stopLoad()
	time.Sleep(time.Until(w.load.lastDue()))
	want := w.want()
	repeats := 0
	var diffs []string
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(500 * time.Millisecond) {
		var first, last []oracle.Output
		first, last, repeats = distinct(w.got())
		if diffs = append(oracle.Diff(want, first), oracle.Diff(want, last)...); len(diffs) == 0 {
			break
		}
	}
	report(t, diffs)
	t.Logf("%d events and dead letters were told again", repeats)
	if repeats == 0 {
		t.Error("nothing was told again: was the changelog cut?")
	}
	a.stop()
}

// distinct is what a subscriber keeps who drops what has an id that it knows, and what one keeps who joined late and knows
// only the last of each.
func distinct(all []oracle.Output) (first, last []oracle.Output, repeats int) {
	at := map[string]int{}
	for _, o := range all {
		id := o.Topic + " " + o.Headers["ce_id"]
		if o.Topic == oracle.DeadLetters {
			id = o.Topic + " " + o.Headers["asiduo-topic"] + "/" + o.Headers["asiduo-partition"] + "@" + o.Headers["asiduo-offset"]
		}
		n, there := at[id]
		if !there || o.Topic == oracle.Profiles {
			at[id] = len(first)
			first, last = append(first, o), append(last, o)
			continue
		}
		last[n] = o
		repeats++
	}
	return first, last, repeats
}

// marks are the places in the changelog that the stores of a stopped process have reached.
func marks(t *testing.T, p *process) map[int32]int64 {
	t.Helper()
	o, err := openOffline(p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	at := map[int32]int64{}
	for shard, s := range o.stores {
		m, _, err := s.Mark()
		if err != nil {
			t.Fatal(err)
		}
		at[shard] = m.Offset
	}
	if err := o.close(); err != nil {
		t.Fatal(err)
	}
	return at
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
