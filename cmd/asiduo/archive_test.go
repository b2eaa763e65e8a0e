package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	done := map[int32]state.Instant{}
	for range 2 {
		if err := a.round(t.Context(), lastDue(asked, 24*time.Hour, time.UTC), done); err != nil {
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
	if err := a.round(t.Context(), midnight, done); err != nil {
		t.Fatal(err)
	}
	holds("the next day", midnight)
}
