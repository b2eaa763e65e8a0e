package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// seen is when the answer to a newcomer's first order could be read, and to what it was the answer.
type seen struct{ at, after time.Time }

// watcher reads committed answers as a subscriber does, and notes when.
type watcher struct {
	cl  *kgo.Client
	end context.CancelFunc

	mu        sync.Mutex
	newcomers map[int]seen
	fired     map[int]bool // customers moved by silence
	due       time.Time    // when they had to be
	err       error        // what is wrong with the answers
	finished  chan struct{}
}

// watch follows a topic from where it now ends.
func (o *options) watch(ctx context.Context, topic string) (*watcher, error) {
	ends, err := o.ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	from := map[int32]kgo.Offset{}
	for p, end := range ends {
		from[p] = kgo.NewOffset().At(end)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.broker.Address), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	w := &watcher{cl: cl, end: end, newcomers: map[int]seen{}, fired: map[int]bool{}, finished: make(chan struct{})}
	go func() {
		defer close(w.finished)
		for ctx.Err() == nil {
			fetched := cl.PollFetches(ctx)
			now := time.Now()
			w.mu.Lock()
			for it := fetched.RecordIter(); !it.Done(); {
				w.err = errors.Join(w.err, w.take(it.Next(), now))
			}
			w.mu.Unlock()
		}
	}()
	return w, nil
}

// close returns what was wrong with the answers.
func (w *watcher) close() error {
	w.end()
	<-w.finished
	w.cl.Close()
	return w.err
}

func (w *watcher) take(r *kgo.Record, now time.Time) error {
	if w.err != nil {
		return nil // one is enough
	}
	kind, n, err := number(r.Key)
	if err != nil {
		return err
	}
	effective := r.Timestamp // the raw pipeline writes that of the order, and no headers
	for _, h := range r.Headers {
		if h.Key == "ce_time" {
			if effective, err = time.Parse(time.RFC3339Nano, string(h.Value)); err != nil {
				return err
			}
		}
	}
	if kind == newcomer {
		if _, again := w.newcomers[n]; !again {
			w.newcomers[n] = seen{now, effective}
		}
		return nil
	}
	if w.due.IsZero() || !bytes.Contains(r.Value, []byte(`"timer"`)) {
		return nil
	}
	switch off := effective.Sub(w.due); {
	case w.fired[n]:
		return fmt.Errorf("customer %s was moved twice", r.Key)
	case off < 0 || off > time.Millisecond: // silence matters right after the last day
		return fmt.Errorf("customer %s was moved as of %v, due at %v", r.Key, effective, w.due)
	case r.Timestamp.Before(effective.Truncate(time.Millisecond)):
		return fmt.Errorf("customer %s was told at %v to have been moved at %v", r.Key, r.Timestamp, effective)
	}
	w.fired[n] = true
	return nil
}

func (w *watcher) count() (newcomers, fired int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.newcomers), len(w.fired), w.err
}

// await waits until the answers to so many newcomers can be read, and returns what is wrong with them.
func (w *watcher) await(ctx context.Context, newcomers int, most time.Duration) error {
	for limit := time.Now().Add(most); ; {
		n, _, err := w.count()
		switch {
		case err != nil || n == newcomers:
			return err
		case n > newcomers:
			return fmt.Errorf("%d newcomers were answered, there are %d", n, newcomers)
		case time.Now().After(limit):
			return fmt.Errorf("%d of %d newcomers were answered", n, newcomers)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// latencies are the times from timestamp to being readable of what was to be sent within a span, in order.
func (w *watcher) latencies(from, to time.Time) latencies {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all latencies
	for _, s := range w.newcomers {
		if !s.after.Before(from) && s.after.Before(to) {
			all = append(all, s.at.Sub(s.after))
		}
	}
	slices.Sort(all)
	return all
}

type latencies []time.Duration

func (l latencies) of(share float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(int(share*float64(len(l))), len(l)-1)]
}

func (l latencies) text() string {
	ms := func(share float64) float64 { return float64(l.of(share).Microseconds()) / 1000 }
	return fmt.Sprintf("%.0f / %.0f / %.0f ms (of %d)", ms(.5), ms(.99), ms(.999), len(l))
}

// ratio is how many times the 99th percentile of another load this one is.
func (l latencies) ratio(other latencies) float64 {
	return float64(l.of(.99)) / float64(max(other.of(.99), 1))
}
