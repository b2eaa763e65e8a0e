//go:build synctests

package pipeline_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state/store"
)

// cutting is what goes wrong with the logs of the inputs. It draws by itself: what else a seed does stays what it is.
type cutting struct {
	rng    *rand.Rand
	often  bool
	before map[place]map[int64]time.Time // offsets before which records were deleted that nobody may have read, and when
}

// newCutting chooses seeds in which the inputs are cut, and in a third of all also before they are read.
func (w *world) newCutting() {
	w.cuts = cutting{rng: rand.New(rand.NewPCG(w.seed, 2)), before: map[place]map[int64]time.Time{}}
	w.cuts.often = w.cuts.rng.IntN(2) == 0
	if w.cuts.rng.IntN(3) == 0 {
		w.cuts.often, w.cfg.Inputs.Lost = true, "skip"
	}
}

// cut does something to the partitions of records that have just been written.
func (w *world) cut(written []written) {
	w.t.Helper()
	if !w.cuts.often || len(written) == 0 {
		return
	}
	at := written[w.cuts.rng.IntN(len(written))]
	switch w.cuts.rng.IntN(6) {
	case 0:
		w.lead(at.Topic, at.Partition)
	case 1:
		w.expire(at.Topic, at.Partition)
	case 2, 3:
		if w.cfg.Inputs.Lost == "skip" {
			w.lose(at.Topic, at.Partition)
		}
	}
}

// lead begins a leader epoch: of the same broker or of another.
func (w *world) lead(topic string, n int32) {
	w.t.Helper()
	node := w.cuts.rng.Int32N(3)
	w.note("broker %d leads %s/%d", node, topic, n)
	if err := w.cluster.MoveTopicPartition(topic, n, node); err != nil {
		w.t.Fatal(err)
	}
	w.hit("input: a leader epoch begins")
}

// expire deletes what was taken, as retention does.
func (w *world) expire(topic string, n int32) {
	w.t.Helper()
	next, known := w.taken(topic, n)
	is := w.cluster.PartitionInfo(topic, n)
	if before := min(next, is.HighWatermark-1); known && before > is.LogStartOffset {
		w.delete(topic, n, before)
		w.hit("input: retention")
	}
}

// lose deletes what may not have been read. Where nothing was ever taken, nobody would know that anything was there.
func (w *world) lose(topic string, n int32) {
	w.t.Helper()
	next, known := w.taken(topic, n)
	is := w.cluster.PartitionInfo(topic, n)
	next = max(next, is.LogStartOffset)
	if most := min(is.LastStableOffset, is.HighWatermark-1); known && most > next {
		before := next + 1 + w.cuts.rng.Int64N(most-next)
		at := place{topic, n}
		if w.cuts.before[at] == nil {
			w.cuts.before[at] = map[int64]time.Time{}
		}
		w.cuts.before[at][before] = time.Now()
		w.delete(topic, n, before)
		w.hit("input: cut before it is read")
	}
}

// delete leaves at least one batch: of an empty log the embedded broker says that each of its former epochs has ended at 0.
func (w *world) delete(topic string, n int32, before int64) {
	w.t.Helper()
	w.note("%s/%d is deleted before %d", topic, n, before)
	if err := w.cluster.DeleteRecords(topic, n, before); err != nil {
		w.t.Fatal(err)
	}
}

// without are the records that have not been lost, as the dead letters confess it. Each of those must be true, told once, and told
// in the cycle that has left the records behind; what else is missing the oracle misses.
func (w *world) without(lost []*kgo.Record, visible map[place][]*kgo.Record) (left []oracle.Record) {
	w.t.Helper()
	gone := map[place]map[int64]int64{} // ends of gaps by their begins
	for _, r := range lost {
		headers := w.output(r).Headers
		wrong := func(format string, args ...any) {
			w.t.Helper()
			w.t.Errorf("[lost] %s/%s@%s, %q: %s", headers["asiduo-topic"], headers["asiduo-partition"], headers["asiduo-offset"], headers["asiduo-detail"], fmt.Sprintf(format, args...))
		}
		n, err := strconv.ParseInt(headers["asiduo-partition"], 10, 32)
		if err != nil {
			wrong("%v", err)
		}
		at := place{headers["asiduo-topic"], int32(n)}
		var from, last int64
		_, said, _ := strings.Cut(headers["asiduo-detail"], "at our position: ")
		if _, err := fmt.Sscanf(said, "%d to %d were deleted", &from, &last); err != nil {
			wrong("which records? %v", err)
			continue
		}
		if gone[at] == nil {
			gone[at] = map[int64]int64{}
		}
		switch since, cut := w.cuts.before[at][last+1]; {
		case strconv.FormatInt(from, 10) != headers["asiduo-offset"]:
			wrong("it is told for another offset")
		case !cut || since.UnixMilli() > r.Timestamp.UnixMilli():
			wrong("nobody has deleted these records")
		case gone[at][from] > 0:
			wrong("it is told twice")
		case !leaves(visible[place{w.cfg.App + ".changelog", r.Partition}], at, from, last+1):
			wrong("no checkpoint goes from before the gap to behind it")
		}
		gone[at][from] = last + 1
		w.hit("input: a loss is told")
	}
	for _, r := range w.log {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(gone[place{r.Topic, r.Partition}])), func(from int64) bool {
			return from <= r.Offset && r.Offset < gone[place{r.Topic, r.Partition}][from]
		}) {
			left = append(left, r.Record)
		} else {
			w.hit("input: a record is lost")
		}
	}
	return left
}

