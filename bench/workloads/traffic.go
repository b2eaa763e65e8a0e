package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/bench/measure"
)

// traffic is purchases by a schedule, whatever the answers are: a record has the timestamp at which it was to be sent, so that who is
// late, also we, makes the latency greater and not the load smaller.
type traffic struct {
	rate  float64 // a second
	most  int     // records; 0: until it is stopped
	among int     // every fourth is a newcomer's first, the others are of so many known customers; 0: of newcomers

	began     time.Time
	sent      int
	newcomers int           // how many of them were first orders
	late      time.Duration // at most, behind the schedule
	stop      atomic.Bool
	done      chan error
}

const firsts = 4 // one of so many records is a newcomer's first

// begin starts sending a little later.
func (t *traffic) begin(ctx context.Context, b *measure.Broker, records *book) {
	t.done, t.began = make(chan error, 1), time.Now().Add(100*time.Millisecond).Truncate(time.Millisecond)
	go func() { t.done <- t.run(ctx, b, records) }()
}

// wait ends the traffic, or waits until it has ended by itself, and until brokers have all of it.
func (t *traffic) wait(stop bool) error {
	if stop {
		t.stop.Store(true)
	}
	return <-t.done
}

// length is how long it takes.
func (t *traffic) length() time.Duration {
	return time.Duration(float64(t.most) / t.rate * float64(time.Second))
}

func (t *traffic) run(ctx context.Context, b *measure.Broker, records *book) error {
	cl, err := producer(b, 0)
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed atomic.Pointer[error]
	answer := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.Store(&err)
		}
	}
	for ; (t.most == 0 || t.sent < t.most) && !t.stop.Load(); t.sent++ {
		due := t.began.Add(time.Duration(float64(t.sent) / t.rate * float64(time.Second)))
		now := time.Now()
		if d := due.Sub(now); d > 0 {
			time.Sleep(d)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.late = max(t.late, time.Since(due))
		cl.Produce(ctx, t.next(records, due.Truncate(time.Millisecond)), answer)
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return fmt.Errorf("send: %w", *err)
	}
	return nil
}

func (t *traffic) next(b *book, at time.Time) *kgo.Record {
	if t.sent%firsts == 0 {
		t.newcomers++
		return b.purchase(newcomer, len(b.newcomers), at)
	}
	if t.among > 0 {
		return b.purchase(known, b.rng.IntN(t.among), at)
	}
	return b.purchase(newcomer, b.rng.IntN(len(b.newcomers)), at)
}
