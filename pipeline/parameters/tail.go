package parameters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Tail follows the topic and keeps the set as it is. Make one with NewTail; Run moves it.
type Tail struct {
	connect Connect
	app     string
	log     *slog.Logger

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever something below is
	set     *Set
	id      string // of the topic
	next    int64
	err     error // that ended the last reading; nil while one is under way
}

// NewTail is a tail that knows nothing yet.
func NewTail(connect Connect, app string, log *slog.Logger) *Tail {
	return &Tail{connect: connect, app: app, log: log, changed: make(chan struct{}), set: &Set{}}
}

// Current is the set as far as it is known.
func (t *Tail) Current() *Set {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set
}

// Changed is closed when something newer than the set is known.
func (t *Tail) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// Run reads until ctx ends. Whatever goes wrong, it begins again from the beginning: the topic is small.
func (t *Tail) Run(ctx context.Context) {
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		began := time.Now()
		err := t.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			wait = 50 * time.Millisecond
		}
		t.log.Warn("read parameters, again soon", "topic", Topic(t.app), "err", err, "in", wait)
		t.post(&reader{set: t.Current()}, err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// follow reads from the beginning to an error. What is read is shown once it is complete.
func (t *Tail) follow(ctx context.Context) error {
	r, err := open(t.connect, t.app)
	if err != nil {
		return err
	}
	defer r.cl.Close()
	end, err := r.begin(ctx)
	for err == nil {
		if r.next >= end {
			t.post(r, nil)
		}
		err = r.poll(ctx)
	}
	return err
}

func (t *Tail) post(r *reader, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set, t.id, t.next, t.err = r.set, r.id, r.next, err
	close(t.changed)
	t.changed = make(chan struct{})
}

// Fresh is the set with everything in it that was published before the call. cl is a client of the brokers to ask where
// the topic ends.
func (t *Tail) Fresh(ctx context.Context, cl *kgo.Client) (*Set, error) {
	topic := Topic(t.app)
	id, _, end, err := ends(ctx, cl, topic)
	if err != nil {
		return nil, readError(topic, err)
	}
	for {
		t.mu.Lock()
		set, changed, err, reached := t.set, t.changed, t.err, t.id == id && t.next >= end
		t.mu.Unlock()
		if unreadable, ok := errors.AsType[*UnreadableError](err); ok {
			return nil, readError(topic, unreadable)
		}
		if reached {
			return set, set.Complete()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read topic %q up to offset %d: %w", topic, end, errors.Join(ctx.Err(), err))
		case <-changed:
		}
	}
}
