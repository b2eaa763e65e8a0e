package events_test

import (
	"testing"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// aChange is a change by silence with everything in it.
func aChange(t testing.TB) *state.Change {
	s := newStory(t, "ana").bought(1, "2023-12-01T12:00:00Z", 500_00)
	changes := s.c.Advance(s.p, at(t, "2024-01-01T00:00:00Z"), s.say, nil)
	for i := range changes {
		if changes[i].Kind == state.SegmentChange {
			return &changes[i]
		}
	}
	t.Fatal("silence has changed nothing")
	return nil
}

func someInteractions() *state.Interactions {
	return &state.Interactions{LastAt: 1_700_000_000_000, Consents: []state.Consent{
		{Purpose: "email", Status: state.Granted}, {Purpose: "profiling", Status: state.Revoked},
	}}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	s := newStory(t, "5f0c7d4e-6a53-4b8e-9c57-0f6f3b0a9d11").bought(1, "2023-12-01T12:00:00Z", 500_00)
	move, risk, n := aChange(t), *aChange(t), someInteractions()
	risk.Kind = state.RiskChange
	b := make([]byte, 0, 4096)
	for name, run := range map[string]func(){
		"segment change": func() { b = s.e.AppendChange(b[:0], s.name, move, n) },
		"churn risk":     func() { b = s.e.AppendChange(b[:0], s.name, &risk, n) },
		"profile":        func() { b = s.e.AppendProfile(b[:0], s.name, s.c, n) },
		"prospect":       func() { b = s.e.AppendProfile(b[:0], s.name, nil, nil) },
	} {
		if got := testing.AllocsPerRun(100, run); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
	for name, run := range map[string]func(){
		"segment change": func() { kept = s.e.Change(s.name, move, n) },
		"churn risk":     func() { kept = s.e.Change(s.name, &risk, n) },
		"profile":        func() { kept = s.e.Profile(s.name, s.c, n) },
		"dead letter":    func() { kept = s.e.DeadLetter(&events.Rejected{Topic: "purchases", Reason: "bad_field"}) },
	} {
		if got := testing.AllocsPerRun(100, run); got > 2 {
			t.Errorf("record of a %s: %v allocations; one for the bytes and one for the headers", name, got)
		}
	}
}

var kept events.Record

func BenchmarkChange(b *testing.B) {
	c, n := aChange(b), someInteractions()
	e := events.New("conf", 1, parameters(b), "EUR", 2)
	b.Run("record", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			kept = e.Change("5f0c7d4e-6a53-4b8e-9c57-0f6f3b0a9d11", c, n)
		}
	})
	b.Run("value", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 4096)
		for b.Loop() {
			buf = e.AppendChange(buf[:0], "5f0c7d4e-6a53-4b8e-9c57-0f6f3b0a9d11", c, n)
		}
		b.SetBytes(int64(len(buf)))
	})
}

func BenchmarkProfile(b *testing.B) {
	s, n := newStory(b, "5f0c7d4e-6a53-4b8e-9c57-0f6f3b0a9d11"), someInteractions()
	s.bought(1, "2023-12-01T12:00:00Z", 500_00).bought(2, "2024-01-01T12:00:00Z", 20_00).bought(3, "2024-02-01T12:00:00Z", 30_00)
	b.Run("record", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			kept = s.e.Profile(s.name, s.c, n)
		}
	})
	b.Run("value", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 4096)
		for b.Loop() {
			buf = s.e.AppendProfile(buf[:0], s.name, s.c, n)
		}
		b.SetBytes(int64(len(buf)))
	})
}

func BenchmarkTime(b *testing.B) {
	b.ReportAllocs()
	buf := make([]byte, 0, 32)
	for b.Loop() {
		buf = events.AppendTime(buf[:0], 1_704_067_200_001)
	}
}
