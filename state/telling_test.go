package state

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What is announced is numbered without gaps; what is not announced moves the standing all the same and takes no
// number. So the standing does not depend on the telling, and the announced changes are those of one who is told all,
// less the silent ones.
func TestTelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		facts := drawFacts(t, p, 16)
		say := Telling{
			LiveFrom:     start + Instant(uniform(t, "live from", 63)-1)*Day,
			StaleBefore:  start + Instant(uniform(t, "stale before", 63)-1)*Day,
			EmitBackfill: uniform(t, "emit", 3) == 0,
		}
		told, changes := play(p, facts, say)
		all, every := play(p, facts, Telling{EmitBackfill: true, LiveFrom: say.LiveFrom, StaleBefore: say.StaleBefore})
		if say.EmitBackfill {
			checkEqual(t, "emitted", all, told)
		}
		var sequence [2]uint64
		for _, c := range every {
			if want := modeOf(&c, facts, say); !slices.Contains(want, c.Mode) {
				t.Fatalf("mode %v, want one of %v: %+v", c.Mode, want, c)
			}
			if c.Mode == Backfill && !say.EmitBackfill {
				continue
			}
			if len(changes) == 0 {
				t.Fatalf("not told: %+v", c)
			}
			got := changes[0]
			changes = changes[1:]
			sequence[c.Kind]++
			if got.Sequence != sequence[c.Kind] {
				t.Fatalf("number %d, want %d", got.Sequence, sequence[c.Kind])
			}
			if numberless(got) != numberless(c) {
				t.Fatalf("told\n%+v\nwant\n%+v", got, c)
			}
		}
		if len(changes) > 0 {
			t.Fatalf("told too much: %+v", changes)
		}
		if told.SegmentSeq != sequence[SegmentChange] || told.RiskSeq != sequence[RiskChange] {
			t.Fatalf("last numbers %d and %d, announced %v", told.SegmentSeq, told.RiskSeq, sequence)
		}
		told.SegmentSeq, told.RiskSeq = all.SegmentSeq, all.RiskSeq
		checkEqual(t, "the standing depends on the telling", all, told)
	})
}

func numberless(c Change) Change {
	c.Sequence = 0
	c.Was.SegmentSeq, c.Was.RiskSeq, c.Is.SegmentSeq, c.Is.RiskSeq = 0, 0, 0, 0
	return c
}

// modeOf says in which modes a change can be.
func modeOf(c *Change, facts []Fact, say Telling) []Mode {
	switch {
	case c.At < say.LiveFrom, c.Cause == Timer && c.At < say.StaleBefore:
		return []Mode{Backfill}
	case c.Cause == Timer:
		return []Mode{Live}
	}
	var modes []Mode
	for _, f := range facts {
		mode := Live
		if f.Backfill {
			mode = Backfill
		}
		modes = append(modes, mode)
	}
	return modes
}

// The header of loaded history silences the evaluation of its record alone.
func TestHistory(t *testing.T) {
	p := defaults()
	p.Churn.Method = NoChurn
	c := newCustomer()
	loaded := order(2, start+100*Day, 100)
	loaded.Backfill = true
	out := mustTake(t, c, p, order(1, start, 100), loaded)
	if c.Published == NoSegment || c.Since != loaded.At || c.SegmentSeq != 3 {
		t.Errorf("standing %+v", c.Standing)
	}
	out = c.Advance(p, start+200*Day, always, out)
	checkStory(t, p, out, `day 0+0 order live #1:  -> new initial first 511 trier, then promising on day 30+1
day 30+1 timer live #2: new -> promising down first 411 trier, then about_to_sleep on day 90+1
day 90+1 timer live #3: promising -> about_to_sleep down first 311 at_risk, then hibernating on day 180+1
day 190+1 timer live #4: potential_loyalist -> about_to_sleep down 321 at_risk, then hibernating on day 280+1
`)
}

// The boundaries of what is live and what is stale are inclusive.
func TestModeBoundaries(t *testing.T) {
	say := Telling{LiveFrom: 100, StaleBefore: 200}
	for _, test := range []struct {
		at      Instant
		cause   Cause
		history bool
		want    Mode
	}{
		{99, OrderCause, false, Backfill}, {100, OrderCause, false, Live}, {100, RefundCause, true, Backfill},
		{199, Timer, false, Backfill}, {200, Timer, false, Live}, {200, Timer, true, Live}, {150, OrderUpdate, false, Live},
	} {
		if got := say.mode(test.at, test.cause, test.history); got != test.want {
			t.Errorf("at %d, %v, history %v: %v, want %v", test.at, test.cause, test.history, got, test.want)
		}
	}
	if (Telling{}).mode(0, Timer, false) != Live {
		t.Error("without a beginning not everything is live")
	}
}

// Interactions are a join: order and repetition do not matter.
func TestInteractionsCommute(t *testing.T) {
	limits := Limits{Purposes: 32}
	rapid.Check(t, func(t *rapid.T) {
		list := make([]Interaction, uniform(t, "interactions", 15))
		for i := range list {
			list[i] = Interaction{At: Instant(uniform(t, "at", 7)), Complaint: ComplaintKind(uniform(t, "complaint", 2))}
			if uniform(t, "consent", 1) == 1 {
				list[i].Purpose = []string{"email", "sms", "ümlaut"}[uniform(t, "purpose", 2)]
				list[i].Consent = ConsentStatus(uniform(t, "status", 2))
			}
		}
		var a, b Interactions
		for i := range list {
			a.Apply(&limits, &list[i])
		}
		again := rapid.Permutation(append(slices.Clone(list), list[:len(list)/2]...)).Draw(t, "order")
		for i := range again {
			b.Apply(&limits, &again[i])
		}
		if !slices.Equal(a.AppendTo(nil), b.AppendTo(nil)) {
			t.Fatalf("%+v\n%+v", a, b)
		}
		checkInteractions(t, list, &a)
	})
}

// checkInteractions compares what is kept with a look through everything that came.
func checkInteractions(t *rapid.T, list []Interaction, got *Interactions) {
	var last Instant
	complaint, resolved := Instant(-1), Instant(-1)
	consent := map[string]Consent{}
	for _, i := range list {
		last = max(last, i.At)
		switch i.Complaint {
		case Complained:
			complaint = max(complaint, i.At)
		case Resolved:
			resolved = max(resolved, i.At)
		}
		if c := consent[i.Purpose]; i.Purpose != "" && (c.Purpose == "" || i.At > c.At || i.At == c.At && i.Consent > c.Status) {
			consent[i.Purpose] = Consent{i.Purpose, i.At, i.Consent}
		}
	}
	if got.LastAt != last || got.Complaining != (complaint >= 0 && complaint >= resolved) || len(got.Consents) != len(consent) {
		t.Fatalf("kept %+v of %+v", got, list)
	}
	for _, c := range got.Consents {
		if consent[c.Purpose] != c {
			t.Fatalf("kept %+v, want %+v", c, consent[c.Purpose])
		}
	}
}
