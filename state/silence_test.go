package state

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// instants are those at which silence could change something (semantics 6), told apart from the code under test:
// every boundary of every order, one millisecond around each, and whole days after the last order.
func instants(t *rapid.T, c *Customer, p *Parameters) (at []Instant) {
	days := []Instant{1, 2, 3, 10, 3649, 3650, 3651}
	for range 8 {
		days = append(days, Instant(uniform(t, "day", 127)))
	}
	for _, o := range c.Orders {
		for _, cut := range append(p.Recency[:], p.Window) {
			at = append(at, o.OrderedAt+cut)
		}
		for _, d := range days {
			at = append(at, o.OrderedAt+d*Day)
		}
	}
	if c.Due != Never {
		at = append(at, c.Due, c.Due-Day)
	}
	at = append(at, c.EvaluatedAt+Instant(rapid.Int64Range(1, int64(9000*Day)).Draw(t, "any instant")))
	for _, x := range slices.Clone(at) {
		at = append(at, x-1, x+1)
	}
	return slices.DeleteFunc(at, func(x Instant) bool { return x <= c.EvaluatedAt })
}

// visible is what an evaluation must change to be worth having been made.
func visible(c *Customer) Standing {
	s := c.Standing
	s.Threshold, s.SegmentSeq, s.RiskSeq = Threshold{}, 0, 0
	return s
}

// Between two evaluations nothing that is published may change; at the due instant something does.
func TestDueIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		c, _ := play(p, drawFacts(t, p, 16), always)
		if !c.Evaluated {
			return
		}
		for _, x := range instants(t, c, p) {
			if x > c.Due {
				continue
			}
			d := copyOf(t, c)
			f := neutral(x)
			out := d.Apply(p, &f, always, nil) // without Advance: what does an evaluation at x see?
			switch {
			case x < c.Due && (len(out) > 0 || visible(d) != visible(c)):
				t.Fatalf("due at %d, evaluated at %d, but at %d there is something to see\nwas %+v\n is %+v", c.Due, c.EvaluatedAt, x, c.Standing, d.Standing)
			case x == c.Due && visible(d) == visible(c):
				t.Fatalf("due at %d, evaluated at %d, but nothing happens then: %+v", c.Due, c.EvaluatedAt, c.Standing)
			}
		}
	})
}

// A look at a customer for whom nothing is due changes nothing; in how many steps time passes cannot be seen.
func TestAdvanceInSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		atOnce, _ := play(p, drawFacts(t, p, 16), always)
		inSteps := copyOf(t, atOnce)
		to := atOnce.EvaluatedAt + Instant(uniform(t, "days", 1023))*Day + Instant(uniform(t, "ms", 2))
		want := atOnce.Advance(p, to, always, nil)
		steps := make([]Instant, uniform(t, "steps", 15))
		for i := range steps {
			steps[i] = to - Instant(rapid.Int64Range(0, int64(400*Day)).Draw(t, "before the end"))
		}
		slices.Sort(steps)
		var got []Change
		for _, x := range append(steps, to, to) {
			due := inSteps.Due
			before := inSteps.EvaluatedAt
			got = inSteps.Advance(p, x, always, got)
			if due > x && inSteps.EvaluatedAt != before {
				t.Fatalf("nothing was due up to %d, but the customer moved from %d to %d", x, before, inSteps.EvaluatedAt)
			}
		}
		if !slices.Equal(want, got) {
			t.Fatalf("at once %+v\nin steps %+v", want, got)
		}
		checkEqual(t, "in steps and at once differ", atOnce, inSteps)
		if inSteps.Due <= to {
			t.Fatalf("due at %d after advancing to %d", inSteps.Due, to)
		}
	})
}

// Silence never improves anything: no score, no rank, no stage of the funnel, no probability.
func TestIdleNeverImproves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		c, _ := play(p, drawFacts(t, p, 16), always)
		for n := 0; c.Due != Never; n++ {
			if n > 5000 {
				t.Fatalf("silence does not end: evaluated at %d, due at %d", c.EvaluatedAt, c.Due)
			}
			was, reference := c.Standing, c.Chance(p, c.EvaluatedAt)
			due := c.Due
			for _, change := range c.Advance(p, due, always, nil) {
				if change.At != due || change.Cause != Timer {
					t.Fatalf("due at %d, told %+v", due, change)
				}
				if d := change.Direction(p.Rules); change.Kind == SegmentChange && d != "down" && d != "lateral" {
					t.Fatalf("%s in silence: %+v", d, change)
				}
			}
			if c.EvaluatedAt != due {
				t.Fatalf("due at %d, evaluated at %d", due, c.EvaluatedAt)
			}
			is := c.Standing
			if is.R > was.R || is.F > was.F || is.M > was.M || p.Rules.Rank(is.Published) > p.Rules.Rank(was.Published) ||
				is.Band < was.Band || c.Chance(p, due) < reference {
				t.Fatalf("silence improved\nfrom %+v\n  to %+v", was, is)
			}
		}
	})
}

// What a change or a profile says about the future comes true if nothing comes.
func TestPromisesAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		c, _ := play(p, drawFacts(t, p, 16), always)
		if !c.Evaluated {
			return
		}
		promise := c.Profile(p)
		for _, at := range []Instant{promise.Next.At, promise.ThresholdAt} {
			if at == Never {
				at = c.EvaluatedAt + 12_000*Day
			}
			before, after := copyOf(t, c), copyOf(t, c)
			before.Advance(p, at-1, always, nil)
			after.Advance(p, at, always, nil)
			if at <= promise.Next.At && before.Published != c.Published {
				t.Fatalf("next transition %+v, but left %d before", promise.Next, c.Published)
			}
			if at <= promise.ThresholdAt && before.Band != c.Band {
				t.Fatalf("next threshold %+v, but the band is %v before", promise.Threshold, before.Band)
			}
			if at == promise.Next.At && (after.Published != promise.Next.Segment || after.Since != at) {
				t.Fatalf("next transition %+v, but now in %d since %d", promise.Next, after.Published, after.Since)
			}
			if at == promise.ThresholdAt && after.Band != promise.Threshold.Band {
				t.Fatalf("next threshold %+v, but the band is %v then", promise.Threshold, after.Band)
			}
		}
	})
}

// The last day on which the model is asked is day 3,650; afterwards nothing is due.
func TestSilenceEnds(t *testing.T) {
	p := defaults()
	c, _ := play(p, []Fact{order(1, start, 100)}, always)
	c.Advance(p, start+lastChurnDay*Day, always, nil)
	if c.Due != Never {
		t.Errorf("due at %d, %d days after the last order", c.Due, (c.Due-start)/Day)
	}
	at, later := c.Chance(p, start+lastChurnDay*Day), c.Chance(p, start+2*lastChurnDay*Day)
	if at != later {
		t.Errorf("probability %d on day %d, %d much later", at, lastChurnDay, later)
	}
}
