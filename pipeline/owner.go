package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/asiduo/asiduo/state"
)

// clientID tells other members where this one answers: the group's member list is the only directory there is.
func clientID(advertise string) string { return strings.TrimSpace("asiduo " + advertise) }

// owners remembers for a moment who serves which shard.
type owners struct {
	mu    sync.Mutex
	asked time.Time
	urls  map[int32]string
}

// Owner is the base URL of the process that a customer's shard is assigned to; empty if nobody has it or it does not
// say.
func (p *Pipeline) Owner(ctx context.Context, customer string) (string, error) {
	o := &p.owners
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.asked) < 2*time.Second {
		return o.urls[p.ShardOf(customer)], nil
	}
	cl, err := p.client()
	if err != nil {
		return "", err
	}
	defer cl.Close()
	// The answer is everybody's: that the one who asked has gone away says nothing about the brokers.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	members, err := Members(ctx, kadm.NewClient(cl), p.cfg.App)
	if err != nil {
		o.asked, o.urls = time.Now(), nil // nobody else waits for brokers that do not answer
		return "", err
	}
	urls := map[int32]string{}
	for _, m := range members {
		for _, s := range m.Shards {
			urls[s] = m.URL
		}
	}
	o.asked, o.urls = time.Now(), urls
	return urls[p.ShardOf(customer)], nil
}

// Now is the instant that business goes by; false while it is not known.
func (p *Pipeline) Now() (state.Instant, bool) {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	for _, s := range p.board.serving {
		return s.clock.now()
	}
	return 0, false
}

// Ready is nil when this process is a member of the group and serves every shard that the group gave to it; otherwise
// it says what is wrong. A member without shards is ready: it waits to take over. One that the group does not answer any
// more, and that has therefore lost its shards, is not.
func (p *Pipeline) Ready() error {
	m := p.member.Load()
	if m == nil || !m.joined.Load() {
		return errors.New("not yet a member of the group")
	}
	var all []error
	p.board.mu.Lock()
	refused := p.board.group
	p.board.mu.Unlock()
	if refused != nil {
		all = append(all, fmt.Errorf("the group does not have this process: %w", refused))
	}
	if silent := m.silent(); silent > p.cfg.Group.SessionTimeout.Std() {
		all = append(all, fmt.Errorf("the group has not answered for %v", silent.Round(time.Second)))
	}
	for _, s := range p.Status() {
		if s.State != "running" {
			all = append(all, errors.New(strings.TrimSuffix("shard "+label(s.Shard)+" is "+s.State+": "+s.Reason, ": ")))
		}
	}
	return errors.Join(all...)
}
