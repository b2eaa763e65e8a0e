package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// archiver writes snapshots while the stream runs.
type archiver struct {
	cfg  config.Config
	pipe *pipeline.Pipeline
	log  *slog.Logger

	due, last prometheus.Gauge     // instants of the snapshot that is due and of the last published one
	customers *prometheus.GaugeVec // in the last published one, by segment
	failed    prometheus.Counter

	published state.Instant           // the last snapshot that was found published
	pauses    map[archive.Stage]pause // of those that have failed
	// idle is how long nothing may happen to a snapshot that somebody waits for: network file systems show what others have
	// written up to a minute late, and the request itself is seen as late.
	idle time.Duration
	turn chan struct{} // of one who writes a part: each takes the memory of a row group
}

// pause is the time until a snapshot that has failed is tried again: each attempt may write or read whole parts.
type pause struct {
	until time.Time
	long  time.Duration
}

const (
	firstPause   = 10 * time.Second
	longestPause = 10 * time.Minute
)

// newArchiver has metrics if snapshots are due by themselves.
func newArchiver(cfg config.Config, pipe *pipeline.Pipeline, reg prometheus.Registerer, log *slog.Logger) *archiver {
	a := &archiver{
		cfg: cfg, pipe: pipe, log: log, turn: make(chan struct{}, 1), idle: 3 * time.Minute, pauses: map[archive.Stage]pause{},
		due: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "asiduo_snapshot_due_timestamp_seconds", Help: "Instant of the snapshot that should be there by now.",
		}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "asiduo_snapshot_published_timestamp_seconds", Help: "Instant of the last snapshot that this process knows to be complete; 0: none.",
		}),
		customers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "asiduo_snapshot_customers", Help: "Customers by segment, as of the last snapshot that this process knows to be complete.",
		}, []string{"segment"}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "asiduo_snapshot_errors_total", Help: "Attempts to write or publish a snapshot that failed; the next one follows soon.",
		}),
	}
	if cfg.Archive.Dir != "" && cfg.Archive.Every != 0 {
		reg.MustRegister(a.due, a.last, a.customers, a.failed)
	}
	return a
}

func archiveInfo(cfg config.Config, epoch int, shards int32) archive.Info {
	return archive.Info{App: cfg.App, Epoch: epoch, Shards: shards, Currency: cfg.Currency, Digits: cfg.Digits()}
}

// dayOf is the calendar day of an instant in the tenant's zone.
func dayOf(cfg config.Config, at state.Instant) (string, error) {
	zone, err := time.LoadLocation(cfg.Time.Zone)
	if err != nil {
		return "", err
	}
	return time.UnixMilli(int64(at)).In(zone).Format(time.DateOnly), nil
}

func (a *archiver) info() archive.Info { return archiveInfo(a.cfg, a.pipe.Epoch(), a.pipe.Shards()) }

// fill writes the parts that are missing in a snapshot, of those shards of this process that have reached its instant, and
// publishes it when all are there and shard 0 is ours.
func (a *archiver) fill(ctx context.Context, s archive.Stage) error {
	info := a.info()
	is, err := archive.Look(a.cfg.Archive.Dir, s.Day, s.AsOf, info)
	if !is.Open || err != nil {
		return err
	}
	status := a.pipe.Status()
	for _, shard := range status {
		if shard.State != "running" || shard.Horizon < s.AsOf || !slices.Contains(is.Missing, shard.Shard) {
			continue
		}
		if err := a.part(ctx, s, shard.Shard, info); err != nil {
			return fmt.Errorf("snapshot of shard %d: %w", shard.Shard, err)
		}
	}
	if !slices.ContainsFunc(status, func(s pipeline.ShardStatus) bool { return s.Shard == 0 }) {
		return nil
	}
	if err := a.await(ctx); err != nil {
		return err
	}
	defer func() { <-a.turn }()
	whole, err := archive.Publish(ctx, a.cfg.Archive.Dir, s.Day, s.AsOf, info)
	if whole {
		a.log.Info("snapshot published", "day", s.Day)
	}
	return err
}

// await waits for the turn as long as the context lives.
func (a *archiver) await(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case a.turn <- struct{}{}:
		return nil
	}
}

