package kpi

import (
	"reflect"
	"testing"
	"time"
)

func day(text string) int32 {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return int32(t.Unix() / 86400)
}

// TestFunnels: ana comes in January, leaves in May and comes back at once and again; bob comes on the last day of a quarter.
func TestFunnels(t *testing.T) {
	paths := [][]Stay{
		{{"trier", day("2025-01-10")}, {"recent", day("2025-02-01")}, {"lost", day("2025-08-05")}, {"recent", day("2025-08-06")}, {"lost", day("2025-09-30")}},
		{{"trier", day("2025-03-31")}, {"lost", day("2025-10-01")}},
		{{"prospect", day("2026-01-01")}},
	}
	stages := []string{"prospect", "trier", "recent", "lost"}
	to := func(stage string, of, all float64) Move { return Move{stage, Rate{of, all, of / all}} }
	want := []Funnel{
		{"2025Q1", []Leave{{"trier", 2, []Move{to("recent", 1, 2)}}, {"recent", 1, nil}}},
		{"2025Q2", []Leave{{"trier", 1, nil}, {"recent", 1, nil}}},
		{"2025Q3", []Leave{{"trier", 1, nil}, {"recent", 1, []Move{to("lost", 1, 1)}}, {"lost", 1, []Move{to("recent", 1, 1)}}}},
		{"2025Q4", []Leave{{"trier", 1, []Move{to("lost", 1, 1)}}, {"lost", 2, nil}}},
	}
	for until, n := range map[string]int{"2025-12-31": 4, "2026-03-30": 4, "2025-12-30": 3, "2025-09-30": 3, "2025-03-30": 0} {
		got := Funnels(paths, stages, day(until))
		if len(got) != n || n > 0 && !reflect.DeepEqual(got, want[:n]) {
			t.Errorf("until %s: %+v\nwant %+v", until, got, want[:n])
		}
	}
	if got := Funnels(nil, stages, 20_000); got != nil {
		t.Errorf("of nobody: %+v", got)
	}
}
