package state

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// atOneInstant makes histories whose facts all become known at the same instant, none of them too late.
func atOneInstant(t *rapid.T, p *Parameters) []Fact {
	facts := drawFacts(t, p, 16)
	at := start
	for _, f := range facts {
		at = max(at, f.At)
	}
	var kept []Fact
	for _, f := range facts {
		f.At = at
		if at-f.placed() <= p.Window {
			kept = append(kept, f)
		}
	}
	return kept
}

// shuffled repeats some facts and puts all in another order.
func shuffled(t *rapid.T, facts []Fact) []Fact {
	more := slices.Clone(facts)
	for _, f := range facts {
		if uniform(t, "repeat", 1) == 1 {
			more = append(more, f)
		}
	}
	return rapid.Permutation(more).Draw(t, "order")
}

// The same facts at the same instant make the same ledger and the same scores, in any order and number; and they stay
// the same as time passes and orders settle.
func TestFactsCommute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		facts := atOneInstant(t, p)
		a, _ := play(p, facts, always)
		b, _ := play(p, shuffled(t, facts), always)
		end := start
		if len(facts) > 0 {
			end = facts[0].At
		}
		for range 4 {
			if x, y := ledgerBytes(a), ledgerBytes(b); !bytes.Equal(x, y) {
				t.Fatalf("ledgers differ at %d:\n%+v\n%+v", end, a.Ledger, b.Ledger)
			}
			s, f, chance := scoresAt(a, p)
			s2, f2, chance2 := scoresAt(b, p)
			if s != s2 || f != f2 || chance != chance2 {
				t.Fatalf("scores differ at %d:\n%+v %+v %d\n%+v %+v %d", end, s, f, chance, s2, f2, chance2)
			}
			if a.Published != b.Published && max(a.Published, b.Published) > Prospect {
				t.Fatalf("segments differ at %d: %d and %d", end, a.Published, b.Published)
			}
			// The next look is at any instant, so that both settle up to it.
			end += []Instant{1, Day, p.Recency[1], p.Window / 2, p.Window + 1}[uniform(t, "later", 4)]
			for _, c := range []*Customer{a, b} {
				c.take(p, neutral(end), always, nil)
			}
		}
	})
}

// While nothing leaves the window it does not matter either when the facts become known.
func TestFactsCommuteAcrossTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		facts := drawFacts(t, p, 16)
		p.Window = 4000 * Day
		last := start
		for _, f := range facts {
			last = max(last, f.At)
		}
		a, _ := play(p, append(slices.Clone(facts), neutral(last)), always)
		b, _ := play(p, append(shuffled(t, facts), neutral(last)), always)
		if a.EvaluatedAt != last || b.EvaluatedAt != last {
			t.Fatalf("evaluated at %d and %d, not %d", a.EvaluatedAt, b.EvaluatedAt, last)
		}
		s, f, chance := scoresAt(a, p)
		s2, f2, chance2 := scoresAt(b, p)
		if !bytes.Equal(ledgerBytes(a), ledgerBytes(b)) || s != s2 || f != f2 || chance != chance2 {
			t.Fatalf("differ:\n%+v %+v %+v %d\n%+v %+v %+v %d", a.Ledger, s, f, chance, b.Ledger, s2, f2, chance2)
		}
	})
}

// A record that comes again right away leaves no trace: facts, standing and numbers are as before and nothing is told.
func TestRepetition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		c := newCustomer()
		for _, f := range drawFacts(t, p, 16) {
			if _, ok := c.take(p, f, always, nil); !ok {
				continue
			}
			before := copyOf(t, c)
			if out, ok := c.take(p, f, always, nil); !ok || len(out) > 0 {
				t.Fatalf("repeated %+v: accepted %v, told %+v", f, ok, out)
			}
			checkEqual(t, "a repetition changed the customer", before, c)
		}
	})
}

// A record that comes again much later, under a later timestamp, tells nothing of its own either.
func TestLateRepetition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		facts := drawFacts(t, p, 12)
		p.Window = 4000 * Day
		c, _ := play(p, facts, always)
		f := facts[uniform(t, "which", len(facts)-1)]
		f.At = c.EvaluatedAt + Instant(uniform(t, "days", 127))*Day
		silent := copyOf(t, c)
		want := silent.Advance(p, f.At, always, nil)
		facts0 := ledgerBytes(c)
		got, ok := c.take(p, f, always, nil)
		if !ok || !slices.Equal(want, got) || !bytes.Equal(facts0, ledgerBytes(c)) || visible(silent) != visible(c) {
			t.Fatalf("repeated %+v after %d ms:\nsilence tells %+v\nthe record    %+v", f, f.At-c.EvaluatedAt, want, got)
		}
	})
}