// leaves says whether a checkpoint moves a position over a gap at once.
func leaves(changelog []*kgo.Record, at place, from, to int64) bool {
	was := int64(-1)
	for _, r := range changelog {
		var c store.Checkpoint
		if string(r.Key) != "checkpoint" || json.Unmarshal(r.Value, &c) != nil {
			continue
		}
		next, known := c.Inputs[at.topic].Next[at.partition]
		if known && was == from && next > from {
			return next >= to
		}
		if known {
			was = next
		}
	}
	return false
}

// grow adds partitions to an input, to another multiple of the shards, whatever else goes on.
func (w *world) grow(topic string) bool {
	w.t.Helper()
	if w.partitions[topic] != w.c.Partitions {
		return false
	}
	n := w.partitions[topic] + w.cfg.Shards*(1+w.rng.Int32N(3))
	w.note("%s gets %d partitions", topic, n)
	w.endOpen()
	for int32(len(w.cluster.PartitionInfos(topic))) != n {
		if _, err := w.adm.UpdatePartitions(w.t.Context(), int(n), topic); err != nil { // it may be refused as ours are
			w.note("partitions: %v", err)
		}
	}
	w.partitions[topic] = n
	w.reconnect()
	w.hit("partitions added")
	return true
}

// peace takes the end of the log away, in some seeds, for when nothing goes wrong any more.
func (w *world) peace(log []oracle.Record) (most, rest []oracle.Record) {
	if w.seed%5 != 3 {
		return log, nil
	}
	n := len(log) - min(20, len(log)/2)
	return log[:n], log[n:]
}

// growInPeace adds partitions while nobody begins anew for another reason, and writes into them: whoever serves a shard must notice.
func (w *world) growInPeace(rest []oracle.Record) {
	w.t.Helper()
	if len(rest) == 0 {
		return
	}
	w.reach(rest)
	w.heal()
	w.read()
	grown := false
	for _, topic := range pipeline.InputTopics(w.cfg) {
		grown = w.grow(topic) || grown
	}
	w.write(rest)
	w.endOpen()
	w.read()
	if grown {
		w.hit("partitions added in peace")
	}
}

// placed is the partition that a record is to go to. A customer whose records may wait in another one stays there, as with a
// producer that has not heard of the new partitions: nobody could say in which order they will be read.
func (w *world) placed(r *oracle.Record) int32 {
	w.t.Helper()
	n := w.partitions[r.Topic]
	if n == w.c.Partitions || r.Key == nil {
		return r.Partition
	}
	to := w.place(r.Key, n)
	for _, before := range slices.Backward(w.log) {
		if before.Topic != r.Topic || !bytes.Equal(before.Key, r.Key) {
			continue
		}
		if next, _ := w.taken(r.Topic, before.Partition); before.Partition != to && before.Offset >= next {
			w.hit("partitions added while records wait")
			return before.Partition
		}
		break
	}
	return to
}

// taken is how far a partition of an input has been taken, as the last committed checkpoint says.
func (w *world) taken(topic string, n int32) (next int64, known bool) {
	w.t.Helper()
	w.tail.mu.Lock()
	defer w.tail.mu.Unlock()
	for _, r := range slices.Backward(w.tail.committed[place{w.cfg.App + ".changelog", n % w.cfg.Shards}]) {
		if string(r.Key) != "checkpoint" {
			continue
		}
		var c store.Checkpoint
		if err := json.Unmarshal(r.Value, &c); err != nil {
			w.t.Fatal(err)
		}
		next, known = c.Inputs[topic].Next[n]
		break
	}
	return next, known
}
