package state

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawAdoption makes the next version of parameters, of one family, and when it comes.
func drawAdoption(t *rapid.T, was *Parameters, after Instant) *Adoption {
	is, other := *was, drawParameters(t)
	a := &Adoption{Was: was, Is: &is, Announce: rapid.Bool().Draw(t, "announce")}
	a.At = after + Instant(uniform(t, "adopted", 31)-8)*Day/2 + Instant(uniform(t, "jitter", 3)-1)
	switch uniform(t, "family", 2) {
	case 0:
		a.Cause = RulesCause
		is.Versions.Rules++
		is.Recency, is.Frequency, is.Window = other.Recency, other.Frequency, max(other.Window, other.Recency[3]+1)
		is.Rules = rapid.SampledFrom(ruleSets(was.Rules.Codes())).Draw(t, "rules")
	case 1:
		a.Cause = CutsCause
		is.Versions.Cuts++
		for i := range is.Money {
			is.Money[i] = was.Money[i] * Money(1+uniform(t, "money", 3)) / 2
		}
	default:
		a.Cause = ModelCause
		is.Versions.Model++
		is.Churn = other.Churn
	}
	return a
}

func ruleSets(given []SegmentCode) (sets []*RuleSet) {
	for _, name := range Presets() {
		rules, _ := Preset(name)
		s, err := NewRuleSet(name, rules, given...)
		if err != nil {
			panic(err)
		}
		sets = append(sets, s)
	}
	return sets
}

// switched takes a fact as a shard does that has adopted.
func (c *Customer) switched(a *Adoption, f Fact, say Telling, out []Change) []Change {
	out, _ = c.Adopt(a, say, out)
	out, _ = c.take(a.Is, f, say, out)
	return out
}

// Who touches a customer first, a record, a timer, the sweep or somebody who looks for nothing, and how often, cannot
// be seen in what is told or in the bytes.
func TestAdoptionIsOneInstant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was := drawParameters(t)
		facts := drawFacts(t, was, 12)
		n := uniform(t, "before", len(facts))
		c, _ := play(was, facts[:n], always)
		horizon := start
		for _, f := range facts[:n] {
			horizon = max(horizon, f.At)
		}
		a := drawAdoption(t, was, horizon)
		swept, lazy := copyOf(t, c), copyOf(t, c)
		told, changed := swept.Adopt(a, always, nil)
		if again, more := swept.Adopt(a, always, nil); len(again) > 0 || more {
			t.Fatalf("adopting twice tells %+v", again)
		}
		if !changed {
			checkEqual(t, "left alone", c, swept)
		}
		var late []Change
		end := max(a.At, c.EvaluatedAt)
		for _, f := range facts[n:] {
			end = max(end, f.At)
			for range uniform(t, "looks", 2) { // the sweep has been here, and need not come again; timers adopt whenever they look
				told = swept.Advance(a.Is, f.At, always, told)
				late, _ = lazy.Adopt(a, always, late)
				late = lazy.Advance(a.Is, f.At, always, late)
			}
			told, _ = swept.take(a.Is, f, always, told)
			late = lazy.switched(a, f, always, late)
		}
		end += Instant(uniform(t, "silence", 200)) * Day
		told = swept.Advance(a.Is, end, always, told)
		late, _ = lazy.Adopt(a, always, late)
		late = lazy.Advance(a.Is, end, always, late)
		if !slices.Equal(told, late) {
			t.Fatalf("told\n%s\nand\n%s", story(a.Is, told), story(a.Is, late))
		}
		checkEqual(t, "touched at other times", swept, lazy)
	})
}

// After the adoption the scores are those of the new parameters over the same facts at the same instant, the timer is
// where a brute-force look finds the first change, and silence before it was played under the old ones.
func TestAdoptionEvaluates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was := drawParameters(t)
		c, _ := play(was, drawFacts(t, was, 12), always)
		a := drawAdoption(t, was, c.EvaluatedAt)
		before := copyOf(t, c)
		played := before.Advance(was, max(a.At, c.EvaluatedAt), always, nil)
		told, changed := c.Adopt(a, always, nil)
		if !slices.Equal(told[:min(len(told), len(played))], played) {
			t.Fatalf("silence before the adoption is told as\n%+v\nwant\n%+v", told, played)
		}
		for _, ch := range told[len(played):] {
			if ch.Cause != a.Cause || !a.Announce || ch.At != max(a.At, before.EvaluatedAt) || ch.Is.Versions != a.Is.Versions {
				t.Fatalf("told %+v", ch)
			}
		}
		if !c.Evaluated {
			return
		}
		if !changed {
			checkEqual(t, "unchanged", before, c)
			if is, said := c.Profile(a.Is).Next, before.Profile(was).Next; is != said {
				t.Fatalf("left alone, though silence leads to %+v, and the profile says %+v", is, said)
			}
		}
		// The same evaluation, made by a look at that instant under the new parameters.
		is, at := copyOf(t, before), max(a.At, before.EvaluatedAt)
		from := at
		is.Due = at
		is.settle(at, a.Is.Window)
		is.evaluate(a.Is, at, a.Cause, !a.Announce, always, nil)
		if got, want := scoresOf(c), scoresOf(is); got != want {
			t.Fatalf("scores %+v, want %+v", got, want)
		}
		if c.Due != is.Due {
			t.Fatalf("due at %d, want %d", c.Due, is.Due)
		}
		for at := from + Day/4; at < min(c.Due, from+60*Day); at += Day / 4 {
			look := copyOf(t, c)
			look.settle(at, a.Is.Window)
			look.evaluate(a.Is, at, Timer, false, always, nil)
			if scoresOf(look) != scoresOf(c) {
				t.Fatalf("silence changes %+v to %+v at %d, the timer is %d", scoresOf(c), scoresOf(look), at, c.Due)
			}
		}
	})
}

