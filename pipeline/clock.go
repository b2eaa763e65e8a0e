package pipeline

import (
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

// clock tells a shard what now is.
type clock struct {
	kind   string // of config.Time.Clock
	manual *Manual
	broker time.Time // the brokers' time of the owner record ...
	local  time.Time // ... and the local (monotonic) instant before it was sent
}

func (c *clock) anchor(broker, local time.Time) { c.broker, c.local = broker, local }

// now is the instant that business goes by; false while a driver has not given one.
func (c *clock) now() (state.Instant, bool) {
	switch c.kind {
	case "manual":
		n := state.Instant(c.manual.now.Load())
		return n, n > 0
	case "wall":
		return state.Instant(time.Now().UnixMilli()), true
	}
	return state.Instant(c.broker.Add(time.Since(c.local)).UnixMilli()), true
}

// drift is how far the machine's clock is from the brokers'.
func (c *clock) drift() time.Duration {
	return time.Since(c.broker.Add(time.Since(c.local))).Round(time.Millisecond)
}
