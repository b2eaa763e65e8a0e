package main

import (
	"slices"
	"testing"
	"time"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/kpi"
)

// TestTravel holds the way of every CDNOW customer through the stages against a look at each of them every evening.
func TestTravel(t *testing.T) {
	cfg := config.Default()
	var log purchaseFlags
	log.inputs, log.format.Preset = []string{"data/CDNOW_sample.txt.gz"}, "cdnow"
	if err := log.check(&cfg); err != nil {
		t.Fatal(err)
	}
	purchases, err := readPurchases(t.Context(), cfg, fromFiles(&log))
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.FirstParameters(purchases.cfg)
	if err != nil {
		t.Fatal(err)
	}
	facts := map[string][]*state.Fact{}
	first, last := state.Never, state.Instant(0)
	for i := range purchases.facts {
		f := &purchases.facts[i]
		facts[f.Customer] = append(facts[f.Customer], f)
		first, last = min(first, f.At), max(last, f.At)
	}
	stages := map[string]int{}
	for id, fs := range facts {
		slices.SortStableFunc(fs, func(a, b *state.Fact) int { return int(a.At - b.At) })
		path := travel{p: p, zone: time.UTC}
		path.c.Reset()
		for _, f := range fs {
			path.take(f)
		}
		path.wait(last + 100*state.Day)
		var c state.Customer
		c.Reset()
		stay, known := kpi.Stay{}, 0
		for at, next := first-first%state.Day+state.Day-1, 0; at <= last+100*state.Day; at += state.Day {
			for ; next < len(fs) && fs[next].At <= at; next++ {
				c.Advance(p, fs[next].At, unheard, nil)
				c.Apply(p, fs[next], unheard, nil)
			}
			c.Advance(p, at, unheard, nil)
			for known < len(path.stays) && path.stays[known].Day <= int32(at/state.Day) {
				stay = path.stays[known]
				known++
			}
			if is := c.Lifecycle.String(); c.Evaluated && is != stay.Stage || !c.Evaluated && known > 0 {
				t.Fatalf("%s on the evening of %s: %s, on the way %+v", id, dateOf(int32(at/state.Day)), is, path.stays)
			}
		}
		for _, s := range path.stays {
			stages[s.Stage]++
		}
	}
	if len(stages) < 8 {
		t.Errorf("only the stages %v", stages)
	}
}
