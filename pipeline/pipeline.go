// Package pipeline is records in, changes out: it owns shards of customers, makes cycles of one transaction and one
// batch each, and plays silence. It knows what a customer is only through state, what leaves only through
// sinks/events, and nothing of HTTP, files of the archive or commands. DESIGN.md draws it.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
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

	// Tracer makes the spans of acquisitions and cycles; nil: nobody wants them.
	Tracer trace.Tracer

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
	first    *state.Parameters // those of the file
	liveFrom state.Instant
	metrics  *metrics
	tail     *parameters.Tail
	proved   proved
	compared sync.Map // versions with which the file has been compared

	// Set by Run.
	dir        *store.Dir
	cache      *pebble.Cache
	shards     atomic.Int32
	epoch      atomic.Int64
	partitions map[string]int32
	tombstones time.Duration                    // the changelog's delete.retention.ms
	batches    atomic.Pointer[map[string]int32] // most bytes of a batch, by own topic
	outputs    sync.Map                         // topic: id
	wanted     []viewRequests
	board      board
	owners     owners
	fail       func(error)                // ends Run
	member     atomic.Pointer[membership] // while Run runs

	idle    time.Duration // longest wait for records when nothing else is to do
	backoff time.Duration // first wait before a closed shard is acquired again; it doubles up to forty times of it

	again   time.Duration // wait before a stopped shard is looked at again
	recheck time.Duration // between looks at the settings of the own topics
	look    time.Duration // between looks at ends and clocks
	room    time.Duration // between looks at the room on the disk
	stuck   time.Duration // what a store may take at most for what takes milliseconds
	share   int           // bytes of the changelog that are written to a store at once when it is restored
	wall    func() time.Time

	touched func(where string, what any) // only tests: called where our own code may fail
}

// New checks the configuration and proves the rule set; it starts nothing.
func New(cfg config.Config, deps Deps) (*Pipeline, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Pipeline{
		cfg: cfg, deps: deps, log: deps.Log, board: newBoard(), idle: 100 * time.Millisecond, backoff: 50 * time.Millisecond,
		again: 30 * time.Second, recheck: 10 * time.Minute, look: 5 * time.Second, room: 2 * time.Second, stuck: 10 * time.Second, share: 1 << 20, wall: time.Now,
	}
	var err error
	if p.first, err = FirstParameters(cfg); err != nil {
		return nil, err
	}
	p.proved.all = map[provedOf]*state.Parameters{}
	p.tail = parameters.NewTail(p.client, cfg.App, p.log)
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
	p.metrics = newMetrics(deps.Registry, p)
	return p, nil
}

// client makes a client.
func (p *Pipeline) client(more ...kgo.Opt) (*kgo.Client, error) {
	return Connector(p.cfg.Kafka, p.deps.Client...)(more...)
}

// Epoch is the epoch of the application; known while Run runs.
func (p *Pipeline) Epoch() int { return int(p.epoch.Load()) }

// published reads what is published, before anything else is begun. While a reset is not finished nobody may own a shard.
func (p *Pipeline) published(ctx context.Context) (parameters.Set, error) {
	set, err := parameters.Read(ctx, p.client, p.cfg.App)
	if err == nil {
		err = errors.Join(ready(set), set.Complete())
	}
	if err == nil {
		p.epoch.Store(int64(set.Epoch.Epoch))
	}
	return set, err
}

// ready refuses what a reset or an import has left in the middle.
func ready(set parameters.Set) error {
	switch e := set.Epoch; {
	case e.Reset != nil:
		return &stopError{"reset_unfinished", fmt.Errorf("a reset to epoch %d has begun and is not finished: run \"asiduo reset\" again", e.Epoch)}
	case e.Import != nil:
		return &stopError{"import_unfinished", fmt.Errorf("an import of %s has begun and is not finished: run \"asiduo import\" again", e.Import.Snapshot)}
	}
	return nil
}

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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	p.fail = func(err error) { // while it is being stopped too: then a store has not been closed
		select {
		case failed <- err:
		default:
		}
		cancel()
	}
	var tail sync.WaitGroup
	tail.Go(func() { p.tail.Run(ctx) })
	defer tail.Wait()
	defer cancel()
	m, err := p.join()
	if err != nil {
		return err
	}
	m.run(ctx)
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
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
	if err := Allowed(ctx, cl, p.cfg, "run"); err != nil {
		return err
	}
	adm := kadm.NewClient(cl)
	var shards int32
	var warnings []string
	if err := patiently(ctx, func() (err error) {
		if _, err = p.published(ctx); err != nil && !errors.Is(err, parameters.ErrNone) { // a reset may have taken topics away
			return err
		}
		none := err
		if shards, warnings, err = Layout(ctx, adm, p.cfg); err != nil {
			return err
		}
		if err = p.checkSettings(ctx, adm); err != nil {
			return err
		}
		if err = Durable(ctx, adm, p.cfg); err != nil {
			return err
		}
		if p.partitions, err = InputPartitions(ctx, adm, p.cfg); err != nil {
			return err
		}
		return none
	}); err != nil {
		return err
	}
	for _, w := range warnings {
		p.log.Warn(w)
	}
	p.wanted = make([]viewRequests, shards)
	p.shards.Store(shards)
	p.metrics.shards.Set(float64(shards))
	p.tombstones = tombstoneLife(ctx, adm, changelogTopic(p.cfg.App))
	return nil
}

// patiently tries for half a minute while it may work another time: brokers say so while they elect leaders, and
// connections fail. They have answered before, so neither is a wrong address or password.
func patiently(ctx context.Context, try func() error) error {
	for began := time.Now(); ; {
		err := try()
		if !passing(err) || time.Since(began) > 30*time.Second {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// passing says whether what brokers that have answered before now say, or do not say, may pass.
func passing(err error) bool {
	if why, ok := errors.AsType[*kerr.Error](err); ok {
		return why.Retriable || why == kerr.UnknownServerError
	}
	_, broken := errors.AsType[*net.OpError](err)
	return broken && !errors.Is(err, errClear) || errors.Is(err, io.EOF)
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
					return time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
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
