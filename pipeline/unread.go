package pipeline

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/sinks/events"
)

// leap takes the client beyond batches that it does not unpack; until then it has stopped at them. It sets all inputs: what the
// client has fetched and nobody has polled is dropped when one is set, and it would stay stopped at another such batch among that.
func (s *shard) leap(unread []*kgo.ErrDecompressTooLarge) {
	if len(unread) == 0 {
		return
	}
	s.unread = append(s.unread, unread...)
	to := map[string]map[int32]kgo.EpochOffset{}
	for topic, at := range s.next {
		to[topic] = map[int32]kgo.EpochOffset{}
		for n, next := range at {
			to[topic][n] = kgo.EpochOffset{Epoch: s.epochs[topic][n], Offset: next}
		}
	}
	for _, r := range s.pending {
		to[r.Topic][r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
	}
	for _, b := range s.unread {
		to[b.Topic][b.Partition] = kgo.EpochOffset{Epoch: b.Epoch, Offset: b.NextOffset}
	}
	s.cl.SetOffsets(to)
}

// skip makes one dead letter of a batch that cannot be read, without key and value, since its records are not known. It
// comes after the records that were read before it.
func (s *shard) skip(b *kgo.ErrDecompressTooLarge) {
	c, next := &s.cycle, s.next[b.Topic]
	first, last := max(b.Offset, next[b.Partition]), b.NextOffset-1
	next[b.Partition], s.epochs[b.Topic][b.Partition] = b.NextOffset, b.Epoch
	c.consumed++
	bad := rejectf(batchTooLarge, "the batch of the offsets %d to %d unpacks to more than %d bytes, or has too many records or headers", first, last, maxBatchBytes(s.p.cfg))
	s.p.log.Warn("a batch is skipped: see the dead letters", "shard", s.id, "topic", b.Topic, "partition", b.Partition, "why", bad.detail)
	s.send(s.adopted.enc.DeadLetter(&events.Rejected{
		Topic: b.Topic, Partition: b.Partition, Offset: first, LastOffset: last, Timestamp: -1, Reason: string(bad.reason), Detail: bad.detail,
	}))
	c.tally.rejected[bad.reason]++
}
