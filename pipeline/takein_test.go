package pipeline

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
)

// TestTakesIn has an order come while a cycle is at work, stamped a minute after that has begun: it joins the cycle, and is not from the future.
func TestTakesIn(t *testing.T) {
	s := newShop(t)
	s.cfg.Time.Clock, s.cfg.Time.MaxFuture = "wall", config.Duration(time.Second)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	put := func(id string) {
		if err := s.cl.ProduceSync(t.Context(), orderedAt(s.who[0], id, now())).FirstErr(); err != nil {
			t.Error(err)
		}
	}
	var readers clients
	before := make(chan float64, 1)
	s.start(func(p *Pipeline) {
		p.wall = now
		p.deps.Client = append(p.deps.Client, kgo.WithHooks(&readers))
		p.Touch(func(*kgo.Record) {
			if ahead.Swap(int64(time.Minute)) == 0 {
				before <- s.counter("asiduo_cycles_total", "0")
				put("o2")
				eventually(t, "the order to be fetched", readers.fetched)
			}
		})
	})
	put("o1")
	s.await("the orders", func() bool { return s.pipe.Positions()["purchases"][0] == 2 })
	was := <-before
	s.await("their cycle", func() bool { return s.counter("asiduo_cycles_total", "0") > was })
	if n := s.counter("asiduo_cycles_total", "0") - was; n != 1 {
		t.Errorf("%v cycles took them in", n)
	}
	if got := s.letters(); len(got) != 0 {
		t.Errorf("dead letters %v", got)
	}
}

// TestLeavesTheRest ends an assignment at the third record of a cycle: those after it are left to the next owner, so that what
// the cycle has is committed while there is time.
func TestLeavesTheRest(t *testing.T) {
	s := newShop(t)
	soft, end := context.WithCancel(t.Context())
	var working atomic.Bool
	left := make(chan int, 2)
	s.start(func(p *Pipeline) {
		p.Touch(func(r *kgo.Record) {
			if working.Load() && r.Offset == 3 {
				end()
			}
		})
	}, onShard(func(on *shard) {
		working.Store(true)
		defer working.Store(false)
		for i := range 10 {
			r := orderedAt(s.who[0], fmt.Sprint(i), time.UnixMilli(draftedAt))
			r.Offset = int64(i + 1)
			on.pending = append(on.pending, r)
		}
		if err := on.work(soft); err != nil {
			t.Error(err)
		}
		left <- on.cycle.consumed
		left <- len(on.pending)
	}))
	s.buy("o1")
	s.read(0, 1)
	if consumed, pending := <-left, <-left; consumed != 3 || pending != 7 {
		t.Errorf("%d were consumed, %d left", consumed, pending)
	}
}

// TestLetterOwnsItsBytes has a record refused whose bytes are those of a batch: what of them goes into the dead letter is a copy, so that the batch
// is not kept until the commit.
func TestLetterOwnsItsBytes(t *testing.T) {
	s := newShop(t)
	told := make(chan string, 1)
	s.start(onShard(func(on *shard) {
		r := &kgo.Record{Topic: "purchases", Key: []byte(s.who[0]), Value: []byte("{"), Offset: 1, Timestamp: time.UnixMilli(draftedAt)}
		on.pending = append(on.pending, r)
		if err := on.work(t.Context()); err != nil {
			t.Error(err)
		}
		clear(r.Key)
		clear(r.Value)
		for _, out := range on.cycle.out {
			if out.Topic == "shop.dead-letters" {
				told <- string(out.Key) + " " + string(out.Value)
			}
		}
		close(told)
	}))
	s.buy("o1")
	s.read(0, 1)
	if got, want := <-told, s.who[0]+" {"; got != want {
		t.Errorf("the dead letter is %q, want %q", got, want)
	}
}
