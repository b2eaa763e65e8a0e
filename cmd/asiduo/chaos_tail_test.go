//go:build kafka

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state/store"
)

// tail reads what the pipeline writes while it is written: compaction will have removed most of it when all is over.
// Two of them read the same topics: one only what is committed, as a subscriber must, one everything.
type tail struct {
	t         testing.TB
	w         *world
	cl        *kgo.Client
	committed bool
	running   sync.WaitGroup

	mu     sync.Mutex
	faults int
	counts map[string]int // records by topic
	next   map[string]map[int32]int64
	shards []shardTail
	told   map[string]int64 // last sequence by topic and customer
	dead   map[string]bool  // dead letters by the record they are about
}

// shardTail is what has been read of one partition of the changelog.
type shardTail struct {
	owner  string // the last that has said so; empty when compaction may have removed it
	last   store.Checkpoint
	owners []ownership
	cycles []cycleSeen
	values map[string][]valueAt // by key, committed
	open   map[int64][]writing  // by producer, what is not decided; who reads only what is committed needs none
	gaps   int                  // places where compaction was faster than the tail
	missed []uint64             // cycles that were not seen, of those that are committed
	tries  uint64               // the cycle of the last checkpoint, which is not decided; 0 if there is none
	done   map[uint64]bool      // cycles that were seen to be committed
	stale  int                  // records by an owner that had been fenced
}

// ownership is an owner record.
type ownership struct {
	at              time.Time // the brokers' time, as of everything here
	owner, instance string
}

// cycleSeen is a committed checkpoint.
type cycleSeen struct {
	at     time.Time
	owner  string
	offset int64
}

// valueAt is a value that a key has had.
type valueAt struct {
	offset int64
	value  string
}

// writing is a record of a transaction.
type writing struct {
	key string
	valueAt
}

// tailed are the topics that shards write.
func tailed(w *world) []string {
	topics := []string{w.cfg.App + ".changelog"}
	for _, topic := range pipeline.OutputTopics(w.cfg) {
		topics = append(topics, topic.Name)
	}
	return topics
}

