//go:build synctests

package pipeline_test

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state/store"
)

// grow adds partitions to the inputs, to another multiple of the shards, whatever else goes on.
func (w *world) grow() {
	w.t.Helper()
	topic := pipeline.InputTopics(w.cfg)[w.rng.IntN(2)]
	if w.partitions[topic] != w.c.Partitions {
		return
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