// part writes the part of a shard that has reached the instant. The view comes before the turn, so that a shard whose
// cycles do not go on holds up nobody.
func (a *archiver) part(ctx context.Context, s archive.Stage, shard int32, info archive.Info) (err error) {
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	v, err := a.pipe.ViewAt(soon, shard, s.AsOf)
	cancel()
	if err != nil {
		if ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrClosed)) {
			return nil // next time, or by the next owner
		}
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if err := a.await(ctx); err != nil {
		return err
	}
	defer func() { <-a.turn }()
	if is, err := archive.Look(a.cfg.Archive.Dir, s.Day, s.AsOf, info); err != nil || !slices.Contains(is.Missing, shard) {
		return err // who had the turn before us has written it
	}
	part, err := archive.WritePart(ctx, a.cfg.Archive.Dir, s.Day, shard, s.AsOf, v, info)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrClosed) {
		return nil // it is whole meanwhile, or nothing will come of it; or the shard has another owner
	}
	if err == nil {
		a.log.Info("snapshot written", "shard", shard, "file", part.File, "rows", part.Rows, "bytes", part.Bytes)
	}
	return err
}

// run writes the snapshot that is due and those that somebody has asked for, here or at another process. Each process writes the
// parts of its own shards; whoever serves shard 0 publishes when all are there.
func (a *archiver) run(ctx context.Context) error {
	if a.cfg.Archive.Dir == "" {
		return nil
	}
	zone, err := time.LoadLocation(a.cfg.Time.Zone)
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	told := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, known := a.pipe.Now()
		if !known || a.pipe.Shards() == 0 {
			continue
		}
		due := state.Never
		if every := a.cfg.Archive.Every.Std(); every != 0 {
			due = lastDue(now, every, zone)
		}
		if err := a.round(ctx, due); err != nil && ctx.Err() == nil {
			a.failed.Inc()
			if time.Since(told) > time.Minute {
				told = time.Now()
				a.log.Warn("snapshot failed, processing goes on", "err", err)
			}
		}
	}
}

// lastDue is the latest instant at which a snapshot was due: a multiple of every after midnight.
func lastDue(now state.Instant, every time.Duration, zone *time.Location) state.Instant {
	t := time.UnixMilli(int64(now)).In(zone)
	midnight := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, zone)
	return state.Instant(midnight.Add(t.Sub(midnight).Truncate(every)).UnixMilli())
}

// round begins the snapshot that is due, and writes what is missing of all that are begun.
func (a *archiver) round(ctx context.Context, due state.Instant) (err error) {
	day := ""
	if due != state.Never {
		if day, err = dayOf(a.cfg, due); err != nil {
			return err
		}
		a.due.Set(float64(due) / 1000)
		// One that somebody has asked for since is newer, and is not taken back for the one that was due.
		if err = archive.Begin(a.cfg.Archive.Dir, day, due, a.info()); errors.Is(err, archive.ErrOlder) {
			err = nil
		}
	}
	pending, found := archive.Pending(a.cfg.Archive.Dir, a.info())
	err = errors.Join(err, found)
	for _, s := range pending {
		err = errors.Join(err, a.attempt(ctx, s))
	}
	if due != state.Never {
		a.tell(day, due)
	}
	return err
}

// attempt fills a snapshot, but one that has failed only after a pause, twice as long each time.
func (a *archiver) attempt(ctx context.Context, s archive.Stage) error {
	p := a.pauses[s]
	if time.Now().Before(p.until) {
		return nil
	}
	err := a.fill(ctx, s)
	if err == nil || ctx.Err() != nil || errors.Is(err, archive.ErrOlder) {
		delete(a.pauses, s)
		return ctx.Err()
	}
	p.long = min(max(2*p.long, firstPause), longestPause)
	p.until = time.Now().Add(p.long)
	a.pauses[s] = p
	return err
}

// tell tells what is published of the day of the snapshot that is due.
func (a *archiver) tell(day string, due state.Instant) {
	m, ok := archive.Published(a.cfg.Archive.Dir, day, a.info())
	switch {
	case ok && m.AsOf != a.published:
		a.customers.Reset()
		for segment, n := range m.Segments {
			a.customers.WithLabelValues(segment).Set(float64(n))
		}
	case ok || a.published < due: // known; or not there yet, and the one before is
		return
	}
	a.published = m.AsOf // or 0: somebody has taken it away
	a.last.Set(float64(a.published) / 1000)
}
