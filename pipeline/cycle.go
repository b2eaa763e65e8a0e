package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// cycle is what one transaction and the batch after it are made from: buffers that live as long as the shard.
type cycle struct {
	customer     state.Customer
	before       state.Customer // as stored, of a customer whom the sweep moves
	interactions state.Interactions
	fact         state.Fact
	changes      []state.Change
	out          []*kgo.Record // changes, dead letters and profiles
	timers       []store.Timer // that have come up
	consumed     int           // records, those without effect included
	bytes        int
	tally        tallies
	links        []trace.Link // to the traces of its records
	now          state.Instant
	timeKnown    bool
	say          state.Telling
	at           recordID // the record at work
	last         recordID // the last record consumed
	who          string   // the customer at work, where there is no record
	silence      bool     // silence was played
}

func (c *cycle) reset() {
	clear(c.out)
	c.out, c.timers, c.consumed, c.bytes = c.out[:0], c.timers[:0], 0, 0
	c.at, c.last, c.who = recordID{}, recordID{}, ""
	c.tally.reset()
	c.links = c.links[:0]
}

// turn makes one cycle of what is pending and due; false if there was nothing to commit.
func (s *shard) turn(soft, hard context.Context) (committed bool, err error) {
	began := time.Now()
	// Many reads from a slow disk take long, and one from a disk that hangs never ends.
	if err := s.within(30*s.p.stuck, "reading the customers of a cycle", func() error { return s.work(soft) }); err != nil {
		return false, err
	}
	if len(s.cycle.out) == 0 && s.cycle.consumed == 0 && !s.overlay.changes() && !s.adopted.news && !s.bareDue() {
		err = s.rearm() // at most the order of timers has changed, which is nobody else's business
	} else {
		ctx, span := s.cycleSpan(hard, began)
		s.phase(ctx, "work", began)
		committed, err = true, s.commit(ctx)
		finish(span, err)
	}
	if err == nil {
		s.poison.passed(s.cycle.consumed, len(s.cycle.timers), s.cycle.silence)
	}
	return committed, err
}

// work computes the cycle. A panic on the way is a fault of our own code; three of them at one record make the record a
// dead letter, since it would stop everybody behind it for ever.
func (s *shard) work(soft context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = s.blame(v)
		}
	}()
	c, o := &s.cycle, s.overlay
	c.reset()
	o.reset()
	defer func() {
		if ended := o.store.End(); err == nil {
			err = ended
		}
	}()
	if err := s.adopt(); err != nil {
		return err
	}
	s.listen()
	s.confess(s.missing)
	most, silence := s.poison.share(s.p.cfg.Cycle.Records)
	if err := s.takeIn(soft, most); err != nil {
		return err
	}
	if silence = silence && soft.Err() == nil; silence {
		for _, step := range []func() error{s.playSilence, s.sweepOn, s.tell} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	c.silence = silence
	return s.profiles()
}

// takeIn takes records while there are any, at most so many: what has come while others were worked at joins their cycle, so that cycles
// grow with what waits, and a customer of many records is written once. When soft ends it leaves the others: what it has is committed in time.
func (s *shard) takeIn(soft context.Context, most int) error {
	c, o, limit := &s.cycle, s.overlay, int(s.p.cfg.Cycle.Bytes.Bytes())
	room := func() bool {
		return soft.Err() == nil && c.consumed < most && c.bytes < limit && o.bytes < s.roomy()
	}
	for {
		if room() {
			ahead := s.pending[:min(len(s.pending), most-c.consumed)]
			if err := o.readAhead(ahead, s.roomy()-o.bytes); err != nil {
				return err
			}
		}
		for len(s.pending) > 0 && room() {
			if err := s.consume(s.pending[0]); err != nil {
				return err
			}
			c.at = recordID{}
			s.pending[0] = nil
			s.pending = s.pending[1:]
		}
		if len(s.pending) > 0 {
			return nil
		}
		for _, batch := range s.unread {
			s.skip(batch)
		}
		s.unread = s.unread[:0]
		if !room() || c.consumed == 0 {
			return nil
		}
		told := len(s.missing)
		if err := s.poll(soft, nil, most-c.consumed); err != nil {
			return err
		}
		s.listen() // none of them is younger than now
		s.confess(s.missing[told:])
		if len(s.pending)+len(s.unread) == 0 {
			return nil
		}
	}
}