// standing without what an evaluation at another instant may differ in
func scoresOf(c *Customer) Standing {
	s := c.Standing
	s.Versions = Versions{}
	return s
}

// A new version that says the same leaves every customer as he was, and what is not announced takes no number and
// changes nothing else.
func TestAdoptionLeavesNoTrace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was := drawParameters(t)
		c, _ := play(was, drawFacts(t, was, 12), always)
		is := *was
		is.Versions = Versions{Rules: 7, Cuts: 8, Model: 9}
		a := &Adoption{Was: was, Is: &is, At: c.EvaluatedAt + Instant(uniform(t, "at", 63))*Day, Cause: ModelCause, Announce: true}
		want := copyOf(t, c)
		silence := want.Advance(was, a.At, always, nil)
		told, _ := c.Adopt(a, always, nil)
		if !slices.Equal(told, silence) {
			t.Fatalf("told %+v, want %+v", told, silence)
		}
		checkEqual(t, "the same parameters again", want, c)

		real := drawAdoption(t, was, c.EvaluatedAt)
		quiet := copyOf(t, c)
		real.Announce = true
		out, _ := c.Adopt(real, always, nil)
		real.Announce = false
		silent, _ := quiet.Adopt(real, always, nil)
		for _, ch := range silent {
			if ch.Cause != Timer {
				t.Fatalf("told though nobody asked for it: %+v", ch)
			}
		}
		if len(out) == len(silent) && quiet.SegmentSeq+quiet.RiskSeq != c.SegmentSeq+c.RiskSeq {
			t.Fatal("a number without an announcement")
		}
		quiet.SegmentSeq, quiet.RiskSeq = c.SegmentSeq, c.RiskSeq
		checkEqual(t, "the standing depends on the announcement", c, quiet)
	})
}

// Rules that name things anew: the change says from where, in the names of then.
func TestAdoptedRules(t *testing.T) {
	p := defaults()
	p.Churn.Method = NoChurn
	c := newCustomer()
	out := mustTake(t, c, p, order(1, start, 20_000))
	is := *p
	is.Versions.Rules = 2
	is.Rules, _ = NewRuleSet("rf10", RF10(), p.Rules.Codes()...)
	a := &Adoption{Was: p, Is: &is, At: start + 100*Day, Cause: RulesCause, Announce: true}
	out, _ = c.Adopt(a, always, out) // about_to_sleep in both: nothing to tell
	out, _ = c.Adopt(a, always, out)
	out = c.Advance(&is, start+2000*Day, always, out)
	checkStory(t, &is, out, `day 0+0 order live #1:  -> new initial first 514 trier, then promising on day 30+1
day 30+1 timer live #2: new -> promising down first 414 trier, then about_to_sleep on day 90+1
day 90+1 timer live #3: promising -> about_to_sleep down first 314 at_risk, then hibernating on day 180+1
day 180+1 timer live #4: about_to_sleep -> hibernating down first 214 dormant, then lost on day 730+1
day 730+1 timer live #5: hibernating -> lost lateral first 100 lost, for ever
`)

	c = newCustomer()
	mustTake(t, c, p, order(1, start, 20_000))
	is.Recency = [4]Instant{7 * Day, 21 * Day, 45 * Day, 90 * Day}
	a.At = start + 20*Day
	out, _ = c.Adopt(a, Telling{}, nil)
	checkStory(t, &is, out, "day 20+0 rules live #2: new -> promising down first 414 trier, then about_to_sleep on day 21+1\n")
}

// What has settled under a short window cannot be added to under a longer one: the ids are forgotten.
func TestLongerWindow(t *testing.T) {
	p := defaults()
	c := newCustomer()
	mustTake(t, c, p, order(1, start, 100), order(2, start+800*Day, 100))
	is := *p
	is.Versions.Rules, is.Window = 2, 2000*Day
	a := &Adoption{Was: p, Is: &is, At: start + 801*Day, Cause: RulesCause}
	c.Adopt(a, always, nil)
	for _, old := range []Fact{order(1, start, 300), order(3, start-Day, 100)} {
		old.At = start + 802*Day
		if why := c.Refuse(&is, &old); why != TooLate {
			t.Errorf("an order from before the window is %q", why)
		}
	}
	late := order(3, start+Day, 100)
	late.At = start + 802*Day
	if why := c.Refuse(&is, &late); why != "" {
		t.Errorf("an order inside the longer window is %q", why)
	}
	if out, ok := c.take(&is, late, always, nil); !ok || c.F != 2 || c.Settled.Orders != 1 {
		t.Errorf("after it: %+v, %+v", c.Standing, out)
	}
}
