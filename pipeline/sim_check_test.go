//go:build synctests

package pipeline_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

type place struct {
	topic     string
	partition int32
}

// tail reads our topics while the run goes, before compaction removes what only the history tells: everything, and
// what is committed as a subscriber sees it.
type tail struct {
	w       *world
	cancel  context.CancelFunc
	readers sync.WaitGroup

	mu             sync.Mutex
	all, committed map[place][]*kgo.Record // with control records
}

// shardTopics are the topics that have a partition for each shard.
func shardTopics(c config.Config) []pipeline.Topic {
	return slices.DeleteFunc(pipeline.OwnTopics(c), func(t pipeline.Topic) bool { return t.Partitions > 0 })
}

// follow reads on.
func (t *tail) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	t.read(ctx, t.all, kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
	t.read(ctx, t.committed)
}

func (t *tail) read(ctx context.Context, into map[place][]*kgo.Record, more ...kgo.Opt) {
	from := map[string]map[int32]kgo.Offset{}
	for _, topic := range shardTopics(t.w.cfg) {
		from[topic.Name] = map[int32]kgo.Offset{}
		for s := range t.w.cfg.Shards {
			from[topic.Name][s] = kgo.NewOffset().At(next(into[place{topic.Name, s}]))
		}
	}
	cl := t.w.client(append(more, kgo.KeepControlRecords(), kgo.ConsumePartitions(from), kgo.FetchMaxWait(time.Second))...)
	t.readers.Go(func() {
		defer cl.Close()
		for ctx.Err() == nil {
			fetched := cl.PollFetches(ctx)
			for _, e := range fetched.Errors() {
				if ctx.Err() == nil {
					t.w.note("tail: %s/%d: %v", e.Topic, e.Partition, e.Err)
				}
			}
			t.mu.Lock()
			fetched.EachRecord(func(r *kgo.Record) {
				at := place{r.Topic, r.Partition}
				into[at] = append(into[at], r)
			})
			t.mu.Unlock()
		}
	})
}

func (t *tail) stop() {
	t.cancel()
	t.readers.Wait()
}

func next(rs []*kgo.Record) int64 {
	if len(rs) == 0 {
		return 0
	}
	return rs[len(rs)-1].Offset + 1
}

// caughtUp waits until everything has been read, and says whether nothing is left undecided.
func (t *tail) caughtUp(within time.Duration) bool {
	t.w.t.Helper()
	for began := time.Now(); time.Since(began) < within; time.Sleep(50 * time.Millisecond) {
		behind := false
		for _, topic := range shardTopics(t.w.cfg) {
			for s := range t.w.cfg.Shards {
				end := t.w.cluster.PartitionInfo(topic.Name, s).HighWatermark
				t.mu.Lock()
				at := place{topic.Name, s}
				behind = behind || next(t.all[at]) < end || next(t.committed[at]) < end
				t.mu.Unlock()
			}
		}
		if !behind {
			return true
		}
	}
	return false
}

// decided is what markers of transactions have made visible; it does not believe the client.
func (t *tail) decided(at place) (visible []*kgo.Record, aborted int, open int) {
	pending := map[int64][]*kgo.Record{}
	for _, r := range t.all[at] {
		if !r.Attrs.IsControl() {
			pending[r.ProducerID] = append(pending[r.ProducerID], r)
			continue
		}
		const commit = 1
		if binary.BigEndian.Uint16(r.Key[2:]) == commit {
			visible = append(visible, pending[r.ProducerID]...)
		} else {
			aborted += len(pending[r.ProducerID])
		}
		delete(pending, r.ProducerID)
	}
	for _, rs := range pending {
		open += len(rs)
	}
	slices.SortFunc(visible, func(a, b *kgo.Record) int { return int(a.Offset - b.Offset) })
	return visible, aborted, open
}

