package pipeline

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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
	} else if told := s.counter("asiduo_timer_lateness_seconds", "0") + s.counter("asiduo_timer_lateness_seconds", "1"); told != n {
		t.Errorf("the lateness of %v customers is told, %v were moved", told, n)
	}
	if at := s.counter("asiduo_horizon_timestamp_seconds", "0"); at != float64(s.pipe.horizonOf(0))/1000 {
		t.Errorf("the metrics tell of silence up to %v, it was played up to %d", at, s.pipe.horizonOf(0))
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
	for _, step := range []Step{BeforeInit, AfterInit, BeforeOwner, AfterOwner, WithinRestore, AfterRestore, AfterResume, BeforeProduce, BeforeEnd, AfterEnd, WithinApply, AfterApply} {
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
	if len(s.log.lines(`msg="shard released"`)) == 0 {
		t.Error("the log does not say so")
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

// TestFreshCustomers has ever new customers, each with one order. What a process holds of them in memory does not grow with
// their number, only what is on disk does; nothing is refused, and the metrics tell how many there are.
func TestFreshCustomers(t *testing.T) {
	s := newShop(t)
	s.cfg.State.HotCache = 1 << 20
	var cached, changed, spare atomic.Int64
	s.start(func(p *Pipeline) {
		p.deps.Interrupt = func(shard int32, at Step) error {
			if at == AfterApply && shard == 0 { // on the goroutine of the shard
				p.board.mu.Lock()
				o := p.board.serving[shard].overlay
				p.board.mu.Unlock()
				cached.Store(max(cached.Load(), int64(len(o.cache.young)+len(o.cache.old))))
				changed.Store(max(changed.Load(), int64(len(o.entries))))
				spare.Store(max(spare.Load(), int64(cap(o.spare))))
			}
			return nil
		}
	})
	n := many(30_000, 1_000_000)
	var largest int
	for at := 0; at < n; at += 10_000 {
		rs := make([]*kgo.Record, 10_000)
		for i := range rs {
			who := fmt.Sprintf("fresh-%d", at+i)
			rs[i] = &kgo.Record{
				Topic: "purchases", Partition: s.place([]byte(who), 2), Key: []byte(who), Value: []byte(order(who, "o1")), Timestamp: time.UnixMilli(draftedAt),
			}
		}
		s.flood([]kgo.Opt{kgo.ProducerBatchMaxBytes(1 << 20)}, rs...)
		s.read(0, 1)
		c, _ := s.customer(string(rs[0].Key))
		largest = max(largest, len(c.AppendTo(nil)))
	}
	if limit := s.cfg.State.HotCache.Bytes() / 2 / cacheOverhead; cached.Load() > limit || cached.Load() == 0 {
		t.Errorf("%d records are cached, the limit of their bytes allows %d", cached.Load(), limit)
	}
	if got := changed.Load(); got > int64(s.cfg.Cycle.Records) || spare.Load() > 2*8192 {
		t.Errorf("a cycle holds %d customers, %d are kept for the next", got, spare.Load())
	}
	if largest > 150 {
		t.Errorf("a new customer takes %d bytes", largest)
	}
	s.await("the customers to be counted", func() bool {
		return s.counter("asiduo_customers", "0")+s.counter("asiduo_customers", "1") == float64(n)
	})
	s.unharmed(map[string]int{"fresh-0": 1, fmt.Sprintf("fresh-%d", n-1): 1})
	if got := s.counter("asiduo_store_memtable_bytes", "0") + s.counter("asiduo_store_disk_bytes", "0"); got < float64(n/2*largest) {
		t.Errorf("the metrics tell of %v bytes of half of %d customers", got, n)
	}
}
