package state

import (
	"maps"
	"slices"
	"testing"
)

// regular is a customer of eight orders in two years, and two more orders of the same person.
func regular(tb testing.TB) (p *Parameters, c *Customer, more []Fact) {
	tb.Helper()
	p = defaults()
	all := cdnow(tb)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		facts := all[id]
		if len(facts) < 10 {
			continue
		}
		slices.SortStableFunc(facts, func(a, b Fact) int { return int(a.At - b.At) })
		c = newCustomer()
		for i := range facts[:8] {
			c.Advance(p, facts[i].At, always, nil)
			c.Apply(p, &facts[i], always, nil)
		}
		return p, c, facts[8:10]
	}
	tb.Fatal("nobody has ten orders")
	return nil, nil, nil
}

// part is one of those of the hot path.
type part struct {
	name string
	run  func()
}

// hotPath is what every record costs, by its parts; each leaves what the next one needs.
func hotPath(tb testing.TB) []part {
	p, c, more := regular(tb)
	stored := c.AppendTo(nil)
	if err := c.Decode(stored); err != nil {
		tb.Fatal(err)
	}
	out, again := make([]Change, 0, 16), make([]byte, 0, 2*len(stored))
	whole := func() {
		if err := c.Decode(stored); err != nil {
			tb.Fatal(err)
		}
	}
	order := func(p *Parameters) func() {
		return func() {
			whole()
			out = c.Advance(p, more[0].At, always, out[:0])
			out = c.Apply(p, &more[0], always, out)
			again = c.AppendTo(again[:0])
		}
	}
	plain := *p
	plain.Churn.Method, plain.Churn.Value = NoChurn, nil
	return []part{
		{"decode", whole},
		{"encode", func() { again = c.AppendTo(again[:0]) }},
		{"score", func() { c.Profile(p) }},
		{"silence", func() {
			whole()
			out = c.Advance(p, more[0].At, always, out[:0])
		}},
		{"order", order(p)},
		{"order_without_churn", order(&plain)},
	}
}

// TestHotPathAllocates nothing: what a record costs must not be the collector's.
func TestHotPathAllocates(t *testing.T) {
	for _, p := range hotPath(t) {
		p.run() // what is kept for the next
		if n := testing.AllocsPerRun(100, p.run); n != 0 {
			t.Errorf("%s: %v allocations", p.name, n)
		}
	}
}

// BenchmarkHotPath is one order of a regular customer, by its parts. silence and order begin with a decode.
func BenchmarkHotPath(b *testing.B) {
	for _, p := range hotPath(b) {
		b.Run(p.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.run()
			}
		})
	}
}