// settled is what is visible of our topics, by partition, after everything has stopped: nothing is left undecided there.
func (w *world) settled() map[place][]*kgo.Record {
	w.t.Helper()
	if !w.tail.caughtUp(time.Minute) {
		w.t.Errorf("[open transaction] the topics cannot be read to their ends: %s", w.ends())
	}
	if found, err := w.adm.ListTransactions(w.t.Context(), nil, []string{"Ongoing"}); err != nil {
		w.t.Error(err)
	} else if ongoing := found.TransactionalIDs(); len(ongoing) > 0 {
		w.t.Errorf("[open transaction] %v", ongoing)
	}
	visible := map[place][]*kgo.Record{}
	for _, topic := range shardTopics(w.cfg) {
		for s := range w.cfg.Shards {
			at := place{topic.Name, s}
			rs, aborted, open := w.tail.decided(at)
			if aborted > 0 {
				w.hit("output: aborted transaction")
			}
			if open > 0 {
				w.t.Errorf("[open transaction] %d records of %v", open, at)
			}
			data := slices.DeleteFunc(slices.Clone(w.tail.committed[at]), func(r *kgo.Record) bool { return r.Attrs.IsControl() })
			if !slices.EqualFunc(rs, data, func(a, b *kgo.Record) bool { return a.Offset == b.Offset && bytes.Equal(a.Value, b.Value) }) {
				w.t.Errorf("[committed view] %v: the markers make %d records visible, a subscriber sees %d", at, len(rs), len(data))
			}
			visible[at] = rs
		}
	}
	return visible
}

// check judges the run after everything has stopped.
func (w *world) check() {
	w.t.Helper()
	visible := w.settled()
	var got []oracle.Output
	var lost []*kgo.Record
	for _, topic := range shardTopics(w.cfg) {
		if strings.HasSuffix(topic.Name, ".changelog") {
			continue
		}
		for s := range w.cfg.Shards {
			for _, r := range visible[place{topic.Name, s}] {
				if o := w.output(r); o.Headers["asiduo-reason"] == "input_lost" {
					lost = append(lost, r)
				} else {
					got = append(got, o)
				}
			}
		}
	}
	var looks []oracle.Look
	horizons := map[string]int64{}
	set := w.published()
	enc := events.New(w.cfg.App, w.c.Epoch, w.params(set, w.versions), w.cfg.Currency, w.cfg.Digits())
	for s := range w.cfg.Shards {
		l := w.checkChangelog(s, visible[place{w.cfg.App + ".changelog", s}], set)
		w.checkReached(s, l.last)
		w.checkPopulation(s, set, l.state)
		looks = append(looks, l.looks...)
		for at, h := range l.horizons {
			horizons[at] = h
		}
		got = append(got, w.profiles(enc, l.state, visible[place{w.cfg.App + "." + oracle.Profiles, s}])...)
	}
	w.checkStores(visible)
	w.checkCuts(set)
	log := w.without(lost, visible)
	if w.t.Failed() {
		return // the oracle would only repeat it
	}
	want, silences, err := oracle.Replay(w.c, log, looks)
	if err != nil {
		w.t.Errorf("[oracle] %v", err)
		return
	}
	for _, l := range silences {
		if s := w.place([]byte(l.Customer), w.cfg.Shards); true {
			w.checkEarly(fmt.Sprintf("silence of %q", l.Customer), s, l.At, l.Next[w.cfg.Inputs.Purchases])
		}
	}
	if w.among.late {
		w.checkLate(want, visible)
	}
	for _, d := range oracle.Diff(want, got) {
		w.t.Errorf("[oracle] %s", d)
	}
}

// ends says how far the topics go and how far they are decided.
func (w *world) ends() string {
	var b strings.Builder
	for _, topic := range shardTopics(w.cfg) {
		for s := range w.cfg.Shards {
			i := w.cluster.PartitionInfo(topic.Name, s)
			at := place{topic.Name, s}
			fmt.Fprintf(&b, "\n%v: end %d, stable %d, read %d, committed %d", at, i.HighWatermark, i.LastStableOffset, next(w.tail.all[at]), next(w.tail.committed[at]))
		}
	}
	return b.String()
}

// told is what the changelog of a shard tells.
type told struct {
	last     store.Checkpoint
	state    map[string][]byte
	looks    []oracle.Look
	horizons map[string]int64
}

