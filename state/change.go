package state

// Cause says what made a customer be looked at.
type Cause uint8

// The causes.
const (
	OrderCause  Cause = iota // an order not known before
	OrderUpdate              // a version of a known order, winning or not
	RefundCause              // a refund record
	Timer                    // silence
	RulesCause               // a new version of the rules alone
	CutsCause                // of the cuts of money
	ModelCause               // of the churn model
)

var causeNames = [...]string{"order", "order_update", "refund", "timer", "rules", "cuts", "model"}

func (c Cause) String() string { return causeNames[c] }

// Causes are the names of all causes.
func Causes() []string { return causeNames[:] }

// ChangeKind says what has changed.
type ChangeKind uint8

// The kinds of changes.
const (
	SegmentChange ChangeKind = iota
	RiskChange
)

// Change is a difference between two standings that is told.
type Change struct {
	Kind        ChangeKind
	Sequence    uint64  // of the customer's announced changes of this kind, from 1
	At          Instant // effective
	Cause       Cause
	Mode        Mode
	Was, Is     Standing
	Risk                   // after the evaluation; of a SegmentChange only the chance
	Worth       Worth      // after the evaluation
	Figures     Figures    // after the evaluation
	Next        Transition // of a SegmentChange
	ThresholdAt Instant    // when silence moves the band to Is.Threshold.Band; Never if it does not
}

// FirstTime says whether the customer was never in the new segment before.
func (c *Change) FirstTime() bool { return c.Was.Seen&(1<<c.Is.Published) == 0 }

// Direction compares the ranks of the segments before and after.
func (c *Change) Direction(rules *RuleSet) string {
	was, is := rules.Rank(c.Was.Published), rules.Rank(c.Is.Published)
	switch {
	case c.Was.Published == NoSegment:
		return "initial"
	case is > was:
		return "up"
	case is < was:
		return "down"
	}
	return "lateral"
}

// Profile is a customer's standing with the figures behind it.
type Profile struct {
	Standing
	Figures     Figures
	Next        Transition
	ThresholdAt Instant
}

// Profile is the customer as last evaluated, and where silence leads from there.
func (c *Customer) Profile(p *Parameters) Profile {
	c.tally.fill(&c.Ledger, p)
	s := c.tally.silence(p, c.EvaluatedAt)
	return Profile{c.Standing, s.figures(), s.transition(), c.thresholdAt()}
}

// next is where silence leads from the last evaluation.
func (c *Customer) next(p *Parameters) Transition {
	c.tally.fill(&c.Ledger, p)
	return c.tally.silence(p, c.EvaluatedAt).transition()
}

// Risk is the churn risk as seen at the instant now.
func (c *Customer) Risk(p *Parameters, now Instant) Risk {
	c.tally.fill(&c.Ledger, p)
	now = max(now, c.EvaluatedAt)
	return c.tally.risk(p, c.tally.raw(p, now), now)
}

// Worth is what the customer will bring in, as seen at the instant now.
func (c *Customer) Worth(p *Parameters, now Instant) Worth {
	c.tally.fill(&c.Ledger, p)
	return c.tally.worth(p, max(now, c.EvaluatedAt))
}

// Chance is the probability of no order within the horizon, as seen at the instant now; None if there is none.
func (c *Customer) Chance(p *Parameters, now Instant) Millionths {
	c.tally.fill(&c.Ledger, p)
	return c.tally.chance(p, max(now, c.EvaluatedAt))
}