// Refuse looks and touches nothing, and what it lets pass Apply can take.
func TestRefuseChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		p.Limits = Limits{Orders: 1 + uniform(t, "orders", 3), Refunds: 1 + uniform(t, "refunds", 2)}
		c := newCustomer()
		for _, f := range drawFacts(t, p, 24) {
			before := copyOf(t, c)
			why := c.Refuse(p, &f)
			checkEqual(t, "Refuse changed the customer", before, c)
			if why == "" {
				c.take(p, f, always, nil)
			}
			if len(c.Orders) > p.Limits.Orders || len(c.Refunds) > p.Limits.Refunds {
				t.Fatalf("%d orders and %d refunds with limits %+v", len(c.Orders), len(c.Refunds), p.Limits)
			}
		}
	})
}

// The greater version wins, compared in this order: each version below beats all above it.
func TestVersions(t *testing.T) {
	versions := []Order{
		{Revision: 0, UpdatedAt: 9, Status: Voided, Refunded: 9, Amount: 9, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 5, Status: Voided, Refunded: 9, Amount: 9, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: Pending, Refunded: 9, Amount: 9, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: Paid, Refunded: 9, Amount: 9, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: Completed, Refunded: 9, Amount: 9, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: PartiallyRefunded, Refunded: 9, Amount: 9, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: Refunded, Refunded: 9, Amount: 9, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: Cancelled, Refunded: 9, Amount: 9, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: Voided, Refunded: 0, Amount: 9, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: Voided, Refunded: 1, Amount: 2, OrderedAt: 9, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: Voided, Refunded: 1, Amount: 3, OrderedAt: 4, Test: true},
		{Revision: 1, UpdatedAt: 6, Status: Voided, Refunded: 1, Amount: 3, OrderedAt: 5, Test: false},
		{Revision: 1, UpdatedAt: 6, Status: Voided, Refunded: 1, Amount: 3, OrderedAt: 5, Test: true},
	}
	for i, lesser := range versions {
		for _, greater := range versions[i+1:] {
			for _, pair := range [][2]Order{{lesser, greater}, {greater, lesser}} {
				var l Ledger
				if cause := l.addOrder(pair[0]); cause != OrderCause {
					t.Errorf("an unknown order has the cause %v", cause)
				}
				if cause := l.addOrder(pair[1]); cause != OrderUpdate {
					t.Errorf("a known order has the cause %v", cause)
				}
				if len(l.Orders) != 1 || l.Orders[0] != greater {
					t.Errorf("of\n%+v\n%+v\nthe ledger keeps %+v", pair[0], pair[1], l.Orders)
				}
			}
		}
	}
}

// A day that a calendar has twice, because the zone's clock is set back across midnight, is still one day; and
// settling does not change how many there are.
func TestClockSetBackAcrossMidnight(t *testing.T) {
	const day = 19_700
	first := Instant(day) * Day
	for _, test := range []struct {
		name      string
		days      []int32 // of orders ten minutes apart; the earliest day is long before
		occasions int64
		firstDay  int32
	}{
		{"plain", []int32{day - 1, day, day}, 2, day - 1},
		{"same day again", []int32{day - 1, day, day - 1, day}, 2, day - 1},
		{"begins on the later day", []int32{day, day - 1, day}, 2, day - 1},
		{"eve known from long ago", []int32{day - 3, day - 1, day, day - 1}, 3, day - 3},
		{"eve only afterwards", []int32{day - 3, day, day - 1, day - 1, day}, 3, day - 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := defaults()
			c := newCustomer()
			at := first
			for i, d := range test.days {
				f := order(uint64(i), first+Instant(i)*10*60_000, 100)
				if d == day-3 {
					f = order(uint64(i), first-3*Day, 100)
				}
				f.Order.Day, at = d, f.At
				mustTake(t, c, p, f)
			}
			for i := -1; i <= len(test.days); i++ {
				// One order after the other leaves the window.
				d := copyOf(t, c)
				d.take(p, neutral(max(at, first+Instant(i)*10*60_000+p.Window+1)), always, nil)
				d = copyOf(t, d)
				d.tally.fill(&d.Ledger, p)
				if y := d.tally.occasions; y.Days != test.occasions || y.FirstDay != test.firstDay || y.LastDay != slices.Max(test.days) {
					t.Errorf("%d settled: %d occasions from %d to %d, want %d from %d to %d", d.Settled.Orders, y.Days,
						y.FirstDay, y.LastDay, test.occasions, test.firstDay, slices.Max(test.days))
				}
			}
		})
	}
}
