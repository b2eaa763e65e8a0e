package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// run makes cycles until an error, or the end of soft. hard lives a little longer, for the transaction in flight.
func (s *shard) run(soft, hard context.Context) error {
	s.p.setState(s.id, "running", nil)
	s.publish()
	flushed, looked, anchored := time.Now(), time.Now(), time.Now()
	for {
		began := time.Now()
		if err := s.await(soft); err != nil {
			return err
		}
		if soft.Err() != nil {
			if err := s.settle(hard); err != nil { // what it would have said can be found out again
				s.p.log.Debug("last checkpoint", "shard", s.id, "err", err)
			}
			return nil
		}
		if err := s.store.Broken(); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		s.ask(soft)
		committed, err := s.turn(soft, hard)
		if err != nil {
			return err
		}
		s.serveViews()
		if time.Since(flushed) >= s.p.cfg.State.FlushEvery.Std() {
			flushed = time.Now()
			if err := s.guarded(s.store.Flush); err != nil { // waits if the one before is not over
				return fmt.Errorf("flush store: %w", err)
			}
		}
		if time.Since(looked) >= s.p.room {
			looked = time.Now()
			if err := s.waitForRoom(soft, "running"); err != nil {
				return err
			}
		}
		if time.Since(anchored) >= 10*time.Minute {
			anchored = time.Now()
			s.anchorAgain(soft)
		}
		if committed {
			s.rest(soft, began)
		}
	}
}

// rest keeps cycles from starting too close to each other: natural group commit.
func (s *shard) rest(ctx context.Context, began time.Time) {
	least := s.p.cfg.Cycle.Min.Std() * time.Duration(1+(s.p.owned()-1)/4)
	if left := least - time.Since(began); left > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(left):
		}
	}
}

// await makes sure that records are pending if there are any. It waits only when there is nothing else to do.
func (s *shard) await(soft context.Context) error {
	if len(s.pending) > 0 {
		return nil
	}
	if s.silence.more || s.adopted.move != nil {
		return s.poll(soft, nil, s.p.cfg.Cycle.Records)
	}
	ctx, cancel := context.WithTimeout(soft, s.p.idle)
	defer cancel()
	return s.poll(soft, ctx, s.p.cfg.Cycle.Records)
}

// poll makes records pending where none are, at most so many. It waits for them as long as wait lives; without it takes what has been
// fetched and returns.
func (s *shard) poll(soft, wait context.Context, most int) error {
	fetched := s.cl.PollRecords(wait, most) // a context that has ended would take nothing
	var unread []*kgo.ErrDecompressTooLarge
	for _, e := range fetched.Errors() {
		if batch, ok := errors.AsType[*kgo.ErrDecompressTooLarge](e.Err); ok {
			unread = append(unread, batch)
			continue
		}
		switch {
		case errors.Is(e.Err, context.DeadlineExceeded), errors.Is(e.Err, context.Canceled), errors.Is(e.Err, errLeftOver):
		default: // what is gone for good is seen when the shard is acquired again
			return fmt.Errorf("fetch %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
	}
	fetched.EachPartition(func(f kgo.FetchTopicPartition) {
		if f.HighWatermark > 0 {
			s.p.metrics.end(s.id, f.Topic, f.Partition, f.HighWatermark)
		}
	})
	if err := s.uncut(soft, fetched, unread); err != nil {
		if soft.Err() != nil {
			return nil // nothing is taken any more
		}
		return err
	}
	s.pending = fetched.Records()
	s.leap(unread)
	return nil
}
