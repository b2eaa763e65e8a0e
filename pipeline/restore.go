package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// Keys of the changelog beside those of customers, which begin with a letter and a tag byte below 3.
const (
	ownerKey      = "owner"
	checkpointKey = "checkpoint"
)

// restore reads the changelog from the store's mark up to the owner record. Records of the state are absolute, so
// reading some twice does no harm. It stops at the owner record's offset, not at its content: if we have been fenced,
// compaction may have taken it.
func (s *shard) restore(ctx context.Context, owner int64) error {
	began := time.Now()
	was, found := s.mark, s.mark.Owner != ""
	if found && was.TopicID != s.ids[changelogTopic(s.p.cfg.App)] {
		return fmt.Errorf("%w: the changelog was deleted and made again", errDiverged)
	}
	r := restoring{shard: s, batch: s.store.NewBatch(), fresh: was.Written}
	if !found {
		r.fresh = began.UnixMilli()
	}
	defer func() { r.batch.Discard() }()
	for first := true; ; {
		step, cancel := context.WithTimeout(ctx, time.Minute) // bounded by progress: there may be much to read
		fetched := s.cl.PollRecords(step, 10_000)
		cancel()
		if err := s.waitForRoom(ctx); err != nil {
			return err
		}
		for _, e := range fetched.Errors() {
			if errors.Is(e.Err, kerr.OffsetOutOfRange) {
				return fmt.Errorf("%w: it begins where the changelog does not reach: %w", errDiverged, e.Err)
			}
			return fmt.Errorf("read changelog: %w", e.Err)
		}
		for it := fetched.RecordIter(); !it.Done(); {
			record := it.Next()
			if first && found {
				if err := s.verify(ctx, &was, record); err != nil {
					return err
				}
			}
			first = false
			if record.Offset >= owner {
				return r.finish(record, owner, was, found, began)
			}
			if err := r.take(record); err != nil {
				return err
			}
		}
	}
}

// verify proves that the store is a prefix of the changelog. first is the first record at or after the store's
// checkpoint: that very checkpoint, or, if compaction took it, the leader says where the store's leader epoch ended:
// before the checkpoint means that the log was cut. The epoch kept is that of the owner record, so a change of leader
// during an ownership can raise a false alarm, which costs a rebuild.
func (s *shard) verify(ctx context.Context, was *store.Mark, first *kgo.Record) error {
	if first.Offset == was.Offset {
		var c store.Checkpoint
		if string(first.Key) != checkpointKey || json.Unmarshal(first.Value, &c) != nil || c.Owner != was.Owner || c.Cycle != was.Cycle {
			return fmt.Errorf("%w: its checkpoint is not at offset %d", errDiverged, was.Offset)
		}
		return nil
	}
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	t, p := kmsg.NewOffsetForLeaderEpochRequestTopic(), kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	t.Topic, p.Partition, p.LeaderEpoch = changelogTopic(s.p.cfg.App), s.id, was.Epoch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return fmt.Errorf("ask for the end of a leader epoch: %w", err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return errors.New("ask for the end of a leader epoch: empty answer")
	}
	got := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return fmt.Errorf("ask for the end of a leader epoch: %w", err)
	}
	if got.EndOffset <= was.Offset { // -1: the epoch is unknown
		return fmt.Errorf("%w: leader epoch %d ends at offset %d, the store is at %d", errDiverged, was.Epoch, got.EndOffset, was.Offset)
	}
	return nil
}

// restoring is a restore under way.
type restoring struct {
	*shard
	batch        *store.Batch
	customer     state.Customer
	interactions state.Interactions
	records      int
	fresh        int64 // the brokers' time at which what has been read was complete, ms
}

func (r *restoring) take(record *kgo.Record) error {
	if record.Attrs.IsControl() {
		return nil
	}
	r.records++
	switch key := record.Key; {
	case string(key) == ownerKey:
	case string(key) == checkpointKey:
		var c store.Checkpoint
		if err := json.Unmarshal(record.Value, &c); err != nil {
			return &stopError{"changelog", fmt.Errorf("changelog partition %d, offset %d: checkpoint is not readable: %w", r.id, record.Offset, err)}
		}
		r.mark = store.Mark{Checkpoint: c, Position: store.Position{
			TopicID: r.ids[changelogTopic(r.p.cfg.App)], Offset: record.Offset, Epoch: record.LeaderEpoch, Written: r.fresh,
		}}
		if err := r.batch.SetMark(&r.mark); err != nil {
			return err
		}
	case store.IsCustomerKey(key), store.IsInteractionsKey(key):
		if err := r.check(record); err != nil {
			return err
		}
		if err := r.batch.Put(key, record.Value); err != nil {
			return err
		}
	default:
		return &stopError{"changelog", fmt.Errorf("changelog partition %d, offset %d: unknown key: was it written by a newer release, or by somebody else?", r.id, record.Offset)}
	}
	if r.batch.Len() > 1<<20 {
		if err := r.batch.Commit(); err != nil {
			return err
		}
		r.batch = r.store.NewBatch()
	}
	return nil
}

// check proves that a record of the state can be read, and writes the timer of a customer as it leaves it. Entries of
// older versions stay; they are dropped when they come up.
func (r *restoring) check(record *kgo.Record) (err error) {
	if len(record.Value) == 0 {
		return nil
	}
	customer := store.IsCustomerKey(record.Key)
	if customer {
		err = r.customer.Decode(record.Value)
	} else {
		err = r.interactions.Decode(record.Value)
	}
	if err != nil {
		return lasting(&stopError{"changelog", fmt.Errorf("changelog partition %d, offset %d: %w", r.id, record.Offset, err)})
	}
	if !customer {
		return nil
	}
	return r.batch.Arm(r.customer.Due, store.CustomerID(record.Key))
}

// finish is reached at the owner record, or beyond it if a newer owner's record made compaction take ours.
func (r *restoring) finish(record *kgo.Record, owner int64, was store.Mark, found bool, began time.Time) error {
	if record.Offset != owner || string(record.Key) != ownerKey || !strings.Contains(string(record.Value), r.owner) {
		return errFenced
	}
	s := r.shard
	if limit := s.p.tombstones / 2; found && limit > 0 && record.Timestamp.UnixMilli()-was.Written > limit.Milliseconds() {
		return fmt.Errorf("%w: it is older than half of the changelog's delete.retention.ms, deletions may have been forgotten", errDiverged)
	}
	s.epoch = record.LeaderEpoch
	s.clock.anchor(record.Timestamp, s.ended)
	s.p.metrics.restored.WithLabelValues(label(s.id)).Add(float64(r.records))
	s.p.log.Info("shard restored", "shard", s.id, "records", r.records, "cycle", s.mark.Cycle, "took", time.Since(began).Round(time.Millisecond))
	if s.mark.Owner != "" { // the store is now as fresh as the owner record
		s.mark.Written = record.Timestamp.UnixMilli()
		if err := r.batch.SetMark(&s.mark); err != nil {
			return err
		}
	}
	err := r.batch.Commit()
	r.batch = s.store.NewBatch() // discarded by restore
	return err
}
