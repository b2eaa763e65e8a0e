package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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
		value := strings.Replace(order(s.who[0], id), "2024-05-01T09:00:00Z", now().UTC().Format("2006-01-02T15:04:05.000Z"), 1)
		r := &kgo.Record{Topic: "purchases", Key: []byte(s.who[0]), Value: []byte(value), Timestamp: now()}
		if err := s.cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
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
	var once sync.Once
	var at atomic.Pointer[func()] // the third record
	left := make(chan int, 2)
	s.start(func(p *Pipeline) {
		p.Touch(func(r *kgo.Record) {
			if end := at.Load(); end != nil && r.Offset == 3 {
				(*end)()
			}
		})
		p.deps.Interrupt = func(id int32, step Step) (err error) {
			if id == 0 && step == AfterApply { // on the goroutine of the shard
				once.Do(func() {
					p.board.mu.Lock()
					on := p.board.serving[id]
					p.board.mu.Unlock()
					soft, end := context.WithCancel(t.Context())
					defer end()
					cancel := func() { end() }
					at.Store(&cancel)
					defer at.Store(nil)
					for i := range 10 {
						r := &kgo.Record{Topic: "purchases", Key: []byte(s.who[0]), Value: []byte(order(s.who[0], fmt.Sprint(i))), Offset: int64(i + 1), Timestamp: time.UnixMilli(draftedAt)}
						on.pending = append(on.pending, r)
					}
					err = errors.Join(errors.New("what was made up dies with the shard"), on.work(soft))
					left <- on.cycle.consumed
					left <- len(on.pending)
				})
			}
			return err
		}
	})
	s.buy("o1")
	s.read(0, 1)
	if consumed, pending := <-left, <-left; consumed != 3 || pending != 7 {
		t.Errorf("%d were consumed, %d left", consumed, pending)
	}
}
