package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/api"
	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state"
)

func newSnapshot() *cobra.Command {
	var file, at string
	cmd := &cobra.Command{
		Use:   "snapshot -c FILE",
		Short: "Write a Parquet snapshot now",
		Long: `snapshot makes the instances write the customers of all shards as Parquet below archive.dir, as of now, from a consistent view
and without stopping the stream, and prints the files. It asks the instance that runs with this configuration (admin.listen); the others, which
share archive.dir with it, hear of it there. If none runs, the data directory is read.

The snapshot of a day takes the place of the one before when all its parts are there; until then nothing that is published changes. If
nobody writes for three minutes before that, or there are shards that nobody serves, the command says which are missing and fails.`,
		Example: "  asiduo snapshot -c asiduo.yaml\n" +
			"  asiduo snapshot -c asiduo.yaml --as-of 2026-06-01T12:00:00Z",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if cfg.Archive.Dir == "" {
				return usageError{errors.New("archive.dir is empty: say where snapshots go")}
			}
			now := time.Now()
			if at != "" {
				if now, err = time.Parse(time.RFC3339, at); err != nil {
					return usageError{fmt.Errorf("--as-of %q is not a time such as 2026-06-01T00:00:00Z", at)}
				}
			}
			return requestSnapshot(cmd.Context(), cfg, now, at != "", cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&at, "as-of", "", "instant of the snapshot (RFC 3339); default: now")
	return cmd
}

// requestSnapshot asks the instance that runs, as of its own time if none is given, or reads the data directory.
func requestSnapshot(ctx context.Context, cfg config.Config, at time.Time, given bool, out io.Writer) error {
	path := "/v1/snapshot"
	if given {
		path += "?as_of=" + url.QueryEscape(at.UTC().Format(time.RFC3339Nano))
	}
	var answer strings.Builder
	switch err := ask(ctx, cfg, http.MethodPost, path, &answer); {
	case errors.Is(err, errNotRunning):
		return snapshotOffline(ctx, cfg, state.Instant(at.UnixMilli()), out)
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: the instances go on with the snapshot by themselves; until it is whole nothing that is published changes: %w", err)
	case err != nil:
		return err
	}
	return printPaths(out, answer.String())
}

// printPaths prints the files that a running instance has written as those of a stopped one are printed.
func printPaths(out io.Writer, answer string) error {
	var written struct {
		Paths []string `json:"paths"`
	}
	if err := json.Unmarshal([]byte(answer), &written); err != nil {
		return err
	}
	for _, path := range written.Paths {
		fmt.Fprintln(out, path)
	}
	return nil
}

// write makes a snapshot as of an instant: it writes the parts of this process' shards, and waits for those of others. It
// returns all files.
func (a *archiver) write(ctx context.Context, at state.Instant) ([]string, error) {
	day, err := dayOf(a.cfg, at)
	if err != nil {
		return nil, err
	}
	for _, s := range a.pipe.Status() {
		if s.State != "running" {
			return nil, fmt.Errorf("snapshot: shard %d is %s", s.Shard, s.State)
		}
	}
	if err := archive.Begin(a.cfg.Archive.Dir, day, at, a.info()); err != nil {
		return nil, err
	}
	return a.finish(ctx, archive.Stage{Day: day, AsOf: at})
}

// finish waits until a snapshot is whole, or nobody writes any more.
func (a *archiver) finish(ctx context.Context, s archive.Stage) ([]string, error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	trace, since := "", time.Now()
	for {
		if err := a.fill(ctx, s); err != nil {
			return nil, err
		}
		is, err := archive.Look(a.cfg.Archive.Dir, s.Day, s.AsOf, a.info())
		if is.Whole || err != nil {
			return published(a.cfg, s.Day, a.info()), err
		}
		if is.Trace != trace {
			trace, since = is.Trace, time.Now()
		}
		if time.Since(since) > a.idle {
			return nil, notWhole(s, is.Missing)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// published are the files of a snapshot.
func published(cfg config.Config, day string, info archive.Info) (files []string) {
	m, _ := archive.Published(cfg.Archive.Dir, day, info)
	for _, p := range m.Parts {
		files = append(files, filepath.Join(cfg.Archive.Dir, filepath.FromSlash(p.File)))
	}
	return files
}

// notWhole says what to do.
func notWhole(s archive.Stage, missing []int32) error {
	at := time.UnixMilli(int64(s.AsOf)).UTC().Format(time.RFC3339Nano)
	return fmt.Errorf("%w as of %s: there are no parts of shards %v, and what is published has not changed. Instances that serve them and share archive.dir "+
		"go on with it by themselves; where none runs, or to see why not, run with the configuration of each: asiduo snapshot --as-of %s",
		api.ErrIncomplete, at, missing, at)
}

// snapshotOffline writes the parts of the shards in the data directory.
func snapshotOffline(ctx context.Context, cfg config.Config, at state.Instant, out io.Writer) (err error) {
	o, err := openOffline(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	day, err := dayOf(cfg, at)
	if err != nil {
		return err
	}
	made, err := o.made()
	if err != nil {
		return err
	}
	info := archiveInfo(cfg, made.Epoch, made.Shards)
	if err := archive.Begin(cfg.Archive.Dir, day, at, info); err != nil {
		return err
	}
	is, err := archive.Look(cfg.Archive.Dir, day, at, info)
	if err != nil {
		return err
	}
	for shard := range o.stores {
		if is.Whole {
			break
		}
		if !o.holds(shard) {
			continue
		}
		v, err := o.view(cfg, shard)
		if err != nil {
			return err
		}
		_, err = archive.WritePart(ctx, cfg.Archive.Dir, day, shard, at, v, info)
		if err := errors.Join(err, v.Close()); err != nil {
			return err
		}
	}
	if _, err := archive.Publish(ctx, cfg.Archive.Dir, day, at, info); err != nil {
		return err
	}
	if is, err = archive.Look(cfg.Archive.Dir, day, at, info); err != nil {
		return err
	}
	if !is.Whole {
		return notWhole(archive.Stage{Day: day, AsOf: at}, is.Missing)
	}
	for _, file := range published(cfg, day, info) {
		fmt.Fprintln(out, file)
	}
	return nil
}

// snapshot writes the state of every shard as Parquet below dir, also over one that is there from an earlier run.
func (r *rehearsal) snapshot(ctx context.Context, dir string, at state.Instant) ([]string, error) {
	cfg := r.cfg
	cfg.Archive.Dir = dir
	a := newArchiver(cfg, r.pipe, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	day, err := dayOf(cfg, at)
	if err != nil {
		return nil, err
	}
	if err := archive.BeginAgain(dir, day, at, a.info()); err != nil {
		return nil, err
	}
	return a.finish(ctx, archive.Stage{Day: day, AsOf: at})
}
