// Package pipeline is records in, changes out: it owns shards of customers, makes cycles of one transaction and one
// batch each, and plays silence. It knows what a customer is only through state, what leaves only through
// sinks/events, and nothing of HTTP, files of the archive or commands. DESIGN.md draws it.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// Deps are what a pipeline needs besides its configuration.
type Deps struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	FS       vfs.FS
	Manual   *Manual   // the driver's clock; needed for time.clock manual
	Client   []kgo.Opt // more options for every client, such as a dialer

	// Advertise is the base URL under which other processes find this one's API; may be empty.
	Advertise string

	// Interrupt is asked between the steps of an acquisition or a cycle; an error stops the shard there as a crash
	// would. Nil outside of simulations.
	Interrupt func(shard int32, step Step) error
}

// Pipeline is one process of an application.
type Pipeline struct {
	cfg      config.Config
	deps     Deps
	log      *slog.Logger
	params   *state.Parameters
	liveFrom state.Instant
	metrics  *metrics

	// Set by Run.
	dir        *store.Dir
	cache      *pebble.Cache
	shards     atomic.Int32
	partitions map[string]int32
	tombstones time.Duration // the changelog's delete.retention.ms
	wanted     []viewRequests
	board      board
	owners     owners
	fail       func(error) // ends Run
	joined     atomic.Bool // the group has given us shards, or told us that there are none for us

	idle    time.Duration // longest wait for records when nothing else is to do
	backoff time.Duration // first wait before a closed shard is acquired again

	touched func(*kgo.Record) // only tests: called with each record before it is decoded
}

// New checks the configuration and proves the rule set; it starts nothing.
func New(cfg config.Config, deps Deps) (*Pipeline, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Pipeline{
		cfg: cfg, deps: deps, log: deps.Log, board: newBoard(), idle: 100 * time.Millisecond, backoff: 50 * time.Millisecond,
	}
	var err error
	if p.params, err = Parameters(cfg); err != nil {
		return nil, err
	}
	if cfg.Time.Clock == "manual" {
		if deps.Manual == nil {
			return nil, errors.New("time.clock is manual, which only simulate and demo can drive: set it to broker")
		}
		p.idle, p.backoff = 5*time.Millisecond, time.Millisecond
	}
	if !cfg.Time.LiveFrom.IsZero() {
		p.liveFrom = state.Instant(cfg.Time.LiveFrom.UnixMilli())
	}
	if _, err := newDecoder(cfg); err != nil {
		return nil, err
	}
	if _, err := NewPartitioner(cfg.Inputs.Partitioner); err != nil {
		return nil, err
	}
	if _, err := ClientOptions(cfg.Kafka); err != nil {
		return nil, err
	}
	p.metrics = newMetrics(deps.Registry, p)
	return p, nil
}

// client makes a client. Options are made anew for each, since clients keep parts of them and change those.
func (p *Pipeline) client(more ...kgo.Opt) (*kgo.Client, error) {
	opts, err := ClientOptions(p.cfg.Kafka)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(append(opts, p.deps.Client...), more...)...)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return cl, nil
}

// Params are the scoring parameters.
func (p *Pipeline) Params() *state.Parameters { return p.params }

// Run serves the shards the group gives to this process, until ctx ends, which is not an error, or something is wrong
// that no other attempt will heal. When it returns, everything it started has ended.
func (p *Pipeline) Run(ctx context.Context) (err error) {
	if err := p.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	p.dir, err = store.Hold(p.deps.FS, p.cfg.State.Dir, p.cfg.App)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.dir.Release()) }()
	p.cache = pebble.NewCache(p.cfg.State.BlockCache.Bytes())
	defer p.cache.Unref()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.fail = cancel
	m, err := p.join()
	if err != nil {
		return err
	}
	m.run(ctx)
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// prepare proves that the brokers and topics are there and fit.
func (p *Pipeline) prepare(ctx context.Context) error {
	cl, err := p.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := Ping(ctx, cl, p.cfg.Kafka); err != nil {
		return err
	}
	adm := kadm.NewClient(cl)
	var shards int32
	var warnings []string
	if err := patiently(ctx, func() (err error) {
		shards, warnings, err = Layout(ctx, adm, p.cfg)
		if err == nil {
			p.partitions, err = InputPartitions(ctx, adm, p.cfg)
		}
		return err
	}); err != nil {
		return err
	}
	for _, w := range warnings {
		p.log.Warn(w)
	}
	p.wanted = make([]viewRequests, shards)
	p.shards.Store(shards)
	p.tombstones = tombstoneLife(ctx, adm, changelogTopic(p.cfg.App))
	return nil
}

// patiently tries for half a minute while brokers say that it may work another time, as they do while they elect
// leaders.
func patiently(ctx context.Context, try func() error) error {
	for began := time.Now(); ; {
		err := try()
		if why, ok := errors.AsType[*kerr.Error](err); !ok || !why.Retriable || time.Since(began) > 30*time.Second {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// tombstoneLife is how long the changelog keeps deletions for readers that come late; a day if it does not tell.
func tombstoneLife(ctx context.Context, adm *kadm.Client, topic string) time.Duration {
	if found, err := adm.DescribeTopicConfigs(ctx, topic); err == nil {
		if c, err := found.On(topic, nil); err == nil {
			for _, kv := range c.Configs {
				if kv.Key != "delete.retention.ms" {
					continue
				}
				if ms, err := strconv.ParseInt(kv.MaybeValue(), 10, 64); err == nil {
					return time.Duration(ms) * time.Millisecond
				}
			}
		}
	}
	return 24 * time.Hour
}

func (p *Pipeline) storeOptions(id int32) store.Options {
	return store.Options{
		FS: p.deps.FS, Cache: p.cache, Memtable: uint64(p.cfg.State.Memtable.Bytes()),
		Report: store.Report{
			Trouble: func(err error) {
				p.metrics.storeTrouble.WithLabelValues(label(id)).Inc()
				p.log.Warn("store", "shard", id, "err", err)
			},
			Stall: func(d time.Duration) { p.metrics.storeStalled.WithLabelValues(label(id)).Add(d.Seconds()) },
		},
	}
}