// checkChangelog holds a shard's committed changelog against what it promises.
func (w *world) checkChangelog(s int32, rs []*kgo.Record, set *parameters.Set) told {
	w.t.Helper()
	l, before := told{state: map[string][]byte{}, horizons: map[string]int64{}}, map[string][]byte{}
	wrong := func(check string, r *kgo.Record, format string, args ...any) {
		w.t.Helper()
		w.t.Errorf("[%s] changelog %d@%d: %s", check, s, r.Offset, fmt.Sprintf(format, args...))
	}
	owner := ""
	var last store.Checkpoint
	var touched []*kgo.Record
	for _, r := range rs {
		switch string(r.Key) {
		case "owner":
			var o struct{ Owner string }
			if err := json.Unmarshal(r.Value, &o); err != nil {
				wrong("changelog", r, "%v", err)
			}
			if len(touched) > 0 {
				wrong("checkpoint", r, "an owner record after records of a state without checkpoint")
			}
			owner = o.Owner
		case "checkpoint":
			var c store.Checkpoint
			if err := json.Unmarshal(r.Value, &c); err != nil {
				wrong("changelog", r, "%v", err)
			}
			if c.Owner != owner {
				wrong("owner", r, "a checkpoint of %s, the owner is %s", c.Owner, owner)
			}
			if c.Cycle != last.Cycle+1 {
				wrong("cycle", r, "cycle %d after %d", c.Cycle, last.Cycle)
			}
			if c.Horizon < last.Horizon {
				wrong("horizon", r, "it goes back from %d to %d", last.Horizon, c.Horizon)
			}
			if c.Horizon > last.Horizon {
				w.checkEarly(fmt.Sprintf("changelog %d@%d: horizon", s, r.Offset), s, int64(c.Horizon), c.Inputs[w.cfg.Inputs.Purchases].Next)
			}
			l.looks = append(l.looks, w.adoptions(&last, &c, set)...)
			w.checkPositions(s, last, c, func(format string, args ...any) { wrong("positions", r, format, args...) })
			for _, t := range touched {
				var customer state.Customer
				if !store.IsCustomerKey(t.Key) || len(t.Value) == 0 {
					continue
				}
				if err := customer.Decode(t.Value); err != nil {
					wrong("changelog", t, "%v", err)
				}
				if look, looked := w.moved(before[string(t.Key)], &last, &c, set); looked {
					look.Customer = store.CustomerID(t.Key)
					l.looks = append(l.looks, look)
				}
				if customer.Evaluated {
					l.looks = append(l.looks, oracle.Look{Customer: store.CustomerID(t.Key), At: int64(customer.EvaluatedAt), Next: positions(c)})
				}
			}
			touched, last = nil, c
			clear(before)
		default:
			if owner == "" {
				wrong("owner", r, "a record of a state before the first owner")
			}
			touched = append(touched, r)
			before[string(r.Key)], l.state[string(r.Key)] = l.state[string(r.Key)], r.Value
		}
	}
	if len(touched) > 0 {
		wrong("checkpoint", touched[0], "the last records of a state are without checkpoint")
	}
	l.last = last
	l.looks = ofEverybody(l.looks, l.state)
	return l
}

// checkReached holds that a shard has come to the end of its inputs and stands under what is published.
func (w *world) checkReached(s int32, last store.Checkpoint) {
	w.t.Helper()
	for topic, n := range w.partitions {
		for p := s; p < n; p += w.cfg.Shards {
			if end := w.cluster.PartitionInfo(topic, p).HighWatermark; last.Inputs[topic].Next[p] != end && (end > 0 || last.Cycle > 0) {
				w.t.Errorf("[positions] changelog %d: the last checkpoint is at %s/%d@%d, the input ends at %d", s, topic, p, last.Inputs[topic].Next[p], end)
			}
		}
	}
	if last.Sweep != nil || last.Cycle > 0 && last.Versions != w.versions {
		w.t.Errorf("[adoption] changelog %d: it ends with %+v, sweep %+v; %+v is published", s, last.Versions, last.Sweep, w.versions)
	}
}

func positions(c store.Checkpoint) map[string]map[int32]int64 {
	all := map[string]map[int32]int64{}
	for topic, in := range c.Inputs {
		all[topic] = in.Next
	}
	return all
}

