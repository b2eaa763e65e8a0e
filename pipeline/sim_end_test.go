//go:build synctests

package pipeline_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/sinks/events"
)

// epilogue does to an input what no process can go on after, while they run and other things go wrong. The shards that have read
// there must stop and say why, nothing more may come out of them, and the others go on.
func (w *world) epilogue() {
	w.t.Helper()
	if w.cfg.Inputs.Lost != "stop" {
		return
	}
	inputs := pipeline.InputTopics(w.cfg)
	at := place{topic: inputs[w.rng.IntN(len(inputs))]}
	at.partition = w.rng.Int32N(w.partitions[at.topic])
	kind := w.rng.IntN(4)
	next, _ := w.taken(at.topic, at.partition)
	if kind == 3 || kind == 2 && next == 0 {
		return
	}
	w.kept = nil // they are judged
	w.start("a")
	w.start("b")
	w.await("everybody to run", w.adopted)
	time.Sleep(5 * time.Second)
	before := w.written()
	w.trouble()
	stops, why := []int32{at.partition % w.cfg.Shards}, ""
	switch kind {
	case 0:
		why = w.truncate(at)
	case 1:
		why = w.remake(at.topic)
		stops = nil
		for s := range w.cfg.Shards {
			stops = append(stops, s)
		}
	case 2:
		why = w.cutTail(at, w.rng.Int64N(next))
	}
	w.note("shards %v must stop: %s", stops, why)
	for n := range w.partitions[at.topic] { // not what may still be read by who stops
		if n == at.partition || !slices.Contains(stops, n%w.cfg.Shards) {
			w.nobody(place{at.topic, n})
		}
	}
	time.Sleep(w.some(10 * time.Second))
	w.heal()
	w.await("the shards to stop", func() bool {
		return !slices.ContainsFunc(stops, func(s int32) bool { return !w.stopped(s, why) })
	})
	w.await("the others to go on", func() bool {
		for n := range w.partitions[at.topic] {
			if next, _ := w.taken(at.topic, n); !slices.Contains(stops, n%w.cfg.Shards) && next < w.cluster.PartitionInfo(at.topic, n).HighWatermark {
				return false
			}
		}
		return true
	})
	if w.cfg.Time.Clock == "broker" { // silence has been played until they stopped
		before = w.written()
		time.Sleep(2 * time.Minute)
	}
	for _, name := range slices.Sorted(maps.Keys(w.live)) {
		w.stop(name)
	}
	for _, id := range w.ids() { // who ends while he acquires a shard leaves the transaction of it to the next, and there is none
		w.fence(id)
	}
	w.checkEnd(stops, before)
}

// checkEnd holds that nothing has come out of the shards that have stopped, and what was left against the changelog as ever.
func (w *world) checkEnd(stops []int32, before map[int32]map[string]int) {
	w.t.Helper()
	after := w.written()
	for _, s := range stops {
		if !maps.Equal(before[s], after[s]) {
			w.t.Errorf("[stop] shard %d has stopped and writes: %v, then %v", s, before[s], after[s])
		}
	}
	visible, set := w.settled(), w.published()
	enc := events.New(w.cfg.App, w.c.Epoch, w.params(set, w.versions), w.cfg.Currency, w.cfg.Digits())
	for s := range w.cfg.Shards {
		l := w.checkChangelog(s, visible[place{w.cfg.App + ".changelog", s}], set)
		w.profiles(enc, l.state, visible[place{w.cfg.App + "." + oracle.Profiles, s}])
		if slices.ContainsFunc(w.kept, func(k kept) bool { return k.shard == s && k.marked }) {
			w.hit(fmt.Sprintf("end: store of a shard that goes on: %t", !slices.Contains(stops, s)))
		}
	}
	w.checkStores(visible)
}

// trouble is what else goes wrong when an input does.
func (w *world) trouble() {
	for _, name := range []string{"a", "b"} {
		p := w.live[name]
		switch kind := w.rng.IntN(6); kind {
		case 0:
			w.note("%s is slow", name)
			p.net.slow(w.some(800 * time.Millisecond))
		case 1:
			w.note("%s stands still", name)
			p.net.pause()
		case 2:
			w.note("%s is cut off", name)
			p.net.cut(true)
		case 3:
			w.note("%s is expelled", name)
			_, _ = w.adm.LeaveGroup(w.t.Context(), kadm.LeaveGroup(w.cfg.App).InstanceIDs(w.instanceOf(p.disk)))
		case 4:
			if name == "b" {
				w.note("b is killed")
				w.kill(name, true)
			}
		}
	}
}

