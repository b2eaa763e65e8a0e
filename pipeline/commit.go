package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/transaction"
	"github.com/asiduo/asiduo/state/store"
)

// checkpoint is the one of the cycle that is to be committed.
func (s *shard) checkpoint() store.Checkpoint {
	next := store.Checkpoint{
		Owner: s.owner, Cycle: s.mark.Cycle + 1, Inputs: map[string]store.InputPositions{}, Horizon: s.silence.played,
		Made: s.made,
	}
	s.adopted.checkpoint(&next)
	for t, at := range s.next {
		epochs := maps.Clone(s.epochs[t])
		maps.DeleteFunc(epochs, func(_, epoch int32) bool { return epoch < 0 })
		next.Inputs[t] = store.InputPositions{TopicID: s.ids[t], Next: maps.Clone(at), Epochs: epochs}
	}
	return next
}

// follows holds that records of the changelog lie behind what we have written there before, each behind the other: one that was cut
// under us, or made again, must not get a cycle without those before it, or half of one.
//
// Behind each transaction should be its marker. Kafka 4 leaves out the markers of partitions that have no leader at the moment at
// which a transaction is committed, though it says that it is (the coordinator takes them for deleted: KRaftMetadataCache,
// getPartitionLeaderEndpoint). What was written then stays undecided until the next marker of the same producer, ours, which must
// therefore be one that commits: an abort would take back what subscribers of other partitions are about to read.
func (s *shard) follows(rs []*kgo.Record) error {
	least := s.tail + 1
	for i, r := range rs {
		if r.Offset < least {
			return fmt.Errorf("the changelog goes on at offset %d, and was at %d: it was cut, or deleted and made again", r.Offset, least-1)
		}
		if i == 0 && r.Offset == least {
			s.p.log.Warn("the brokers have not marked the last transaction as committed, the next mark decides it", "shard", s.id, "offset", s.tail)
		}
		least = r.Offset + 1
	}
	return nil
}

// commit makes the cycle true: one transaction with everything that leaves the shard and the state as the changelog
// keeps it, last the checkpoint; then the same state into the store, and only then into the cache.
func (s *shard) commit(ctx context.Context) error {
	c, o, topic := &s.cycle, s.overlay, changelogTopic(s.p.cfg.App)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.p.cfg.Cycle.Deadline.Std())
	defer cancel()
	next := s.checkpoint()
	batch := s.store.NewBatch()
	defer batch.Discard()
	imprint(ctx, c.out)
	from := len(c.out) // what goes into the changelog begins here
	for key, value := range o.changed() {
		c.out = append(c.out, &kgo.Record{Topic: topic, Partition: s.id, Key: key, Value: value})
		if err := batch.Put(key, value); err != nil {
			return err
		}
	}
	if err := s.armTimers(batch); err != nil {
		return err
	}
	value, err := json.Marshal(next)
	if err != nil {
		return err
	}
	last := &kgo.Record{Topic: topic, Partition: s.id, Key: []byte(checkpointKey), Value: value}
	c.out = append(c.out, last)
	if err := s.at(BeforeProduce); err != nil {
		return err
	}
	if err := transaction.Write(ctx, s.cl, c.out); err != nil {
		return err // the overlay dies with the shard
	}
	if err := s.follows(c.out[from:]); err != nil {
		return err
	}
	if err := s.end(ctx, BeforeEnd, AfterEnd); err != nil {
		return err
	}
	s.tail = last.Offset
	s.phase(ctx, "commit", began)
	began = time.Now()
	mark := store.Mark{Checkpoint: next, Position: store.Position{
		TopicID: s.ids[topic], Offset: last.Offset, Epoch: s.epoch, Written: s.written(),
	}}
	if err := batch.SetMark(&mark); err != nil {
		return err
	}
	if s.part { // until now
		if err := batch.SetWhole(); err != nil {
			return err
		}
	}
	if a := &s.adopted; a.extract != nil {
		if err := batch.SetParameters(a.extract); err != nil {
			return err
		}
	}
	if err := s.guarded(func() error { return s.write(batch) }); err != nil {
		return err
	}
	s.mark, s.part = mark, false
	s.adopted.news, s.adopted.extract = false, nil
	s.people.recount(o)
	o.committed()
	s.phase(ctx, "store", began)
	s.p.metrics.cycle(ctx, s.id, c)
	s.confessed()
	s.publish()
	return s.at(AfterApply)
}

// write is what the store does with a cycle.
func (s *shard) write(batch *store.Batch) error {
	if err := s.at(WithinApply); err != nil {
		return err
	}
	return batch.Commit()
}

// written is the brokers' time as well as it is known, for judging later how old the store is.
func (s *shard) written() int64 {
	if now, known := s.clock.brokers(); known {
		return now.UnixMilli()
	}
	return time.Now().UnixMilli()
}

// guarded makes a write to the store, or closes it. One that does not come back cannot be taken back either, nor the
// database be closed: then the process ends, with the reason; the changelog has everything.
func (s *shard) guarded(write func() error) error {
	return s.within(s.p.stuck, "a write to the store", write)
}

func (s *shard) within(limit time.Duration, what string, do func() error) error {
	w := watch(limit, func() {
		err := fmt.Errorf("shard %d: %s takes more than %v: is the disk full or broken?", s.id, what, limit)
		s.p.setState(s.id, "disk_full", err)
		s.p.fail(err)
	})
	defer w.stop()
	return do()
}