// ofEverybody makes each adoption one of every customer.
func ofEverybody(looks []oracle.Look, kv map[string][]byte) (all []oracle.Look) {
	for _, l := range looks {
		if l.Adopted == nil {
			all = append(all, l)
			continue
		}
		for key := range kv {
			if store.IsCustomerKey([]byte(key)) {
				l.Customer = store.CustomerID([]byte(key))
				all = append(all, l)
			}
		}
	}
	return all
}

func (w *world) checkPositions(s int32, last, c store.Checkpoint, wrong func(string, ...any)) {
	for topic, in := range c.Inputs {
		if was := last.Inputs[topic].TopicID; was != "" && was != in.TopicID {
			wrong("%s is another topic than before", topic)
		}
		for p, n := range last.Inputs[topic].Next {
			if now, ok := in.Next[p]; !ok || now < n {
				wrong("%s/%d goes back from %d to %d", topic, p, n, now)
			}
		}
		for p, n := range in.Next {
			if p%w.cfg.Shards != s {
				wrong("%s/%d is another shard's", topic, p)
			}
			if end := w.cluster.PartitionInfo(topic, p).HighWatermark; n > end && topic != w.remade {
				wrong("%s/%d is at %d, beyond the end at %d", topic, p, n, end)
			}
		}
	}
	if len(c.Inputs) != len(w.partitions) {
		wrong("%d inputs", len(c.Inputs))
	}
}

// checkEarly proves that nobody was called silent up to an instant while records that were there before wait unread.
func (w *world) checkEarly(what string, s int32, at int64, next map[int32]int64) {
	w.t.Helper()
	if w.cfg.Time.Clock == "broker" {
		at += w.cfg.Time.Grace.Std().Milliseconds()
	}
	if now := w.instant(); at > now {
		w.t.Errorf("[early] %s at %d, now is %d", what, at, now)
	}
	for _, r := range w.log {
		if r.Topic == w.cfg.Inputs.Purchases && r.Partition%w.cfg.Shards == s && r.known < at && r.Offset >= next[r.Partition] {
			w.t.Errorf("[early] %s at %d, though %s/%d@%d was there at %d and not yet read", what, at, r.Topic, r.Partition, r.Offset, r.known)
			return
		}
	}
}

// profiles are what the state in the changelog says of each customer, which must be what the topic of profiles says too.
func (w *world) profiles(enc *events.Encoder, kv map[string][]byte, topic []*kgo.Record) (got []oracle.Output) {
	w.t.Helper()
	published := map[string][]byte{}
	for _, r := range topic {
		published[string(r.Key)] = r.Value
	}
	ids := map[string]bool{}
	for key := range kv {
		ids[store.CustomerID([]byte(key))] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		var c *state.Customer
		var n *state.Interactions
		var err error
		if b := kv[string(store.CustomerKey(nil, id))]; len(b) > 0 {
			c = &state.Customer{}
			err = c.Decode(b)
		}
		if b := kv[string(store.InteractionsKey(nil, id))]; len(b) > 0 {
			n = &state.Interactions{}
			err = errors.Join(err, n.Decode(b))
		}
		if err != nil {
			w.t.Errorf("[changelog] %q: %v", id, err)
			continue
		}
		p := enc.Profile(id, c, n)
		if !bytes.Equal(p.Value, published[id]) {
			w.t.Errorf("[profile] %q: the changelog says %s\nthe topic says %s", id, p.Value, published[id])
		}
		got = append(got, w.output(&kgo.Record{Topic: p.Topic, Key: p.Key, Value: p.Value}))
	}
	return got
}

// output is a record as the oracle sees it.
func (w *world) output(r *kgo.Record) oracle.Output {
	w.t.Helper()
	o := oracle.Output{Topic: strings.TrimPrefix(r.Topic, w.cfg.App+"."), Key: r.Key, Headers: map[string]string{}}
	for _, h := range r.Headers {
		o.Headers[h.Key] = string(h.Value)
	}
	if o.Topic == oracle.DeadLetters {
		w.hit("dead letter")
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
