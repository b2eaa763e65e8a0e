package parameters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/transaction"
	"github.com/asiduo/asiduo/state"
)

// Publisher is the only one that may publish what commands publish: whoever opens the next fences it.
type Publisher struct {
	Set Set // as it was read after older publishers had been fenced, and with what was published since
	app string
	cl  *kgo.Client
}

// transactionalID is that of commands; shards have their own.
func transactionalID(app string) string { return app + "-parameters" }

// Open takes the right to publish, and reads the set; an empty topic is not an error here. One that is missing is: what it has
// would be published again, as if for the first time. A broker may not have heard of it yet. Close the publisher.
func Open(ctx context.Context, connect Connect, app string) (*Publisher, error) {
	cl, err := connect(
		kgo.TransactionalID(transactionalID(app)), kgo.TransactionTimeout(15*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return nil, err
	}
	p := &Publisher{app: app, cl: cl}
	if _, _, err := cl.ProducerID(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("take transactional id %s: %w", transactionalID(app), err)
	}
	for began := time.Now(); ; {
		p.Set, err = Read(ctx, connect, app)
		if !errors.Is(err, errMissing) || time.Since(began) > 10*time.Second {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err != nil && (!errors.Is(err, ErrNone) || errors.Is(err, errMissing)) {
		cl.Close()
		return nil, err
	}
	return p, nil
}

// PublishEpoch makes an epoch the current one. After an error it is unknown whether it is.
func (p *Publisher) PublishEpoch(ctx context.Context, e Epoch) error {
	r, err := record(p.app, epochKey, e)
	if err != nil {
		return err
	}
	return p.publish(ctx, r)
}

// SetUp publishes what an application needs and does not have: the epoch, first rules, a first model.
func (p *Publisher) SetUp(ctx context.Context, epoch int, rules Rules, model Model, now state.Instant) error {
	var rs []*kgo.Record
	add := func(key string, v any) error {
		r, err := record(p.app, key, v)
		rs = append(rs, r)
		return err
	}
	var err error
	if p.Set.Epoch.Epoch == 0 {
		err = add(epochKey, Epoch{Epoch: epoch})
	}
	if p.Set.Newest.Rules == 0 {
		err = errors.Join(err, rules.follow(&p.Set, now), add(key(RulesFamily, rules.Version), &rules))
	}
	if p.Set.Newest.Model == 0 {
		err = errors.Join(err, model.follow(&p.Set, now), add(key(ModelFamily, model.Version), &model))
	}
	if err != nil || len(rs) == 0 {
		return err
	}
	return p.publish(ctx, rs...)
}

// PublishRules makes rules the newest version, and returns its number. ErrSame if the newest says the same, ErrNone if there is
// none.
func (p *Publisher) PublishRules(ctx context.Context, r Rules, now state.Instant) (uint32, error) {
	if err := p.Set.Complete(); err != nil {
		return 0, err
	}
	if err := r.follow(&p.Set, now); err != nil {
		return 0, err
	}
	out, err := record(p.app, key(RulesFamily, r.Version), &r)
	if err != nil {
		return 0, err
	}
	return r.Version, p.publish(ctx, out)
}

// PublishModel makes a model the newest version, and returns its number. ErrSame if the newest says the same, ErrNone if there is
// none.
func (p *Publisher) PublishModel(ctx context.Context, m Model, now state.Instant) (uint32, error) {
	if err := p.Set.Complete(); err != nil {
		return 0, err
	}
	if err := m.follow(&p.Set, now); err != nil {
		return 0, err
	}
	out, err := record(p.app, key(ModelFamily, m.Version), &m)
	if err != nil {
		return 0, err
	}
	return m.Version, p.publish(ctx, out)
}

// ErrSame is returned for a version that would mean the same as the newest.
var ErrSame = errors.New("nothing to publish: the newest version says the same")

// follow makes r the version after the newest of a set, with a code for every name.
func (r *Rules) follow(s *Set, now state.Instant) error {
	var given []Code
	if was := s.Rules[s.Newest.Rules]; was != nil {
		if was.Same(r) {
			return ErrSame
		}
		given = was.Codes
	}
	r.Version, r.PublishedAt, r.Codes = s.Newest.Rules+1, now, nil
	set, err := r.Proved(given)
	if err != nil {
		return err
	}
	for _, c := range set.Codes() {
		r.Codes = append(r.Codes, Code(c))
	}
	return r.check()
}

// follow makes m the version after the newest of a set.
func (m *Model) follow(s *Set, now state.Instant) error {
	if was := s.Models[s.Newest.Model]; was != nil && was.Same(m) {
		return ErrSame
	}
	m.Version, m.PublishedAt = s.Newest.Model+1, now
	if err := m.domain(); err != nil {
		return err
	}
	return m.check()
}

// WithRules is the set as it would be with these rules published.
func (s *Set) WithRules(r Rules, now state.Instant) (*Set, error) {
	if err := r.follow(s, now); err != nil {
		return nil, err
	}
	return s.withValue(key(RulesFamily, r.Version), &r)
}

// WithModel is the set as it would be with this model published.
func (s *Set) WithModel(m Model, now state.Instant) (*Set, error) {
	if err := m.follow(s, now); err != nil {
		return nil, err
	}
	return s.withValue(key(ModelFamily, m.Version), &m)
}

func (s *Set) withValue(key string, v any) (*Set, error) {
	value, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return s.with(key, value)
}

// record is a value under its key.
func record(app, key string, v any) (*kgo.Record, error) {
	value, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", key, err)
	}
	return &kgo.Record{Topic: Topic(app), Key: []byte(key), Value: value}, nil
}

// Record is the cuts for the topic of an application, to be produced inside a cycle.
func (c *Cuts) Record(app string) (*kgo.Record, error) {
	return record(app, key(CutsFamily, c.Version), c)
}

// Record is the population of a shard for the topic of an application, to be produced inside a cycle.
func (p *Population) Record(app string, shard int32) (*kgo.Record, error) {
	return record(app, key(populationKey, uint32(shard)), p)
}

// Record is the end of the building for the topic of an application, to be produced inside a cycle.
func (l *Live) Record(app string) (*kgo.Record, error) { return record(app, liveKey, l) }

// publish writes records in one transaction, and takes them into the set.
func (p *Publisher) publish(ctx context.Context, rs ...*kgo.Record) error {
	if err := transaction.Commit(ctx, p.cl, rs); err != nil {
		return fmt.Errorf("publish parameters: %w", err)
	}
	for _, r := range rs {
		next, err := p.Set.with(string(r.Key), r.Value)
		if err != nil {
			return err
		}
		p.Set = *next
	}
	return nil
}

// Close ends the publisher.
func (p *Publisher) Close() { p.cl.Close() }
