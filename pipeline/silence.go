package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// horizon is how far silence may be played. Nobody is called silent while an order of theirs may wait unread: silence
// up to an instant is played only once we have read, in every purchases partition of the shard, as far as the partition
// reached when the instant was already over.
type horizon struct {
	played   state.Instant // every timer up to here has come up; never goes back
	observed state.Instant // timers up to here may come up
	more     bool          // some wait that did not fit the last cycle

	asking   chan answer // a question under way, or nil
	asked    time.Time
	answered answer // not yet reached
}

// answer is where the purchases partitions ended at a time when the instant was over.
type answer struct {
	instant state.Instant
	ends    map[int32]int64
	err     error
}

// ask keeps one question about the ends of the partitions under way when there is a reason for one: a timer that has
// come up, or somebody who waits for the horizon.
func (s *shard) ask(ctx context.Context) {
	h := &s.silence
	select {
	case a := <-h.asking:
		h.asking = nil
		if a.err == nil {
			h.answered = a
		} else if ctx.Err() == nil {
			s.p.log.Debug("ask for the ends of the inputs", "shard", s.id, "err", a.err)
		}
	default:
	}
	now, known := s.clock.now()
	if !known || h.asking != nil || s.clock.doubted() {
		return
	}
	manual := s.clock.kind == "manual"
	instant := now
	if !manual {
		instant -= millis(s.p.cfg.Time.Grace)
		if since := time.Since(h.asked); since < 200*time.Millisecond || (since < 5*time.Second && !s.waitsFor(instant)) {
			return
		}
	}
	if instant <= h.observed || h.answered.instant > h.observed {
		return // nothing new to ask, or an answer still to be reached: a newer one would only be farther away
	}
	h.asked, h.asking = time.Now(), make(chan answer, 1)
	topic := s.p.cfg.Inputs.Purchases
	next, epochs := maps.Clone(s.next[topic]), maps.Clone(s.epochs[topic])
	go func(reply chan<- answer) {
		a := answer{instant: instant, ends: map[int32]int64{}}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		ends, err := s.adm.ListEndOffsets(ctx, topic)
		if a.err = errors.Join(err, ends.Error()); a.err == nil {
			a.err = s.sameTopic(ctx)
		}
		for p := s.id; p < s.purchases; p += s.p.Shards() {
			end, ok := ends.Lookup(topic, p)
			a.ends[p] = end.Offset
			switch epoch, known := epochs[p]; {
			case !ok:
				a.err = errors.Join(a.err, fmt.Errorf("nobody says where %s/%d ends", topic, p))
			case end.Offset < next[p], known && end.LeaderEpoch >= 0 && end.LeaderEpoch < epoch:
				// A former leader, or another log: orders may wait where we do not look.
				a.err = errors.Join(a.err, fmt.Errorf("%s/%d ends at %d in leader epoch %d, but it was read up to %d in epoch %d", topic, p, end.Offset, end.LeaderEpoch, next[p], epoch))
			}
		}
		reply <- a
	}(h.asking)
}

// sameTopic proves that the purchases are the topic that we read, with no partitions but those that we know of: orders may
// already wait in one that has just been made or added. It asks the brokers; the client would answer from its memory, as it
// does for the ends.
func (s *shard) sameTopic(ctx context.Context) error {
	req, topic := kmsg.NewPtrMetadataRequest(), kmsg.NewMetadataRequestTopic()
	topic.Topic = &s.p.cfg.Inputs.Purchases
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return err
	}
	if len(resp.Topics) != 1 || int32(len(resp.Topics[0].Partitions)) != s.purchases {
		return errors.New("the partitions are no longer those that are read")
	}
	if id := kadm.TopicID(resp.Topics[0].TopicID).String(); id != s.ids[s.p.cfg.Inputs.Purchases] {
		return errors.New("the topic is no longer the one that is read")
	}
	return nil
}

// waitsFor says whether a timer or a reader waits for the horizon to reach an instant.
func (s *shard) waitsFor(instant state.Instant) bool {
	if s.p.wanted[s.id].waiting() || !s.adopted.caughtUp {
		return true
	}
	timers, err := s.store.Due(instant, 1, nil)
	return err != nil || len(timers) > 0
}

// settled says whether all silence that may be played has been, since the shard was acquired.
func (h *horizon) settled() bool { return h.observed > 0 && !h.more && h.played >= h.observed }

// observe moves the horizon if the last answer has been reached.
func (h *horizon) observe(next map[int32]int64) {
	if h.answered.instant <= h.observed {
		return
	}
	for p, end := range h.answered.ends {
		if next[p] < end {
			return
		}
	}
	h.observed = h.answered.instant
}

// playSilence looks at the customers for whom silence has become due, the longest due first, after the records of the
// cycle.
func (s *shard) playSilence() (err error) {
	h, c, limit := &s.silence, &s.cycle, s.p.cfg.Cycle.Timers
	h.observe(s.next[s.p.cfg.Inputs.Purchases])
	if c.timers, err = s.store.Due(h.observed, limit, c.timers); err != nil {
		return err
	}
	played := h.observed
	if h.more = len(c.timers) == limit; h.more {
		played = c.timers[limit-1].At - 1
	}
	for _, t := range c.timers {
		if err := s.fire(t); err != nil {
			return err
		}
	}
	for _, e := range s.overlay.order {
		if e.due <= h.observed { // a record of this cycle has made silence due that is already over
			h.more, played = true, min(played, e.due-1)
		}
	}
	h.played = max(h.played, played)
	if !s.adopted.caughtUp && h.settled() {
		s.adopted.caughtUp, s.adopted.news = true, true
	}
	return nil
}

// fire looks at one customer. A timer is only a hint: the customer knows when silence matters, and may have been moved
// on since.
func (s *shard) fire(t store.Timer) error {
	c := &s.cycle
	c.who = t.ID
	e, err := s.load(t.ID)
	if err != nil {
		return err
	}
	e.fired = true
	if c.customer.Due > s.silence.observed {
		return nil
	}
	if s.p.touched != nil {
		s.p.touched("silence", t.ID)
	}
	due := c.customer.Due
	c.changes = c.customer.Advance(s.adopted.is, s.silence.observed, c.say, c.changes[:0])
	c.tally.fired(c.now - due)
	return s.keep(e)
}

// armTimers writes the timers of the cycle's customers. An entry in the index is never later than the customer's due
// instant; one that is earlier re-arms itself when it comes up, which saves a write for every order that only postpones
// silence.
func (s *shard) armTimers(b *store.Batch) error {
	for _, t := range s.cycle.timers {
		if err := b.Disarm(t); err != nil {
			return err
		}
	}
	for _, e := range s.overlay.order {
		if e.fired || e.due < e.was {
			if err := b.Arm(e.due, e.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// rearm moves timers that came up for nothing. No transaction is needed: the index is made from the customers.
func (s *shard) rearm() error {
	if len(s.cycle.timers) == 0 {
		if s.silence.played > s.p.horizonOf(s.id) {
			s.publish()
		}
		return nil
	}
	b := s.store.NewBatch()
	defer b.Discard()
	if err := s.armTimers(b); err != nil {
		return err
	}
	err := s.guarded(b.Commit)
	s.publish()
	return err
}
