package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

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
		return s.recreated(ctx, &was)
	}
	if found && owner <= was.Offset {
		return fmt.Errorf("%w: the changelog ends at offset %d, the store is at %d", errDiverged, owner, was.Offset)
	}
	f := s.filling(was)
	if !found {
		f.fresh = began.UnixMilli()
	}
	defer func() { f.batch.Discard() }()
	for first := true; ; {
		step, cancel := context.WithTimeout(ctx, time.Minute) // bounded by progress: there may be much to read
		fetched := s.cl.PollRecords(step, 10_000)
		cancel()
		if err := s.waitForRoom(ctx, "restoring"); err != nil {
			return err
		}
		for _, e := range fetched.Errors() {
			if errors.Is(e.Err, errLeftOver) {
				continue
			}
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
				return s.finish(ctx, f, record, owner, was, began)
			}
			if err := f.take(record); err != nil {
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
		c, err := store.ReadCheckpoint(first.Value)
		if string(first.Key) != checkpointKey || err != nil || c.Owner != was.Owner || c.Cycle != was.Cycle {
			return fmt.Errorf("%w: its checkpoint is not at offset %d", errDiverged, was.Offset)
		}
		return nil
	}
	why, err := cutSince(ctx, s.adm, changelogTopic(s.p.cfg.App), s.id, was)
	if why != "" {
		return fmt.Errorf("%w: %s", errDiverged, why)
	}
	return err
}

// cutSince says why a changelog cannot be the one that a store is at a position of.
func cutSince(ctx context.Context, adm *kadm.Client, topic string, shard int32, at *store.Mark) (why string, err error) {
	asked := kadm.OffsetForLeaderEpochRequest{}
	asked.Add(topic, shard, at.Epoch)
	ends, err := epochEnds(ctx, adm, asked)
	if err != nil {
		return "", err
	}
	if end, known := ends[topic][shard]; !known || end.EndOffset <= at.Offset {
		return fmt.Sprintf("leader epoch %d ends at offset %d, the store is at %d", at.Epoch, end.EndOffset, at.Offset), nil
	}
	return "", nil
}

func (s *shard) filling(was store.Mark) *filling {
	return &filling{
		shard: s.id, owner: was.Owner, topicID: s.ids[changelogTopic(s.p.cfg.App)], store: s.store, batch: s.store.NewBatch(), mark: was, fresh: was.Written,
		share: s.p.share, write: s.fill,
	}
}

// filling is a store that takes records of its partition of the changelog.
type filling struct {
	shard        int32
	topicID      string // of the changelog
	store        *store.Store
	batch        *store.Batch
	mark         store.Mark // of the last checkpoint that was taken
	customer     state.Customer
	interactions state.Interactions
	records      int
	owner        string // who had written the checkpoint that the store stood at
	marked       bool   // a checkpoint was among them
	fresh        int64  // the brokers' time at which what has been read was complete, ms

	share int                             // bytes from which a batch is written at a checkpoint; four times as many wait for none
	write func(commit func() error) error // calls commit
}

func (f *filling) take(record *kgo.Record) error {
	if record.Attrs.IsControl() {
		return nil
	}
	f.records++
	switch key := record.Key; {
	case string(key) == ownerKey:
	case string(key) == checkpointKey:
		c, err := decodeCheckpoint(record)
		if err != nil {
			return err
		}
		if err := f.known(c.Owner); err != nil {
			return err
		}
		f.mark = store.Mark{Checkpoint: c, Position: store.Position{
			TopicID: f.topicID, Offset: record.Offset, Epoch: record.LeaderEpoch, Written: f.fresh,
		}}
		if err := f.batch.SetMark(&f.mark); err != nil {
			return err
		}
		if f.batch.Len() > f.share {
			return f.flush()
		}
	case store.IsCustomerKey(key), store.IsInteractionsKey(key):
		if err := f.check(record); err != nil {
			return err
		}
		if err := f.batch.Put(key, record.Value); err != nil {
			return err
		}
	default:
		return f.decode(record)
	}
	if f.batch.Len() <= 4*f.share {
		return nil
	}
	// Compaction removes checkpoints. What is written between two of them is no state that ever was: until the next one
	// the store has no mark, and nobody goes on from it.
	if err := f.batch.Unmark(); err != nil {
		return err
	}
	return f.flush()
}

