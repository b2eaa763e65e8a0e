package pipeline

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/asiduo/asiduo/state"
)

// Manual is the clock of simulate, demo and tests: a driver says what now is. Before it has, nothing is due by itself
// and no timestamp is in the future.
type Manual struct{ now atomic.Int64 }

// Set makes now the given instant; it never goes back.
func (m *Manual) Set(now state.Instant) {
	for {
		was := m.now.Load()
		if int64(now) <= was || m.now.CompareAndSwap(was, int64(now)) {
			return
		}
	}
}

// clock tells a shard what now is. Others may ask it too.
type clock struct {
	kind   string // of config.Time.Clock
	manual *Manual
	wall   func() time.Time // the machine's
	last   atomic.Pointer[anchor]
}

// anchor ties the brokers' clock to the machine's.
type anchor struct {
	broker time.Time // the brokers' time of a record of ours ...
	local  time.Time // ... and the local (monotonic) instant at which it was known to be written: now is ahead by what a commit marker takes at most
}

func (c *clock) anchor(broker, local time.Time) { c.last.Store(&anchor{broker, local}) }

// now is the instant that business goes by; false while it is not known.
func (c *clock) now() (state.Instant, bool) {
	switch c.kind {
	case "manual":
		n := state.Instant(c.manual.now.Load())
		return n, n > 0
	case "wall":
		return state.Instant(c.wall().UnixMilli()), true
	}
	t, known := c.brokers()
	return state.Instant(t.UnixMilli()), known
}

// brokers is the brokers' clock as far as it is known.
func (c *clock) brokers() (time.Time, bool) {
	a := c.last.Load()
	if a == nil {
		return time.Time{}, false
	}
	return a.broker.Add(time.Since(a.local)), true
}

// difference is how far the machine's clock is ahead of the brokers'. Brokers that do not stamp give our own clock back:
// then only its steps are seen.
func (c *clock) difference() (time.Duration, bool) {
	t, known := c.brokers()
	if !known || c.kind == "manual" {
		return 0, false
	}
	return c.wall().Round(0).Sub(t.Round(0)), true
}

// doubted says that the two clocks differ so much that one of them must be wrong. Then nothing is concluded from now:
// silence waits, and no record is in the future.
func (c *clock) doubted() bool {
	d, known := c.difference()
	return known && d.Abs() > clocksWrong
}

// atLeast is now by the earlier of the clocks.
func (c *clock) atLeast() state.Instant {
	t, known := c.brokers()
	if wall := c.wall(); !known || wall.Before(t) {
		t = wall
	}
	return state.Instant(t.UnixMilli())
}

// anchorAgain follows the brokers' clock: the monotonic one drifts, and stands still while a machine sleeps. The
// greatest timestamp in our partition of the changelog is that of our last transaction.
func (s *shard) anchorAgain(ctx context.Context) {
	if s.clock.kind != "broker" || s.ended.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	topic := changelogTopic(s.p.cfg.App)
	found, err := s.adm.ListMaxTimestampOffsets(ctx, topic)
	if err != nil {
		return // the next time
	}
	if last, ok := found.Lookup(topic, s.id); ok && last.Err == nil && last.Timestamp > 0 && last.Offset >= s.mark.Offset {
		s.clock.anchor(time.UnixMilli(last.Timestamp), s.ended)
	}
}
