package pipeline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state/store"
)

// Committed are the committed records of a partition from an offset (negative: its first record) up to the given end.
// There must be something before the end.
func Committed(ctx context.Context, connect parameters.Connect, topic string, partition int32, from, end int64) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		if end <= max(from, 0) {
			return
		}
		at := kgo.NewOffset().AtStart()
		if from >= 0 {
			at = kgo.NewOffset().At(from)
		}
		unpack, err := newUnpacker(64<<20, 128<<20) // for a batch what the client allows if nothing is said
		if err != nil {
			yield(nil, err)
			return
		}
		cl, err := connect(append(unpack.within(),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: at}}),
			kgo.KeepControlRecords(), // our position must pass them to reach the end
			kgo.FetchMaxWait(500*time.Millisecond), kgo.FetchMaxBytes(8<<20),
		)...)
		if err != nil {
			yield(nil, err)
			return
		}
		defer cl.Close()
		for next := from; next < end; {
			step, cancel := context.WithTimeout(ctx, time.Minute) // bounded by progress: there may be much to read
			fetched := cl.PollRecords(step, 10_000)
			cancel()
			if err := fetched.Err(); err != nil && !errors.Is(err, errLeftOver) {
				yield(nil, fmt.Errorf("read %s/%d at offset %d: %w", topic, partition, max(next, 0), err))
				return
			}
			for r := range fetched.RecordsAll() {
				if next = r.Offset + 1; r.Offset >= end {
					return
				}
				if !r.Attrs.IsControl() && !yield(r, nil) {
					return
				}
			}
		}
	}
}

// offsets are those of the partitions of topics that are asked for.
type offsets struct{ first, stable map[string]map[int32]int64 }

// readable asks from where to where the committed records of topics can be read.
func readable(ctx context.Context, adm *kadm.Client, topics ...string) (o offsets, err error) {
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return o, fmt.Errorf("ask where topics begin: %w", err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return o, fmt.Errorf("ask where topics end: %w", err)
	}
	return offsets{numbers(starts), numbers(ends)}, nil
}

func numbers(l kadm.ListedOffsets) map[string]map[int32]int64 {
	all := map[string]map[int32]int64{}
	l.Each(func(o kadm.ListedOffset) {
		if all[o.Topic] == nil {
			all[o.Topic] = map[int32]int64{}
		}
		all[o.Topic][o.Partition] = o.Offset
	})
	return all
}

// Checkpoints are the last ones in the changelog, by shard; a shard without one has no state.
func Checkpoints(ctx context.Context, adm *kadm.Client, connect parameters.Connect, app string) (map[int32]store.Checkpoint, error) {
	topic := changelogTopic(app)
	is, err := readable(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	all := map[int32]store.Checkpoint{}
	for shard, end := range is.stable[topic] {
		c, err := lastCheckpoint(ctx, connect, topic, shard, is.first[topic][shard], end)
		if err != nil {
			return nil, err
		}
		if c.Owner != "" {
			all[shard] = c
		}
	}
	return all, nil
}

// lastCheckpoint looks for it from the end: it is the last record of a cycle, and only owner records come after it.
func lastCheckpoint(ctx context.Context, connect parameters.Connect, topic string, shard int32, first, end int64) (c store.Checkpoint, err error) {
	for back := int64(64); ; back *= 64 {
		from := max(first, end-back)
		for r, err := range Committed(ctx, connect, topic, shard, from, end) {
			if err != nil {
				return c, err
			}
			if string(r.Key) != checkpointKey {
				continue
			}
			if c, err = decodeCheckpoint(r); err != nil {
				return c, err
			}
		}
		if c.Owner != "" || from == first {
			return c, nil
		}
	}
}

func decodeCheckpoint(r *kgo.Record) (c store.Checkpoint, err error) {
	if c, err = store.ReadCheckpoint(r.Value); err != nil {
		return c, &stopError{"changelog", fmt.Errorf("changelog partition %d, offset %d: checkpoint is not readable: %w", r.Partition, r.Offset, err)}
	}
	return c, nil
}
