package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state"
)

// archiver writes snapshots while the stream runs.
type archiver struct {
	cfg  config.Config
	pipe *pipeline.Pipeline
	log  *slog.Logger

	due, last prometheus.Gauge     // instants of the snapshot that is due and of the last published one
	customers *prometheus.GaugeVec // in the last published one, by segment
	failed    prometheus.Counter

	published state.Instant // the last snapshot that was published
	writing   sync.Mutex    // one that is asked for and one that is due would mix their parts
}

// newArchiver has metrics if snapshots are due by themselves.
func newArchiver(cfg config.Config, pipe *pipeline.Pipeline, reg prometheus.Registerer, log *slog.Logger) *archiver {
	a := &archiver{
		cfg: cfg, pipe: pipe, log: log,
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

// write writes the parts of this process' shards as of an instant, each from the first state that has reached it, and
// publishes the snapshot if all shards have theirs. It returns the files written.
func (a *archiver) write(ctx context.Context, at state.Instant) (files []string, err error) {
	day, err := dayOf(a.cfg, at)
	if err != nil {
		return nil, err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	info := archiveInfo(a.cfg, a.pipe.Epoch(), a.pipe.Shards())
	for _, s := range a.pipe.Status() {
		if s.State != "running" {
			return files, fmt.Errorf("snapshot: shard %d is %s", s.Shard, s.State)
		}
		part, err := a.part(ctx, day, s.Shard, at, info)
		if err != nil {
			return files, fmt.Errorf("snapshot of shard %d: %w", s.Shard, err)
		}
		files = append(files, filepath.Join(a.cfg.Archive.Dir, filepath.FromSlash(part.File)))
	}
	_, err = archive.Publish(ctx, a.cfg.Archive.Dir, day, at, info)
	return files, err
}

func (a *archiver) part(ctx context.Context, day string, shard int32, at state.Instant, info archive.Info) (archive.Part, error) {
	v, err := a.pipe.ViewAt(ctx, shard, at)
	if err != nil {
		return archive.Part{}, err
	}
	part, err := archive.WritePart(ctx, a.cfg.Archive.Dir, day, shard, at, v, info)
	return part, errors.Join(err, v.Close())
}

// run writes the snapshot that is due, again and again. Each process writes the parts of its own shards; whoever serves
// shard 0 publishes when all are there.
func (a *archiver) run(ctx context.Context) error {
	every := a.cfg.Archive.Every.Std()
	if a.cfg.Archive.Dir == "" || every == 0 {
		return nil
	}
	zone, err := time.LoadLocation(a.cfg.Time.Zone)
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	done, told := map[int32]state.Instant{}, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, known := a.pipe.Now()
		if !known {
			continue
		}
		if err := a.round(ctx, lastDue(now, every, zone), done); err != nil && ctx.Err() == nil {
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

// round writes what is missing of the snapshot as of an instant.
func (a *archiver) round(ctx context.Context, at state.Instant, done map[int32]state.Instant) error {
	day, err := dayOf(a.cfg, at)
	if err != nil {
		return err
	}
	a.due.Set(float64(at) / 1000)
	a.writing.Lock()
	defer a.writing.Unlock()
	info := archiveInfo(a.cfg, a.pipe.Epoch(), a.pipe.Shards())
	status := a.pipe.Status()
	first := slices.ContainsFunc(status, func(s pipeline.ShardStatus) bool { return s.Shard == 0 })
	// One that somebody has asked for since is newer, and is not taken back for the one that was due.
	if m, err := archive.ReadManifest(a.cfg.Archive.Dir, day); err == nil && m.AsOf > at && m.App == info.App && m.Epoch == info.Epoch && m.Shards == info.Shards {
		if !first || a.published >= m.AsOf {
			return nil
		}
		a.published = m.AsOf
		return a.tell(day, m.AsOf)
	}
	for _, s := range status {
		if s.State != "running" || done[s.Shard] >= at {
			continue
		}
		if there, err := archive.Has(ctx, a.cfg.Archive.Dir, day, s.Shard, at, info); err != nil {
			return err
		} else if there { // the owner before us has written it
			done[s.Shard] = at
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
		part, err := a.part(ctx, day, s.Shard, at, info)
		cancel()
		if err != nil {
			return fmt.Errorf("shard %d: %w", s.Shard, err)
		}
		done[s.Shard] = at
		a.log.Info("snapshot written", "shard", s.Shard, "file", part.File, "rows", part.Rows, "bytes", part.Bytes)
	}
	if !first || a.published >= at {
		return nil
	}
	whole, err := archive.Publish(ctx, a.cfg.Archive.Dir, day, at, info)
	if !whole || err != nil {
		return err
	}
	a.published = at
	a.log.Info("snapshot published", "day", day)
	return a.tell(day, at)
}

// tell tells what is in a published snapshot.
func (a *archiver) tell(day string, at state.Instant) error {
	m, err := archive.ReadManifest(a.cfg.Archive.Dir, day)
	if err != nil {
		return err
	}
	a.last.Set(float64(at) / 1000)
	a.customers.Reset()
	for segment, n := range m.Segments {
		a.customers.WithLabelValues(segment).Set(float64(n))
	}
	return nil
}

// snapshot writes the state of every shard as Parquet below dir.
func (r *rehearsal) snapshot(ctx context.Context, dir string, at state.Instant) ([]string, error) {
	cfg := r.cfg
	cfg.Archive.Dir = dir
	return (&archiver{cfg: cfg, pipe: r.pipe}).write(ctx, at)
}