// roomy is how many bytes a cycle may change before it takes nothing more.
func (s *shard) roomy() int { return 4 * int(s.p.cfg.Cycle.Bytes.Bytes()) }

// listen takes the instant that the cycle goes by.
func (s *shard) listen() {
	c := &s.cycle
	c.now, c.timeKnown = s.clock.now()
	t := s.p.cfg.Time
	c.say = state.Telling{LiveFrom: s.liveFrom(), EmitBackfill: t.Backfill == "emit"}
	if s.clock.kind == "manual" {
		c.timeKnown = false // nothing is late, nothing is in the future
	} else {
		c.say.StaleBefore = c.now - millis(t.AnnounceLateOver)
	}
	if s.clock.doubted() {
		c.timeKnown, c.say.StaleBefore = false, s.clock.atLeast()-millis(t.AnnounceLateOver)
	}
}

// consume takes one record of an input.
func (s *shard) consume(r *kgo.Record) error {
	next, known := s.next[r.Topic]
	if !known {
		return fmt.Errorf("a record of %s among those of the inputs", r.Topic)
	}
	if r.Offset < next[r.Partition] {
		return fmt.Errorf("input %s/%d went back from %d to %d", r.Topic, r.Partition, next[r.Partition], r.Offset)
	}
	next[r.Partition], s.epochs[r.Topic][r.Partition] = r.Offset+1, r.LeaderEpoch
	if r.Attrs.IsControl() {
		return nil
	}
	c := &s.cycle
	c.consumed++
	c.bytes += len(r.Key) + len(r.Value)
	c.tally.consumed(r)
	s.follow(r)
	c.at = recordID{r.Topic, r.Partition, r.Offset}
	c.last = c.at
	skip := s.poison.skips(c.at)
	if s.p.touched != nil {
		s.p.touched(map[bool]string{false: "record", true: "dead letter"}[skip], r)
	}
	if skip {
		c.reject(s, r, rejectf(unprocessable, "processing the record failed %d times", maxPoison))
		return nil
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
	c, p := &s.cycle, s.adopted.is
	e, err := s.load(c.fact.Customer)
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
		ch, enc := &c.changes[i], s.adopted.enc
		if ch.Is.Versions != s.adopted.is.Versions { // silence before the adoption
			enc = s.adopted.was
		}
		s.send(enc.Change(e.id, ch, optional(known, &c.interactions)))
		c.tally.change(s.adopted.is.Rules, ch)
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
	s.send(s.adopted.enc.DeadLetter(&events.Rejected{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(),
		Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), // without the batch that they lie in, which may be as long as a hundred of them
		Reason: string(bad.reason), Detail: bad.detail,
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
		c.who = e.id
		if s.p.touched != nil {
			s.p.touched("profile", e.id)
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
		s.send(s.adopted.enc.Profile(e.id, optional(known, &c.customer), optional(touched, &c.interactions)))
	}
	return nil
}

// waitForRoom stops intake while the disk is nearly full; busy is the state of the shard when it goes on. That takes a tenth
// more room than state.min_free, so that what a cycle or a compaction takes and gives back does not stop it again at once.
func (s *shard) waitForRoom(ctx context.Context, busy string) error {
	least := uint64(s.p.cfg.State.MinFree.Bytes())
	enough := least
	for told := false; ; told = true {
		free, known := s.p.dir.Free()
		if !known || free >= enough {
			if told {
				s.p.setState(s.id, busy, nil)
			}
			return nil
		}
		if !told {
			enough += least / 10
			s.p.setState(s.id, "disk_full", fmt.Errorf("only %d MiB are free below %s: intake is stopped until there is room (state.min_free)", free>>20, s.p.dir.Path))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.p.room):
		}
	}
}
