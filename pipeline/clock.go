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
	local  time.Time // ... and a local (monotonic) instant at which it was surely written: now is never ahead
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
	return known && d.Abs() > ClocksWrong
}

// atLeast is now by the earlier of the clocks.
func (c *clock) atLeast() state.Instant {
	t, known := c.brokers()
	if wall := c.wall(); !known || wall.Before(t) {
		t = wall
	}
	return state.Instant(t.UnixMilli())
}

// anchorAgain follows the brokers' clock: the monotonic one drifts, and stands still while a machine sleeps. The last record
// of our last transaction was stamped before that had ended. Its marker, which may come late, was not.
func (s *shard) anchorAgain(ctx context.Context) {
	if s.clock.kind != "broker" || s.ended.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for r, err := range Committed(ctx, s.p.client, changelogTopic(s.p.cfg.App), s.id, s.tail, s.tail+1) {
		if err == nil && r.Offset == s.tail { // or the next time
			s.clock.anchor(r.Timestamp, s.ended)
		}
		return
	}
}
