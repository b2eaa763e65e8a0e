package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state"
)

// rehearsal is the whole pipeline on a broker of its own with a clock that is driven: simulate and demo. Nothing in it
// is a shortcut; only the brokers and the clock are replaced.
type rehearsal struct {
	cfg      config.Config
	cl       *kgo.Client
	adm      *kadm.Client
	clock    *pipeline.Manual
	pipe     *pipeline.Pipeline
	registry *prometheus.Registry
	ends     map[string]map[int32]int64 // of the inputs, after what was written
	foreign  bool                       // the broker is somebody else's: leave nothing behind

	cancel  context.CancelFunc
	running sync.WaitGroup
	err     error // of the pipeline, when it has ended
	ended   chan struct{}
	stop    func()
}

// stage is what a rehearsal is set up with.
type stage struct {
	cfg        config.Config
	broker     string // empty: an embedded one
	partitions int32  // of the inputs
	shards     int32
	epoch      int    // 0: 1
	dir        string // of the state
	files      vfs.FS
	log        *slog.Logger
	interrupt  func(int32, pipeline.Step) error
}

// rehearse starts the broker, makes the topics and readies the pipeline. Close it.
func rehearse(ctx context.Context, st stage) (_ *rehearsal, err error) {
	r := &rehearsal{cfg: st.cfg, clock: &pipeline.Manual{}, registry: prometheus.NewRegistry(), ends: map[string]map[int32]int64{}, ended: make(chan struct{}), stop: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close(ctx))
		}
	}()
	foreign := st.broker != ""
	if !foreign {
		if st.broker, r.stop, err = embeddedBroker(); err != nil {
			return r, err
		}
	}
	c := &r.cfg
	c.Kafka.Brokers, c.Shards = []string{st.broker}, st.shards
	c.Time.Clock, c.Cycle.Min, c.State.Dir = "manual", 0, st.dir
	c.Outputs.ReplicationFactor = 1
	if r.cl, r.adm, err = admin(ctx, c.Kafka, kgo.ProducerBatchMaxBytes(maxMessage), kgo.MaxBufferedBytes(256<<20)); err != nil {
		return r, err
	}
	if st.shards == 0 {
		st.shards = st.partitions
	}
	if _, err := pipeline.ChooseShards(st.shards, map[string]int32{c.Inputs.Purchases: st.partitions}); err != nil {
		return r, usageError{err}
	}
	if foreign {
		if err := refuseTopics(ctx, r.adm, *c); err != nil {
			return r, err
		}
	}
	r.foreign = foreign // from here on every topic of these names is one of ours
	if err := createInputs(ctx, r.adm, *c, st.partitions); err != nil {
		return r, err
	}
	if _, err := pipeline.Init(ctx, r.adm, *c, st.shards, max(st.epoch, 1)); err != nil {
		return r, err
	}
	r.pipe, err = pipeline.New(*c, pipeline.Deps{Log: st.log, Registry: r.registry, FS: st.files, Manual: r.clock, Interrupt: st.interrupt})
	return r, err
}

// write puts records into the inputs, in their order.
func (r *rehearsal) write(ctx context.Context, records iter.Seq2[*kgo.Record, error], progress func(n int)) error {
	var first kgo.FirstErrPromise
	n := 0
	for record, err := range records {
		if err != nil {
			return err
		}
		if r.ends[record.Topic] == nil {
			r.ends[record.Topic] = map[int32]int64{}
		}
		r.ends[record.Topic][record.Partition]++
		r.cl.Produce(ctx, record, first.Promise())
		if n++; n%1000 == 0 {
			progress(n)
		}
	}
	if err := r.cl.Flush(ctx); err != nil {
		return fmt.Errorf("write inputs: %w", err)
	}
	if err := first.Err(); err != nil {
		return fmt.Errorf("write inputs: %w", err)
	}
	progress(n)
	return nil
}

// start runs the pipeline.
func (r *rehearsal) start(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(ctx)
	r.running.Go(func() {
		defer close(r.ended)
		r.err = r.pipe.Run(ctx)
	})
}

// readAll returns when everything written has been processed.
func (r *rehearsal) readAll(ctx context.Context) error {
	return r.wait(ctx, func() bool {
		at := r.pipe.Positions()
		for topic, ends := range r.ends {
			for p, end := range ends {
				if at[topic][p] < end {
					return false
				}
			}
		}
		return true
	})
}

// play makes now the given instant and returns when silence has been played up to it.
func (r *rehearsal) play(ctx context.Context, now state.Instant) error {
	r.clock.Set(now)
	return r.wait(ctx, func() bool {
		status := r.pipe.Status()
		for _, s := range status {
			if s.Horizon < now {
				return false
			}
		}
		return len(status) == int(r.pipe.Shards()) && len(status) > 0 && (!r.pipe.Published().Quintiles() || r.pipe.Settled())
	})
}

// wait waits for a condition, for the end of the pipeline, or for a shard that has stopped for good.
func (r *rehearsal) wait(ctx context.Context, until func() bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-ctx.Done():
		case <-r.ended:
			cancel(errors.Join(errors.New("the pipeline has ended"), r.err))
		}
	}()
	err := r.pipe.Wait(ctx, func() bool {
		for _, s := range r.pipe.Status() {
			if s.State == "stopped" {
				cancel(fmt.Errorf("shard %d stopped: %s", s.Shard, s.Reason))
				return false
			}
		}
		return until()
	})
	if err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// close ends the pipeline and the broker.
func (r *rehearsal) close(ctx context.Context) error {
	var err error
	if r.cancel != nil {
		r.cancel()
		r.running.Wait()
		err = r.err
	}
	if r.cl != nil {
		if r.foreign {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			err = errors.Join(err, deleteTopics(ctx, r.adm, r.cfg))
			cancel()
		}
		r.cl.Close()
	}
	r.stop()
	return err
}
