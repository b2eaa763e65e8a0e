package model

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What the table says of any probability is what sorting the population it was learnt from says, whatever the order it
// came in; it rises with the probability from 0 to 100.
func TestPercentiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 2000).Draw(t, "customers")
		top := rapid.SampledFrom([]int32{3, 500, 1_000_000}).Draw(t, "greatest probability") // few values: many ties
		many := rapid.IntRange(1, 40).Draw(t, "most orders")
		few := rapid.IntRange(1, many).Draw(t, "fewest orders")
		seed := rapid.Uint64().Draw(t, "seed")
		next := func(n int) int {
			seed = seed*6364136223846793005 + 1442695040888963407
			return int(seed>>33) % n
		}
		scores := make([]Score, n)
		for i := range scores {
			scores[i] = Score{Orders: few + next(many-few+1)*next(100)/99, Probability: int32(next(int(top) + 1))}
		}
		table := LearnPercentiles(scores)
		if err := table.Check(); err != nil {
			t.Fatal(err)
		}
		back := slices.Clone(scores)
		slices.Reverse(back)
		if again := LearnPercentiles(back); !slices.EqualFunc(table, again, func(a, b PercentileClass) bool {
			return a.Orders == b.Orders && a.Customers == b.Customers && slices.Equal(a.Bounds, b.Bounds)
		}) {
			t.Fatalf("the order of the population matters: %+v and %+v", table, again)
		}
		if _, known := table.At(0, 1); known != (n >= 100) {
			t.Fatalf("a table of %d customers: %v", n, known)
		}
		all := 0
		for i, c := range table {
			to := 1 << 30
			if i+1 < len(table) {
				to = table[i+1].Orders
			}
			var members []int32
			for _, s := range scores {
				if s.Orders >= c.Orders && s.Orders < to {
					members = append(members, s.Probability)
				}
			}
			all += len(members)
			if len(members) != c.Customers || c.Customers < 100 {
				t.Fatalf("class from %d: %d customers, counted %d", c.Orders, c.Customers, len(members))
			}
			was := 0
			for _, p := range append(slices.Sorted(slices.Values(members)), top+1) {
				below := 0
				for _, q := range members {
					if q <= p {
						below++
					}
				}
				got, _ := table.At(p, c.Orders)
				if got != 100*below/len(members) || got < was {
					t.Fatalf("class from %d: %d is at %d %%, after %d %%; %d of %d do not exceed it", c.Orders, p, got, was, below, len(members))
				}
				was = got
			}
			if was != 100 {
				t.Fatalf("the greatest is at %d %%", was)
			}
		}
		if all != n && table != nil {
			t.Fatalf("%d of %d customers are in a class", all, n)
		}
	})
}

func TestPercentilesCheck(t *testing.T) {
	good := func() Percentiles {
		var all []Score
		for i := range 400 {
			all = append(all, Score{1 + i%2, int32(i)})
		}
		return LearnPercentiles(all)
	}
	if p := good(); len(p) != 2 || p.Check() != nil {
		t.Fatalf("%+v", p)
	}
	for want, spoil := range map[string]func(Percentiles){
		"classes of percentiles do not ascend from 1 order":                   func(p Percentiles) { p[1].Orders = 1 },
		"a class of percentiles needs 100 ascending bounds from 0 to 1000000": func(p Percentiles) { p[1].Bounds[99] = 1_000_001 },
	} {
		p := good()
		spoil(p)
		if err := p.Check(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
