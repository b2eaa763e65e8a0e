package state

import (
	"testing"

	"pgregory.net/rapid"
)

// What a chance is made of sums to it, in every change and at any time. The days of silence alone move their own part, and never
// down; the rest is that of the orders, and its base everybody's.
func TestDrivers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		newcomer := newCustomer()
		o := order(1, Day, 100)
		newcomer.Apply(p, &o, always, nil)
		base := newcomer.Risk(p, Day).Drivers.Base
		sums := func(r *Risk) {
			t.Helper()
			d := r.Drivers
			if r.Chance == None {
				if d != (Drivers{}) {
					t.Fatalf("drivers of nothing: %+v", d)
				}
				return
			}
			if d.Base+d.Rhythm+d.Silence != r.Chance || d.Silence < 0 || d.Base != base {
				t.Fatalf("%d is not made of %+v; everybody's base is %d", r.Chance, d, base)
			}
		}
		c, told := play(p, drawFacts(t, p, 16), always)
		start := c.EvaluatedAt
		was := c.Risk(p, start)
		sums(&was)
		for days := range Instant(30) {
			is := c.Risk(p, start+days*20*Day)
			sums(&is)
			if is.Drivers.Rhythm != was.Drivers.Rhythm || is.Drivers.Silence < was.Drivers.Silence {
				t.Fatalf("silence turns %+v into %+v", was.Drivers, is.Drivers)
			}
			was = is
		}
		told = c.Advance(p, start+400*Day, always, told)
		for i := range told {
			if told[i].Kind == RiskChange {
				sums(&told[i].Risk)
			}
		}
	})
}
