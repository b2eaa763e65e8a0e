package main

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/asiduo/asiduo/pipeline"
)

// beginsOver starts a process after a reset that a topic was missing of: everybody's first change is told once more.
func (w *town) beginsOver(s *service, missing string) {
	w.t.Helper()
	want := 8 + 8
	if missing == "shop.segment-changes" {
		want = 8
	}
	s = w.again(s.file)
	eventually(w.t, "all are told again", func() bool {
		n := 0
		for _, r := range w.inTopic("shop.segment-changes") {
			n += strings.Count(r, `\"sequence\":1,`)
		}
		return n == want
	})
	s.stop()
	if p := w.profiles(); len(p) != 8 {
		w.t.Errorf("profiles of %d customers", len(p))
	}
}

// TestResetWithoutTopics: a reset that misses a topic says which and begins nothing; init makes it, and the reset works.
func TestResetWithoutTopics(t *testing.T) {
	for _, topic := range []string{"shop.changelog", "shop.segment-changes", "shop.profiles"} {
		t.Run(topic, func(t *testing.T) {
			w, s, _ := settled(t)
			s.stop()
			_, adm := adminOf(t, w.broker)
			if _, err := adm.DeleteTopic(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
			dir := contents(t, s.cfg.State.Dir)
			refused(t, exitFailed, "topic \""+topic+"\" is missing: create it with \"asiduo init\"", "reset", "-c", s.file, "--yes")
			if e := w.gate(s); e.Epoch != 1 || e.Reset != nil {
				t.Errorf("a reset that was refused has begun: %+v", e)
			}
			if got := command(t, "init", "-c", s.file); got.code != exitGood {
				t.Fatalf("init: %+v", got)
			}
			if got := command(t, "reset", "-c", s.file, "--yes"); got.code != exitGood {
				t.Fatalf("reset: %+v", got)
			}
			if is := contents(t, s.cfg.State.Dir); !maps.Equal(is, dir) {
				t.Error("the reset has touched the data directory")
			}
			w.beginsOver(s, topic)
		})
	}
}

// TestResetLosesTopics: topics that go away while a reset is not finished, when init does nothing, do not keep the next one
// from completing it.
func TestResetLosesTopics(t *testing.T) {
	for _, topic := range []string{"shop.changelog", "shop.segment-changes", "shop.profiles"} {
		t.Run(topic, func(t *testing.T) {
			w, s, _ := settled(t)
			s.stop()
			_, adm := adminOf(t, w.broker)
			r, err := pipeline.PlanReset(t.Context(), adm, pipeline.Connector(s.cfg.Kafka), s.cfg)
			if err != nil {
				t.Fatal(err)
			}
			r.Step = func(what string) error {
				if what == "seize shard 1" {
					return errDied
				}
				return nil
			}
			if err := r.Do(t.Context()); !errors.Is(err, errDied) {
				t.Fatal(err)
			}
			if _, err := adm.DeleteTopic(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
			refused(t, exitFailed, "a reset to epoch 2 has begun and is not finished: run \"asiduo reset\" again", "init", "-c", s.file)
			if got := command(t, "reset", "-c", s.file, "--yes"); got.code != exitGood {
				t.Fatalf("reset: %+v", got)
			}
			if got := command(t, "init", "-c", s.file); got.code != exitGood {
				t.Fatalf("init: %+v", got)
			}
			w.beginsOver(s, topic)
		})
	}
}