func newTail(t testing.TB, w *world, committed bool) *tail {
	t.Helper()
	l := &tail{
		t: t, w: w, committed: committed, counts: map[string]int{}, next: map[string]map[int32]int64{},
		shards: make([]shardTail, worldShards), told: map[string]int64{}, dead: map[string]bool{},
	}
	for i := range l.shards {
		l.shards[i].values, l.shards[i].done, l.shards[i].open = map[string][]valueAt{}, map[uint64]bool{}, map[int64][]writing{}
	}
	level := kgo.ReadUncommitted()
	if committed {
		level = kgo.ReadCommitted()
	}
	from := map[string]map[int32]kgo.Offset{}
	for _, topic := range tailed(w) {
		from[topic], l.next[topic] = map[int32]kgo.Offset{}, map[int32]int64{}
		for p := range int32(worldShards) {
			from[topic][p] = kgo.NewOffset().AtStart()
		}
	}
	var err error
	if l.cl, err = pipeline.Connector(w.cfg.Kafka)(kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(), kgo.ConsumePartitions(from)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.running.Go(func() { l.run(ctx) })
	t.Cleanup(func() {
		cancel()
		l.running.Wait()
		l.cl.Close()
	})
	return l
}

func (l *tail) run(ctx context.Context) {
	for {
		fetched := l.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		for _, e := range fetched.Errors() {
			if lost, ok := errors.AsType[*kgo.ErrDataLoss](e.Err); ok {
				l.fault("%v", lost)
			}
		}
		for it := fetched.RecordIter(); !it.Done(); {
			l.take(it.Next())
		}
		l.mu.Unlock()
	}
}

// fault reports what must not be. There may be very many for one reason.
func (l *tail) fault(format string, a ...any) {
	if l.faults++; l.faults <= 10 {
		l.t.Errorf(format, a...)
	}
}

func (l *tail) take(r *kgo.Record) {
	gap := r.Offset != l.next[r.Topic][r.Partition]
	l.next[r.Topic][r.Partition] = r.Offset + 1
	name := strings.TrimPrefix(r.Topic, l.w.cfg.App+".")
	if name == "changelog" {
		l.changelog(&l.shards[r.Partition], r, gap)
	}
	if r.Attrs.IsControl() {
		return
	}
	l.counts[name]++
	if l.committed {
		l.subscribe(name, r)
	}
}

// subscribe is a subscriber who trusts nothing: per customer, sequences begin at 1 and follow each other.
func (l *tail) subscribe(name string, r *kgo.Record) {
	where := fmt.Sprintf("%s/%d@%d", name, r.Partition, r.Offset)
	headers := map[string]string{}
	for _, h := range r.Headers {
		headers[h.Key] = string(h.Value)
	}
	switch letter := map[string]string{"segment-changes": "s", "churn-risk": "r"}[name]; {
	case letter != "":
		var v struct {
			Sequence int64 `json:"sequence"`
		}
		if err := json.Unmarshal(r.Value, &v); err != nil {
			l.fault("%s: %v", where, err)
			return
		}
		of := letter + string(r.Key)
		if v.Sequence != l.told[of]+1 {
			l.fault("%s: customer %s gets %d after %d", where, r.Key, v.Sequence, l.told[of])
		}
		l.told[of] = v.Sequence
		if want := fmt.Sprintf("%s:1:%s:%s%d", l.w.cfg.App, r.Key, letter, v.Sequence); headers["ce_id"] != want {
			l.fault("%s: id is %s, wanted %s", where, headers["ce_id"], want)
		}
	case name == "dead-letters":
		of := headers["asiduo-topic"] + "/" + headers["asiduo-partition"] + "@" + headers["asiduo-offset"]
		if l.dead[of] {
			l.fault("%s: dead letter of %s again", where, of)
		}
		l.dead[of] = true
	}
}

// changelog holds that a shard has one owner, whose cycles follow each other, and remembers values.
func (l *tail) changelog(s *shardTail, r *kgo.Record, gap bool) {
	if gap && !l.committed { // whoever reads only what is committed sees gaps where there was more
		s.gaps++
		s.owner = ""
		clear(s.open) // a marker may have been among what is missing
	}
	if r.Attrs.IsControl() {
		s.decide(r.ProducerID, r.Key[3] == 1 && !l.committed)
		return
	}
	where := fmt.Sprintf("changelog %d@%d", r.Partition, r.Offset)
	switch string(r.Key) {
	case "owner":
		var o struct{ Owner, Instance string }
		if err := json.Unmarshal(r.Value, &o); err != nil {
			l.fault("%s: %v", where, err)
		}
		s.owner = o.Owner
		s.owners = append(s.owners, ownership{r.Timestamp, o.Owner, o.Instance})
	case "checkpoint":
		var c store.Checkpoint
		if err := json.Unmarshal(r.Value, &c); err != nil {
			l.fault("%s: %v", where, err)
		}
		if !l.committed {
			if s.owner != "" && c.Owner != s.owner {
				s.stale++
				l.fault("%s: a checkpoint by %s, but %s owns the shard", where, c.Owner, s.owner)
			}
			s.tries = c.Cycle
			return
		}
		l.checkpoint(s, where, &c)
		s.cycles = append(s.cycles, cycleSeen{r.Timestamp, c.Owner, r.Offset})
	default:
		v := writing{string(r.Key), valueAt{r.Offset, string(r.Value)}}
		if l.committed {
			s.values[v.key] = append(s.values[v.key], v.valueAt)
		} else {
			s.open[r.ProducerID] = append(s.open[r.ProducerID], v)
		}
	}
}

// decide ends what is open of a producer.
func (s *shardTail) decide(producer int64, commit bool) {
	if commit {
		for _, v := range s.open[producer] {
			s.values[v.key] = append(s.values[v.key], v.valueAt)
		}
		if s.tries > 0 {
			s.done[s.tries] = true
		}
	}
	delete(s.open, producer)
	s.tries = 0
}

// add takes over values that another tail has seen: each may have been overtaken by the cleaner where the other was not.
func (l *tail) add(other *tail) {
	for i := range l.shards {
		values := l.shards[i].values
		for key, more := range other.shards[i].values {
			all := slices.Concat(values[key], more)
			slices.SortFunc(all, func(a, b valueAt) int { return cmp.Compare(a.offset, b.offset) })
			values[key] = slices.CompactFunc(all, func(a, b valueAt) bool { return a.offset == b.offset })
		}
	}
}

// interrupted says whether a store may be what a restore has left that did not come to its end. Restores write 1 MB at
// once, and until they end they leave the time at which the store was last at the end of the changelog. So there must be
// that much from then up to the mark, for one that was never whole from the beginning: at the most, with a timer for each
// record and a mark for each cycle.
func (s *shardTail) interrupted(whole bool, m *store.Mark) bool {
	from, n := int64(-1), 0
	for _, c := range s.cycles {
		if whole && c.at.UnixMilli() <= m.Written {
			from = max(from, c.offset)
		}
	}
	between := func(offset int64) bool { return from < offset && offset <= m.Offset }
	for _, c := range s.cycles {
		if between(c.offset) {
			n += 1 << 10
		}
	}
	for key, all := range s.values {
		for _, v := range all {
			if between(v.offset) {
				n += len(key) + len(v.value) + 64
			}
		}
	}
	return n > 1<<20
}

func (l *tail) checkpoint(s *shardTail, where string, c *store.Checkpoint) {
	if c.Cycle <= s.last.Cycle {
		l.fault("%s: cycle %d after %d", where, c.Cycle, s.last.Cycle)
	}
	for n := s.last.Cycle + 1; n < c.Cycle; n++ {
		s.missed = append(s.missed, n)
	}
	if c.Horizon < s.last.Horizon {
		l.fault("%s: the horizon goes back from %d to %d", where, s.last.Horizon, c.Horizon)
	}
	for topic, at := range s.last.Inputs {
		for p, next := range at.Next {
			if c.Inputs[topic].Next[p] < next {
				l.fault("%s: the position in %s/%d goes back from %d to %d", where, topic, p, next, c.Inputs[topic].Next[p])
			}
		}
	}
	s.last = *c
}

// positions are the committed positions of all shards in the inputs, and the least horizon.
func (l *tail) positions() (next map[string]map[int32]int64, horizon time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next = map[string]map[int32]int64{}
	for i := range l.shards {
		c := &l.shards[i].last
		for topic, at := range c.Inputs {
			if next[topic] == nil {
				next[topic] = map[int32]int64{}
			}
			for p, n := range at.Next {
				next[topic][p] = n
			}
		}
		if at := time.UnixMilli(int64(c.Horizon)); i == 0 || at.Before(horizon) {
			horizon = at
		}
	}
	return next, horizon
}

// catchUp waits until the tail has read all there is.
func (l *tail) catchUp(t testing.TB, adm *kadm.Client) {
	t.Helper()
	await(t, 60*time.Second, "the tail reads to the end", func() bool {
		ends, err := adm.ListEndOffsets(t.Context(), tailed(l.w)...)
		if err != nil || ends.Error() != nil {
			return false
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		behind := false
		ends.Each(func(o kadm.ListedOffset) { behind = behind || l.next[o.Topic][o.Partition] < o.Offset })
		return !behind
	})
}

// at is the last value that a key had up to an offset.
func (s *shardTail) at(key string, offset int64) string {
	list := s.values[key]
	i, found := slices.BinarySearchFunc(list, offset, func(v valueAt, o int64) int { return int(v.offset - o) })
	if found {
		i++
	}
	if i == 0 {
		return ""
	}
	return list[i-1].value
}
