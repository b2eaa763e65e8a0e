package pipeline

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asiduo/asiduo/state"
)

// TestTimerStorm has everybody's silence due at one instant: it is played in cycles of bounded size, each customer's
// once, while orders go on.
func TestTimerStorm(t *testing.T) {
	s := newShop(t)
	s.cfg.Cycle.Timers = 50
	var most atomic.Int64
	s.start(func(p *Pipeline) {
		p.deps.Interrupt = func(shard int32, at Step) error {
			if at == BeforeProduce {
				p.board.mu.Lock()
				n := len(p.board.serving[shard].cycle.timers)
				p.board.mu.Unlock()
				most.Store(max(most.Load(), int64(n)))
			}
			return nil
		}
	})
	s.crowd(2000)
	s.read(0, 1)
	cycles := s.counter("asiduo_cycles_total", "0") + s.counter("asiduo_cycles_total", "1")
	late := draftedAt + 31*state.Day
	s.clock.Set(late)
	s.buy("o1")
	s.read(0, 1)
	s.await("silence to be played", func() bool { return min(s.pipe.horizonOf(0), s.pipe.horizonOf(1)) >= late })
	if n := most.Load(); n > 50 {
		t.Errorf("a cycle has looked at %d customers", n)
	}
	if n := s.counter("asiduo_cycles_total", "0") + s.counter("asiduo_cycles_total", "1") - cycles; n < 2000/50 {
		t.Errorf("%v cycles for 2000 customers", n)
	}
	if n := s.counter("asiduo_timers_fired_total", "0") + s.counter("asiduo_timers_fired_total", "1"); n < 2000 || n > 2010 {
		t.Errorf("%v customers were moved by silence", n)
	}
	s.contiguous()
}

// TestHotKey has one customer with almost all of the records: the state is written once a cycle, and does not grow
// beyond the limit.
func TestHotKey(t *testing.T) {
	s := newShop(t)
	s.cfg.Limits.OrdersPerCustomer = 100
	for i := range 120 {
		s.put("purchases", 0, s.who[0], order(s.who[0], fmt.Sprintf("o%d", i)))
	}
	s.start()
	s.read(0, 1)
	ends, err := s.adm.ListEndOffsets(t.Context(), "shop.changelog")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("shop.changelog", 0)
	if cycles := s.counter("asiduo_cycles_total", "0"); float64(end.Offset) > 2+4*cycles {
		t.Errorf("%d records in the changelog for %v cycles", end.Offset, cycles)
	}
	if n := s.orders(0); n != 100 {
		t.Errorf("%d orders", n)
	}
	if n := s.counter("asiduo_dead_letters_total", string(state.TooManyOrders)); n != 20 {
		t.Errorf("%v dead letters", n)
	}
}

// TestStopAnywhere ends the process, as SIGTERM does, at every step of an acquisition and of a cycle: it ends soon and
// without an error, and the next one goes on.
func TestStopAnywhere(t *testing.T) {
	s := newShop(t)
	n := 0
	for _, step := range []Step{BeforeInit, AfterInit, BeforeOwner, AfterOwner, WithinRestore, AfterRestore, BeforeProduce, BeforeEnd, AfterEnd, AfterApply} {
		s.buy(fmt.Sprintf("o%d", n))
		n++
		ctx, cancel := context.WithCancel(t.Context())
		var at atomic.Int64
		p := s.process(func(p *Pipeline) {
			p.deps.Interrupt = func(_ int32, now Step) error {
				if now == step {
					at.CompareAndSwap(0, time.Now().UnixNano())
					cancel()
				}
				return nil
			}
		})
		if err := p.Run(ctx); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		if at.Load() == 0 {
			t.Errorf("%s was not reached", step)
		}
		if took := time.Since(time.Unix(0, at.Load())); took > 15*time.Second {
			t.Errorf("%s: it took %v to stop", step, took)
		}
	}
	s.start()
	s.read(0, 1)
	for shard := range int32(2) {
		if got := s.orders(shard); got != n {
			t.Errorf("shard %d: %d orders, want %d", shard, got, n)
		}
	}
	s.contiguous()
}