// truncate deletes a record that nobody can have read: meanwhile all are cut off.
func (w *world) truncate(at place) (why string) {
	w.t.Helper()
	for _, p := range w.live {
		p.net.cut(true)
	}
	w.nobody(at)
	if err := w.cluster.DeleteRecords(at.topic, at.partition, -1); err != nil {
		w.t.Fatal(err)
	}
	for _, p := range w.live {
		p.net.cut(false)
	}
	w.hit("end: input truncated")
	return fmt.Sprintf("input %s/%d no longer has the records at our position", at.topic, at.partition)
}

// remake deletes an input and makes it again.
func (w *world) remake(topic string) (why string) {
	w.t.Helper()
	if _, err := w.adm.DeleteTopic(w.t.Context(), topic); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.adm.CreateTopic(w.t.Context(), w.partitions[topic], 1, nil, topic); err != nil {
		w.t.Fatal(err)
	}
	w.reconnect()
	w.remade = topic
	w.hit("end: input recreated")
	return fmt.Sprintf("input topic %q was deleted and made again", topic)
}

// cutTail begins a leader epoch whose leader says that all before it have ended before what was read, as after an unclean election.
func (w *world) cutTail(at place, end int64) (why string) {
	w.t.Helper()
	is := w.cluster.PartitionInfo(at.topic, at.partition)
	w.cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		req := r.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, topic := range req.Topics {
			it := kmsg.NewOffsetForLeaderEpochResponseTopic()
			it.Topic = topic.Topic
			for _, p := range topic.Partitions {
				to := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				to.Partition, to.LeaderEpoch, to.EndOffset = p.Partition, p.LeaderEpoch, math.MaxInt32 // the others go on
				if topic.Topic == at.topic && p.Partition == at.partition && p.LeaderEpoch <= is.Epoch {
					to.EndOffset = end
				}
				it.Partitions = append(it.Partitions, to)
			}
			resp.Topics = append(resp.Topics, it)
		}
		return resp, nil, true
	})
	if err := w.cluster.MoveTopicPartition(at.topic, at.partition, is.Leader); err != nil {
		w.t.Fatal(err)
	}
	w.hit("end: input has lost its tail")
	return fmt.Sprintf("input %s/%d was cut at %d and written again, before our position", at.topic, at.partition, end)
}

// nobody writes a record that can only become a dead letter.
func (w *world) nobody(at place) {
	w.t.Helper()
	key := []byte("nobody")
	for i := 0; w.place(key, w.partitions[at.topic]) != at.partition; i++ {
		key = fmt.Appendf(nil, "nobody-%d", i)
	}
	w.produce(w.cl, []oracle.Record{{Topic: at.topic, Partition: at.partition, Key: key, Value: []byte("{}"), Timestamp: 1_705_276_800_000}})
}

// stopped says whether somebody's shard has stopped for a reason.
func (w *world) stopped(shard int32, why string) bool {
	for _, p := range w.live {
		for _, s := range p.pipe.Status() {
			if s.Shard == shard && s.State == "stopped" && strings.Contains(s.Reason, why) {
				return true
			}
		}
	}
	return false
}

// written counts what is committed, by shard and topic, without the records of owners.
func (w *world) written() map[int32]map[string]int {
	w.t.Helper()
	if !w.tail.caughtUp(time.Minute) {
		w.t.Errorf("[open transaction] after the shards have stopped: %s", w.ends())
	}
	w.tail.mu.Lock()
	defer w.tail.mu.Unlock()
	n := map[int32]map[string]int{}
	for s := range w.cfg.Shards {
		n[s] = map[string]int{}
		for _, topic := range shardTopics(w.cfg) {
			rs, _, _ := w.tail.decided(place{topic.Name, s})
			n[s][topic.Name] = len(slices.DeleteFunc(rs, func(r *kgo.Record) bool { return string(r.Key) == "owner" }))
		}
	}
	return n
}
