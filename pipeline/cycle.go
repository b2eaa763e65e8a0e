package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// cycle is what one transaction and the batch after it are made from: buffers that live as long as the shard.
type cycle struct {
	customer     state.Customer
	interactions state.Interactions
	fact         state.Fact
	changes      []state.Change
	out          []*kgo.Record // changes, dead letters and profiles
	timers       []store.Timer // that have come up
	consumed     int           // records, those without effect included
	bytes        int
	tally        tallies
	now          state.Instant
	timeKnown    bool
	say          state.Telling
}

func (c *cycle) reset() {
	clear(c.out)
	c.out, c.timers, c.consumed, c.bytes = c.out[:0], c.timers[:0], 0, 0
	c.tally.reset()
}

// run makes cycles until an error, or the end of soft. hard lives a little longer, for the transaction in flight.
func (s *shard) run(soft, hard context.Context) error {
	s.p.setState(s.id, "running", nil)
	s.publish()
	flushed, looked, anchored := time.Now(), time.Now(), time.Now()
	for {
		began := time.Now()
		if err := s.poll(soft); err != nil {
			return err
		}
		if soft.Err() != nil {
			return nil
		}
		s.ask(soft)
		committed, err := s.turn(hard)
		if err != nil {
			return err
		}
		s.serveViews()
		if time.Since(flushed) >= s.p.cfg.State.FlushEvery.Std() {
			flushed = time.Now()
			if err := s.store.Flush(); err != nil {
				return fmt.Errorf("flush store: %w", err)
			}
		}
		if time.Since(looked) >= 2*time.Second {
			looked = time.Now()
			if err := s.waitForRoom(soft); err != nil {
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

// poll makes sure that records are pending if there are any. It waits only when there is nothing else to do.
func (s *shard) poll(soft context.Context) error {
	if len(s.pending) > 0 {
		return nil
	}
	var ctx context.Context // none: take what has been fetched and return; one that has ended would take nothing
	if !s.silence.more {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(soft, s.p.idle)
		defer cancel()
	}
	fetched := s.cl.PollRecords(ctx, s.p.cfg.Cycle.Records)
	for _, e := range fetched.Errors() {
		switch {
		case errors.Is(e.Err, context.DeadlineExceeded), errors.Is(e.Err, context.Canceled):
		case errors.Is(e.Err, kerr.OffsetOutOfRange):
			return truncated(e.Topic, e.Partition)
		case errors.Is(e.Err, kerr.UnknownTopicID), errors.Is(e.Err, kerr.UnknownTopicOrPartition), errors.Is(e.Err, kerr.InconsistentTopicID):
			return &stopError{"input_recreated", fmt.Errorf("input %s/%d is gone: %w", e.Topic, e.Partition, e.Err)}
		default:
			return fmt.Errorf("fetch %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
	}
	s.pending = append(s.pending[:0], fetched.Records()...)
	fetched.EachPartition(func(f kgo.FetchTopicPartition) {
		if f.HighWatermark > 0 {
			s.p.metrics.end(s.id, f.Topic, f.Partition, f.HighWatermark)
		}
	})
	return nil
}

// turn makes one cycle of what is pending and due; false if there was nothing to commit.
func (s *shard) turn(ctx context.Context) (committed bool, err error) {
	began := time.Now()
	c, o := &s.cycle, s.overlay
	c.reset()
	o.reset()
	s.listen()
	limit := int(s.p.cfg.Cycle.Bytes.Bytes())
	for len(s.pending) > 0 && c.consumed < s.p.cfg.Cycle.Records && c.bytes < limit && o.bytes < 4*limit {
		if err := s.consume(s.pending[0]); err != nil {
			return false, err
		}
		s.pending[0] = nil
		s.pending = s.pending[1:]
	}
	if err := s.playSilence(); err != nil {
		return false, err
	}
	changed := 0
	for _, e := range o.order {
		if e.newCustomer || e.newInteracts {
			changed++
		}
	}
	if c.consumed == 0 && changed == 0 {
		return false, s.rearm() // at most the order of timers has changed, which is nobody else's business
	}
	if err := s.profiles(); err != nil {
		return false, err
	}
	s.p.metrics.phase(s.id, "work", began)
	return true, s.commit(ctx)
}

// listen takes the instant that the cycle goes by.
func (s *shard) listen() {
	c := &s.cycle
	c.now, c.timeKnown = s.clock.now()
	t := s.p.cfg.Time
	c.say = state.Telling{LiveFrom: s.p.liveFrom, EmitBackfill: t.Backfill == "emit"}
	if s.clock.kind == "manual" {
		c.timeKnown = false // nothing is late, nothing is in the future
	} else {
		c.say.StaleBefore = c.now - millis(t.AnnounceLateOver)
	}
}

// consume takes one record of an input. A panic on the way names the record; three of them at one record make it a
// dead letter, since it would stop everybody behind it for ever.
func (s *shard) consume(r *kgo.Record) (err error) {
	next, known := s.next[r.Topic]
	if !known {
		return fmt.Errorf("a record of %s among those of the inputs", r.Topic)
	}
	if r.Offset < next[r.Partition] {
		return fmt.Errorf("input %s/%d went back from %d to %d", r.Topic, r.Partition, next[r.Partition], r.Offset)
	}
	next[r.Partition] = r.Offset + 1
	if r.Attrs.IsControl() {
		return nil
	}
	c := &s.cycle
	c.consumed++
	c.bytes += len(r.Key) + len(r.Value)
	c.tally.consumed(r)
	at := recordID{r.Topic, r.Partition, r.Offset}
	if s.poison.skips(at) {
		c.reject(s, r, rejectf(unprocessable, "processing the record failed %d times", maxPoison))
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &poisonError{at, fmt.Errorf("panic: %v", v)}
		}
	}()
	if s.p.touched != nil {
		s.p.touched(r)
	}
	from := purchases
	if r.Topic != s.p.cfg.Inputs.Purchases {
		from = interactions
	}
	if bad := s.dec.decode(from, r, c.now, c.timeKnown, &c.fact); bad != nil {
		c.reject(s, r, bad)
		return nil
	}
	if s.place(r.Key, s.p.Shards()) != s.id {
		if s.p.cfg.Inputs.Misrouted == "fail" {
			return &stopError{"misrouted", fmt.Errorf("record %s/%d@%d is on the wrong partition for its key by %s: set inputs.partitioner to what the producers use, or inputs.misrouted to dead_letter", r.Topic, r.Partition, r.Offset, s.p.cfg.Inputs.Partitioner)}
		}
		c.reject(s, r, rejectf(misrouted, "the record is on the wrong partition for its key by %s", s.p.cfg.Inputs.Partitioner))
		return nil
	}
	return s.apply(r)
}

// apply takes the decoded fact to its customer.
func (s *shard) apply(r *kgo.Record) error {
	c, p := &s.cycle, s.p.params
	e, err := s.overlay.customer(c.fact.Customer, &c.customer)
	if err != nil {
		return err
	}
	if c.fact.Kind == state.InteractionFact {
		if _, err := s.overlay.withInteractions(e, &c.interactions); err != nil {
			return err
		}
		if why := c.interactions.Apply(&p.Limits, &c.fact.Interaction); why != "" {
			c.reject(s, r, rejectf(reason(why), "the customer has reached the limit %s", why))
		}
		s.overlay.keepInteractions(e, &c.interactions)
		return nil
	}
	if why := c.customer.Refuse(p, &c.fact); why != "" {
		if why == state.TooLate {
			c.reject(s, r, rejectf(reason(why), "the order or refund is more than %d days old", p.Window/state.Day))
			return nil
		}
		c.reject(s, r, rejectf(reason(why), "the customer has reached the limit %s", why))
		c.customer.Truncated = true
		s.overlay.keep(e, &c.customer)
		return nil
	}
	c.changes = c.customer.Advance(p, c.fact.At, c.say, c.changes[:0])
	c.changes = c.customer.Apply(p, &c.fact, c.say, c.changes)
	return s.keep(e)
}

// keep takes the customer of the cycle's scratch into the overlay, and what is told about it.
func (s *shard) keep(e *entry) error {
	c := &s.cycle
	s.overlay.keep(e, &c.customer)
	if len(c.changes) == 0 {
		return nil
	}
	known, err := s.overlay.withInteractions(e, &c.interactions)
	if err != nil {
		return err
	}
	for i := range c.changes {
		ch := &c.changes[i]
		s.send(s.enc.Change(e.id, ch, optional(known, &c.interactions)))
		c.tally.change(s.p.params.Rules, ch)
	}
	return nil
}

func optional[T any](known bool, v *T) *T {
	if known {
		return v
	}
	return nil
}

// reject writes a dead letter.
func (c *cycle) reject(s *shard, r *kgo.Record, bad *reject) {
	s.send(s.enc.DeadLetter(&events.Rejected{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(),
		Key: r.Key, Value: r.Value, Reason: string(bad.reason), Detail: bad.detail,
	}))
	c.tally.rejected[bad.reason]++
}

func (s *shard) send(r events.Record) {
	out := &kgo.Record{Topic: r.Topic, Partition: s.id, Key: r.Key, Value: r.Value, Headers: make([]kgo.RecordHeader, len(r.Headers))}
	for i, h := range r.Headers {
		out.Headers[i] = kgo.RecordHeader(h)
	}
	s.cycle.out = append(s.cycle.out, out)
	s.overlay.bytes += len(r.Key) + len(r.Value) + 512
}

// profiles writes the current standing of every customer the cycle has changed.
func (s *shard) profiles() error {
	if !s.p.cfg.Outputs.Profiles {
		return nil
	}
	c := &s.cycle
	for _, e := range s.overlay.order {
		if !e.newCustomer && !e.newInteracts {
			continue
		}
		known := len(e.customer) > 0
		if known {
			if err := c.customer.Decode(e.customer); err != nil {
				return err
			}
		}
		touched, err := s.overlay.withInteractions(e, &c.interactions)
		if err != nil {
			return err
		}
		s.send(s.enc.Profile(e.id, optional(known, &c.customer), optional(touched, &c.interactions)))
	}
	return nil
}

// waitForRoom stops intake while the disk is nearly full.
func (s *shard) waitForRoom(ctx context.Context) error {
	for told := false; ; told = true {
		free, known := s.p.dir.Free()
		if !known || free >= uint64(s.p.cfg.State.MinFree.Bytes()) {
			if told {
				s.p.setState(s.id, "running", nil)
			}
			return nil
		}
		if !told {
			s.p.setState(s.id, "disk_full", fmt.Errorf("only %d MiB are free below %s: intake is stopped until there is room (state.min_free)", free>>20, s.p.dir.Path))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Second):
		}
	}
}