// flush makes what was taken true.
func (f *filling) flush() error {
	err := f.write(f.batch.Commit)
	f.batch = f.store.NewBatch()
	return err
}

// fill writes records of the changelog to the store of a shard that is being restored.
func (s *shard) fill(commit func() error) error {
	if err := s.guarded(commit); err != nil {
		return err
	}
	return s.at(WithinRestore)
}

// known holds that the store stands at a cycle that is true. One may not be, though it was acknowledged, if it was left without a marker
// and taken back with the next one (follows). The first checkpoint from the store's on proves it: it is the store's own, or a later one
// of the same owner, whose commit would have decided that one too. Where compaction has left only those of other owners, nobody can tell.
func (f *filling) known(owner string) error {
	if !f.marked && f.owner != "" && owner != f.owner {
		return fmt.Errorf("%w: its checkpoint is gone, and the next one is another owner's", errDiverged)
	}
	f.marked = true
	return nil
}

// check proves that a record of the state can be read, and writes the timer of a customer as it leaves it. Entries of
// older versions stay; they are dropped when they come up.
func (f *filling) check(record *kgo.Record) error {
	if err := f.decode(record); err != nil || len(record.Value) == 0 || !store.IsCustomerKey(record.Key) {
		return err
	}
	return f.batch.Arm(f.customer.Due, store.CustomerID(record.Key))
}

// decode proves that a record can be read.
func (f *filling) decode(record *kgo.Record) (err error) {
	switch key := record.Key; {
	case string(key) == ownerKey:
	case string(key) == checkpointKey:
		_, err := decodeCheckpoint(record)
		return err
	case store.IsCustomerKey(key):
		if len(record.Value) > 0 {
			err = f.customer.Decode(record.Value)
		}
	case store.IsInteractionsKey(key):
		if len(record.Value) > 0 {
			err = f.interactions.Decode(record.Value)
		}
	default:
		return &stopError{"changelog", fmt.Errorf("changelog partition %d, offset %d: unknown key: was it written by a newer release, or by somebody else?", f.shard, record.Offset)}
	}
	if err != nil {
		return lasting(&stopError{"changelog", fmt.Errorf("changelog partition %d, offset %d: %w", f.shard, record.Offset, err)})
	}
	return nil
}

// finish is reached at the owner record, or beyond it if a newer owner's record made compaction take ours.
func (s *shard) finish(ctx context.Context, f *filling, record *kgo.Record, owner int64, was store.Mark, began time.Time) error {
	if record.Offset != owner || string(record.Key) != ownerKey || !strings.Contains(string(record.Value), s.owner) {
		return errFenced
	}
	if limit := s.p.tombstones / 2; was.Owner != "" && limit > 0 && record.Timestamp.UnixMilli()-was.Written > limit.Milliseconds() {
		return fmt.Errorf("%w: it is older than half of the changelog's delete.retention.ms, deletions may have been forgotten", errDiverged)
	}
	// Compaction takes a checkpoint only for a later one: the store's was taken back, and nobody has got on since (known).
	if was.Owner != "" && !f.marked {
		return fmt.Errorf("%w: its checkpoint is not at offset %d, nor a later one behind it", errDiverged, was.Offset)
	}
	s.mark, s.epoch = f.mark, record.LeaderEpoch
	if s.mark.Owner == "" {
		if err := s.changelogLost(ctx); err != nil {
			return err
		}
	}
	s.clock.anchor(record.Timestamp, s.ended)
	s.p.metrics.restored.WithLabelValues(label(s.id)).Add(float64(f.records))
	s.p.log.Info("shard restored", "shard", s.id, "from", was.Cycle, "records", f.records, "cycle", s.mark.Cycle, "took", time.Since(began).Round(time.Millisecond))
	if s.mark.Owner != "" { // the store is now as fresh as the owner record
		s.mark.Written = record.Timestamp.UnixMilli()
		if err := f.batch.SetMark(&s.mark); err != nil {
			return err
		}
	}
	return f.flush()
}
