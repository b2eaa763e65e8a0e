package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/sinks/api"
	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state"
)

// TestSnapshotOnRequest asks for a snapshot in the middle of a day: the one that was due at midnight, and is not there yet, does not take its
// place, and is not begun in its directory.
func TestSnapshotOnRequest(t *testing.T) {
	f := newFleet(t, "21-random", func(s *stage) { s.cfg.Archive.Dir = t.TempDir(); s.cfg.Archive.Every = 24 * 3600e9 })
	f.readAll()
	noon := time.UnixMilli(int64(f.end)).UTC().Truncate(24 * time.Hour).Add(36 * time.Hour)
	asked := state.Instant(noon.UnixMilli())
	if err := f.r.play(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	cfg := f.r.cfg
	a := newArchiver(cfg, f.r.pipe, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if _, err := a.write(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	day := noon.Format(time.DateOnly)
	holds := func(when string, want state.Instant) {
		t.Helper()
		m, err := archive.ReadManifest(cfg.Archive.Dir, day)
		if err != nil || m.AsOf != want {
			t.Errorf("%s: the snapshot of the day is as of %v, want %v: %v", when, m.AsOf, want, err)
		}
	}
	holds("when it was asked for", asked)
	for range 2 {
		if err := a.round(t.Context(), lastDue(asked, 24*time.Hour, time.UTC)); err != nil {
			t.Fatal(err)
		}
		holds("after the round of the day", asked)
	}
	next := asked + state.Day
	if err := f.r.play(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	day = noon.AddDate(0, 0, 1).Format(time.DateOnly)
	midnight := lastDue(next, 24*time.Hour, time.UTC)
	if err := a.round(t.Context(), midnight); err != nil {
		t.Fatal(err)
	}
	holds("the next day", midnight)
}

// archivers are two processes that share an archive.
type archivers struct {
	*fleet
	a, b *archiver // a has shard 0
}

func newArchivers(t *testing.T) *archivers {
	f := newFleet(t, "21-random", func(s *stage) { s.cfg.Archive.Dir = t.TempDir(); s.cfg.Archive.Every = 24 * 3600e9 })
	f.write(0, 1)
	f.start("a", vfs.NewCrashableMem(), "", 0)
	f.await("one process to have both shards", func() bool { return running(f.live["a"].pipe) == 2 })
	f.start("b", vfs.NewCrashableMem(), "", 0)
	f.await("each process to have a shard", func() bool { return running(f.live["a"].pipe) == 1 && running(f.live["b"].pipe) == 1 })
	var list []*archiver
	for _, name := range []string{"a", "b"} {
		list = append(list, newArchiver(f.r.cfg, f.live[name].pipe, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)))
	}
	if list[0].pipe.Status()[0].Shard != 0 {
		slices.Reverse(list)
	}
	return &archivers{f, list[0], list[1]}
}

func running(p *pipeline.Pipeline) (n int) {
	for _, s := range p.Status() {
		if s.State == "running" {
			n++
		}
	}
	return n
}

// play lets it become an instant for both.
func (f *archivers) play(now state.Instant) {
	f.t.Helper()
	f.r.clock.Set(now)
	f.await("silence to be played", func() bool { return f.a.pipe.Status()[0].Horizon >= now && f.b.pipe.Status()[0].Horizon >= now })
}

// rounds are what the processes do every five seconds.
func (f *archivers) rounds(due state.Instant, of ...*archiver) {
	f.t.Helper()
	for _, a := range of {
		if err := a.round(f.t.Context(), due); err != nil {
			f.t.Fatal(err)
		}
	}
}

// holds says of which instant the whole snapshot of a day is.
func (f *archivers) holds(when string, want state.Instant) {
	f.t.Helper()
	dir := filepath.Join(f.r.cfg.Archive.Dir, "snapshots", "dt="+time.UnixMilli(int64(want)).UTC().Format(time.DateOnly))
	if l, err := archive.Load(f.t.Context(), dir); err != nil || l.AsOf != want {
		f.t.Fatalf("%s: %+v, %v; want one as of %d", when, l, err, want)
	}
}

// TestSnapshotOfTwo: what is published of a day stays until another one is whole, whatever becomes of a request; and a request at one of two
// processes makes the other write its parts.
func TestSnapshotOfTwo(t *testing.T) {
	f := newArchivers(t)
	midnight := state.Instant(time.UnixMilli(int64(f.end)).UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).UnixMilli())
	noon := midnight + state.Day/2
	f.play(noon)
	f.rounds(midnight, f.a, f.b, f.a)
	f.holds("when it was due", midnight)

	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := f.a.write(short, noon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("interrupted: %v", err)
	}
	f.holds("after a request that was interrupted", midnight)
	f.rounds(midnight, f.a)
	f.holds("and a round of the process that was asked", midnight)

	f.a.idle = 300 * time.Millisecond
	text := fmt.Sprintf("no parts of shards [1], and what is published has not changed. Instances that serve them and share archive.dir go on with it by themselves; "+
		"where none runs, or to see why not, run with the configuration of each: asiduo snapshot --as-of %s", time.UnixMilli(int64(noon)).UTC().Format(time.RFC3339))
	if _, err := f.a.write(t.Context(), noon); !errors.Is(err, api.ErrIncomplete) || !strings.Contains(err.Error(), text) {
		t.Errorf("the other process does not answer: %v", err)
	}
	f.holds("after a request that nobody has answered", midnight)
	f.rounds(midnight, f.b, f.a)
	f.holds("when the other process has seen it", noon)
	if f.a.published != noon || f.b.published != midnight {
		t.Errorf("told as published: %d, %d", f.a.published, f.b.published)
	}

	// One command at the process that does not publish.
	later := noon + state.Day/4
	f.play(later)
	f.b.idle = time.Minute
	var files []string
	var err error
	done := make(chan struct{})
	go func() { defer close(done); files, err = f.b.write(t.Context(), later) }()
	for wait := true; wait; {
		select {
		case <-done:
			wait = false
		case <-time.After(50 * time.Millisecond):
			f.rounds(midnight, f.a)
		}
	}
	if err != nil || len(files) != 2 {
		t.Errorf("one command: %q, %v", files, err)
	}
	f.holds("after one command", later)
	if _, err := f.a.write(t.Context(), noon); !errors.Is(err, archive.ErrOlder) {
		t.Errorf("an older one: %v", err)
	}
	f.play(midnight + state.Day)
	f.rounds(midnight+state.Day, f.a, f.b, f.a)
	f.holds("the next one that is due", midnight+state.Day)
	f.holds("the day before", later)
}

// TestSnapshotWaits: who waits for another part waits no longer than it is asked for; and the metric does not tell of a snapshot that is gone.
func TestSnapshotWaits(t *testing.T) {
	f := newArchivers(t)
	midnight := state.Instant(time.UnixMilli(int64(f.end)).UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).UnixMilli())
	f.play(midnight + state.Day/2)
	f.a.turn <- struct{}{} // somebody writes a part
	for name, wait := range map[string]func(context.Context) error{
		"request": func(ctx context.Context) error { _, err := f.a.write(ctx, midnight+1); return err },
		"due":     func(ctx context.Context) error { return f.a.round(ctx, midnight) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	<-f.a.turn
	f.rounds(midnight, f.a, f.b, f.a)
	f.holds("after all", midnight+1)
	if f.a.published != midnight+1 {
		t.Errorf("told as published: %d", f.a.published)
	}
	f.paused(midnight)
	if err := os.RemoveAll(filepath.Join(f.r.cfg.Archive.Dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	f.rounds(midnight, f.a)
	if f.a.published != 0 {
		t.Errorf("told as published, and gone: %d", f.a.published)
	}
	f.rounds(midnight, f.b, f.a)
	f.holds("written again", midnight)
}

// paused: a snapshot that has failed is not tried again at once, but for somebody who asks.
func (f *archivers) paused(midnight state.Instant) {
	f.t.Helper()
	dir, day := f.r.cfg.Archive.Dir, time.UnixMilli(int64(midnight)).UTC().Format(time.DateOnly)
	note := filepath.Join(dir, "snapshots", "dt="+day, "notes.txt")
	if err := errors.Join(os.WriteFile(note, nil, 0o600), archive.Begin(dir, day, midnight+2, f.a.info())); err != nil {
		f.t.Fatal(err)
	}
	f.rounds(midnight, f.b)
	for _, fails := range []bool{true, false} {
		if err := f.a.round(f.t.Context(), midnight); errors.Is(err, archive.ErrForeign) != fails || !fails && err != nil {
			f.t.Errorf("tried again at once: %v", err)
		}
	}
	if _, err := f.a.write(f.t.Context(), midnight+2); !errors.Is(err, archive.ErrForeign) {
		f.t.Errorf("asked for: %v", err)
	}
	if err := os.Remove(note); err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.a.write(f.t.Context(), midnight+2); err != nil {
		f.t.Error(err)
	}
	f.holds("when nothing is in the way any more", midnight+2)
}
