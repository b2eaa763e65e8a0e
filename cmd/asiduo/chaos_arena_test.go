//go:build kafka

package main

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
)

// arena is where it happens.
type arena struct {
	t       testing.TB
	w       *world
	brokers int
	length  time.Duration
	all     []*victim
	broker  sync.Mutex // held while a broker is away
	running sync.WaitGroup
	busy    sync.WaitGroup // faults under way

	mu      sync.Mutex
	faults  []fault
	skipped int
	acked   map[string]map[int32]int64 // ends of the inputs, as the loaders know them
	lag     int64                      // greatest seen
	records int
	aborted int // records that the transactional loader has taken back
	refused map[string]int
}

// note says that a fault begins.
func (a *arena) note(kind, to string, gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, fault{kind, to, time.Now(), gone})
	a.t.Logf("%s %3d %s %s", time.Now().Format("15:04:05.0"), len(a.faults), kind, to)
}

// between is a part of the way from one duration to another.
func between(least, most time.Duration, part float64) time.Duration {
	return least + time.Duration(part*float64(most-least))
}

// inflict begins a fault; false if whom it is for has one already.
func (a *arena) inflict(p planned) bool {
	if faultFamily(p.kind) == "broker" {
		return a.inflictBroker(p)
	}
	v := a.all[p.process]
	if !v.busy.CompareAndSwap(false, true) {
		return false
	}
	a.busy.Go(func() {
		defer v.busy.Store(false)
		if err := a.hurt(v, p); err != nil {
			a.t.Errorf("%s of %s: %v", p.kind, v.name, err)
		}
		time.Sleep(between(time.Second, 5*time.Second, p.long)) // some time to get on, or not
	})
	return true
}

func (a *arena) hurt(v *victim, p planned) error {
	away := between(sessionTimeout, 2*sessionTimeout, p.long)
	nothing := func() error { return nil }
	switch p.kind {
	case "kill", "kill-away", "kill-wipe", "kill-stale":
		meanwhile := nothing
		switch {
		case p.kind == "kill-wipe":
			meanwhile = func() error { return os.RemoveAll(v.cfg.State.Dir) }
		case p.kind == "kill-stale" && len(v.copies) > 0:
			meanwhile = func() error { return a.putBack(v, p) }
		case p.coin || p.kind == "kill-stale":
			p.kind = strings.Replace(p.kind, "-stale", "", 1)
			meanwhile = v.keepCopy
		}
		if p.kind != "kill-away" {
			away = between(0, 300*time.Millisecond, p.long)
		}
		a.note(p.kind, v.name, true)
		return v.down(away, meanwhile)
	case "freeze", "freeze-short":
		if p.kind == "freeze-short" {
			away = between(500*time.Millisecond, sessionTimeout-time.Second, p.long)
		} else {
			away += time.Second
		}
		a.note(p.kind, v.name, p.kind == "freeze")
		v.freeze(away)
	case "term":
		a.note(p.kind, v.name, false)
		return v.terminate(0)
	case "term-away":
		a.note(p.kind, v.name, false)
		return v.terminate(away)
	default:
		a.network(v, p)
	}
	return nil
}

// putBack puts a copy of the data directory back that was taken earlier.
func (a *arena) putBack(v *victim, p planned) error {
	from := v.copies[int(p.long*float64(len(v.copies)))%len(v.copies)]
	if err := os.RemoveAll(v.cfg.State.Dir); err != nil {
		return err
	}
	return os.CopyFS(v.cfg.State.Dir, os.DirFS(from))
}

// network does something to the connections of one process, or of all.
func (a *arena) network(v *victim, p planned) {
	to, nets := v.name, []*network{v.net}
	if p.all {
		to, nets = "all", nil
		for _, v := range a.all {
			nets = append(nets, v.net)
		}
	}
	each := func(what func(*proxy)) {
		for _, n := range nets {
			n.each(what)
		}
	}
	a.note(p.kind, to, false)
	switch p.kind {
	case "cut":
		each((*proxy).cut)
	case "refuse":
		each(func(p *proxy) { p.refuse.Store(true); p.cut() })
		time.Sleep(between(time.Second, 9*time.Second, p.long))
		each(func(p *proxy) { p.refuse.Store(false) })
	case "delay":
		each(func(x *proxy) { x.delay.Store(int64(between(20*time.Millisecond, 400*time.Millisecond, p.long))) })
		time.Sleep(between(3*time.Second, 10*time.Second, p.long))
		each(func(p *proxy) { p.delay.Store(0) })
	case "half-close":
		each(func(x *proxy) { x.halfClose(p.coin) })
	case "swallow":
		each(func(p *proxy) { p.swallow.Store(true) })
		time.Sleep(between(50*time.Millisecond, 5*time.Second, p.long))
		each(func(p *proxy) { p.cut(); p.swallow.Store(false) }) // what was lost cannot be said again
	case "deaf":
		each(func(p *proxy) { p.deaf.Store(true) })
		time.Sleep(between(50*time.Millisecond, 5*time.Second, p.long))
		each(func(p *proxy) { p.cut(); p.deaf.Store(false) })
	}
}

// written notes what a loader has got acknowledged.
func (a *arena) written(r *kgo.Record, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.refused[err.Error()]++
		return
	}
	a.records++
	if a.acked[r.Topic] == nil {
		a.acked[r.Topic] = map[int32]int64{}
	}
	a.acked[r.Topic][r.Partition] = max(a.acked[r.Topic][r.Partition], r.Offset+1)
}

// loadPlain writes what happens, record by record.
func (a *arena) loadPlain(ctx context.Context, perSecond int) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = a.w.cl.Flush(context.Background())
			return
		case <-tick.C:
			for _, r := range a.w.load.next(time.Now()) {
				a.w.cl.Produce(context.Background(), r, a.written)
			}
		}
	}
}

// loadTransactions writes what happens in transactions, of which every seventh is taken back: nobody may see it.
func (a *arena) loadTransactions(ctx context.Context, l *load, perSecond int) {
	const step = 300 * time.Millisecond
	for ctx.Err() == nil {
		cl, err := pipeline.Connector(a.w.cfg.Kafka)(kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.TransactionalID(a.w.cfg.App+"-loader"), kgo.TransactionTimeout(5*time.Second))
		if err != nil {
			a.t.Error(err)
			return
		}
		for n := 0; err == nil && ctx.Err() == nil; n++ {
			err = a.transaction(cl, l, int(float64(perSecond)*step.Seconds()), n%7 != 6)
			time.Sleep(step)
		}
		cl.Close() // the next one's InitProducerID ends what is open
	}
}

func (a *arena) transaction(cl *kgo.Client, l *load, n int, commit bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	var first kgo.FirstErrPromise
	written := 0
	for range n {
		for _, r := range l.next(time.Now()) {
			cl.Produce(ctx, r, first.Promise())
			written++
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	if err := first.Err(); err != nil {
		return err
	}
	if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if commit {
		a.records += written
	} else {
		a.aborted += written
	}
	return nil
}

// watchLag looks how far the shards are behind.
func (a *arena) watchLag(ctx context.Context, l *tail) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		next, _ := l.positions()
		a.mu.Lock()
		lag := int64(0)
		for topic, at := range a.acked {
			for p, end := range at {
				lag += max(0, end-next[topic][p])
			}
		}
		a.lag = max(a.lag, lag)
		a.mu.Unlock()
	}
}
