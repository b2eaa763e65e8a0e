package state

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/state/model"
)

// A calibrated probability rises with the raw one, and is the raw one where there is no map. What is published is what was
// judged: the band, and the raw probability beside it.
func TestCalibratedChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		a, b := Millionths(rapid.IntRange(0, int(One)).Draw(t, "p")), Millionths(rapid.IntRange(0, int(One)).Draw(t, "q"))
		qa, qb := p.Churn.calibrated(a), p.Churn.calibrated(b)
		if a <= b && qa > qb || qa < 0 || qa > One || p.Churn.Map == nil && qa != a || p.Churn.calibrated(None) != None {
			t.Fatalf("%d becomes %d, %d becomes %d", a, qa, b, qb)
		}
		facts := drawFacts(t, p, 16)
		c, told := play(p, facts, always)
		told = c.Advance(p, c.EvaluatedAt+400*Day, always, told)
		for _, change := range told {
			if change.Kind != RiskChange {
				continue
			}
			if change.Chance != p.Churn.calibrated(change.Raw) || change.Is.Band != p.Churn.band(change.Was.Band, change.Chance) ||
				change.Is.Reference != change.Chance {
				t.Fatalf("raw %d, published %d: %+v", change.Raw, change.Chance, change.Is)
			}
		}
		if r := c.Risk(p, c.EvaluatedAt); r.Chance != c.Chance(p, c.EvaluatedAt) || r.Chance != p.Churn.calibrated(r.Raw) {
			t.Fatal("the customer's own figures do not belong together")
		}
	})
}

func TestPercentile(t *testing.T) {
	var scores []model.Score
	for i := range int32(200) {
		scores = append(scores, model.Score{Orders: 1, Probability: i * 1000})
	}
	c := Churn{Ranks: model.LearnPercentiles(scores)}
	for p, want := range map[Millionths]int{0: 0, 1_000: 1, 99_000: 50, 198_999: 99, 199_000: 100, One: 100} {
		if got := c.Percentile(p, 3); got != want {
			t.Errorf("%d is at %d %%, want %d", p, got, want)
		}
	}
	if c.Percentile(None, 1) != -1 {
		t.Error("nobody has a percentile")
	}
	if (&Churn{}).Percentile(1, 1) != -1 {
		t.Error("a percentile without a table")
	}
}
