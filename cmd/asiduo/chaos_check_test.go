//go:build kafka

package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
)

// nothingOpen holds that no transaction is left: every partition is stable up to its end, and no coordinator knows of
// one under way. A loader that died in the middle of one is timed out by the brokers.
func nothingOpen(t testing.TB, w *world) {
	t.Helper()
	topics := topicNames(w.cfg)
	left := "?"
	await(t, 60*time.Second, "no transaction is open", func() bool {
		stable, err := w.adm.ListCommittedOffsets(t.Context(), topics...)
		ends, err2 := w.adm.ListEndOffsets(t.Context(), topics...)
		open, err3 := w.adm.ListTransactions(t.Context(), nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
		if errors.Join(err, err2, err3) != nil || stable.Error() != nil || ends.Error() != nil {
			return false
		}
		left = ""
		ends.Each(func(o kadm.ListedOffset) {
			if at, _ := stable.Lookup(o.Topic, o.Partition); at.Offset != o.Offset {
				left += o.Topic + "/" + strconv.Itoa(int(o.Partition)) + " "
			}
		})
		for id, tx := range open {
			if strings.HasPrefix(id, w.cfg.App+"-") {
				left += id + " " + tx.State
			}
		}
		return left == ""
	})
}

// compacted reads the changelog as a process without a store would, and holds that what compaction has left leads to
// the same state. It returns how many of the offsets are still there.
func compacted(t testing.TB, w *world, l *tail) (left, offsets int64) {
	t.Helper()
	topic := w.cfg.App + ".changelog"
	ends, err := w.adm.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	from := map[int32]kgo.Offset{}
	for p := range int32(worldShards) {
		from[p] = kgo.NewOffset().AtStart()
	}
	cl, err := pipeline.Connector(w.cfg.Kafka)(kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	values, next := make([]map[string]string, worldShards), make([]int64, worldShards)
	for i := range values {
		values[i] = map[string]string{}
	}
	behind := func() bool {
		for p, at := range next {
			if end, _ := ends.Lookup(topic, int32(p)); at < end.Offset {
				return true
			}
		}
		return false
	}
	for behind() {
		fetched := cl.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatalf("read the changelog: %v", err)
		}
		for it := fetched.RecordIter(); !it.Done(); {
			r := it.Next()
			left++
			next[r.Partition] = r.Offset + 1
			if key := string(r.Key); !r.Attrs.IsControl() && key != "owner" && key != "checkpoint" {
				values[r.Partition][key] = string(r.Value)
			}
		}
	}
	for p := range values {
		end, _ := ends.Lookup(topic, int32(p))
		offsets += end.Offset
		for key := range l.shards[p].values {
			if want := l.shards[p].at(key, end.Offset); values[p][key] != want {
				t.Errorf("compacted changelog %d: key %q is %q, was written as %q", p, key, values[p][key], want)
			}
		}
	}
	return left, offsets
}
