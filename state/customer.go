package state

// Customer is everything known about one customer but interactions. Reset makes it a new one, Decode a known one; it may
// be used for one after the other and keeps its buffers.
type Customer struct {
	Ledger
	Standing
	// EvaluatedAt is the instant up to which everything has been played; meaningful once Evaluated.
	EvaluatedAt Instant
	Evaluated   bool
	// Due is the next instant at which silence changes something, Never if there is none.
	Due Instant

	tally   tally  // of the facts as they are now; rebuilt before each evaluation
	scratch []byte // of Adopt
}

// Standing is where a customer stands: a function of the facts at every instant the customer was evaluated at, and of
// the standing before.
type Standing struct {
	Published  Segment // the last segment, told or silently entered; NoSegment before the first counted order
	Since      Instant // when it was entered
	Seen       uint32  // one bit for each segment ever published
	R, F, M    uint8   // 0 without a counted order; F and M also 0 when none is left in the window
	Lifecycle  Lifecycle
	Band       Band
	Reference  Millionths // probability last told, or that would have been; None if there was none
	SegmentSeq uint64     // last announced numbers
	RiskSeq    uint64
	Threshold  Threshold
	Versions   Versions
}

// Threshold is when silence alone moves the band.
type Threshold struct {
	Days int // days after the last order; 0: never
	Band Band
}

// Reset makes c a new customer and keeps its buffers.
func (c *Customer) Reset() {
	*c = Customer{
		Ledger:   Ledger{Orders: c.Orders[:0], Refunds: c.Refunds[:0]},
		Standing: Standing{Band: NoBand, Reference: None},
		Due:      Never,
		tally:    tally{window: c.tally.window[:0]},
		scratch:  c.scratch,
	}
}

// Advance plays silence up to and including the instant to, each change at its own instant, in time order, and
// appends what is to be announced.
func (c *Customer) Advance(p *Parameters, to Instant, say Telling, out []Change) []Change {
	for c.Evaluated && c.Due <= to {
		at := c.Due
		c.settle(at, p.Window)
		out = c.evaluate(p, at, Timer, false, say, out)
	}
	return out
}

// Refuse says why an order or refund cannot be taken, or returns the empty Refusal. It changes nothing.
func (c *Customer) Refuse(p *Parameters, f *Fact) Refusal {
	now := f.At
	if c.Evaluated {
		now = max(now, c.EvaluatedAt)
	}
	// After a change to a longer window, orders inside of it may have settled already: nothing can be added before them.
	if now-f.placed() > p.Window || (c.Settled.Orders > 0 && f.placed() <= c.Settled.Last) {
		return TooLate
	}
	return c.full(&p.Limits, f, now, p.Window)
}

// Apply takes an order or refund that was not refused, to which the customer has been advanced, and evaluates. The
// effective instant is the record's, or the customer's if that is later: then the record is a correction.
func (c *Customer) Apply(p *Parameters, f *Fact, say Telling, out []Change) []Change {
	at := f.At
	if c.Evaluated {
		at = max(at, c.EvaluatedAt)
	}
	c.settle(at, p.Window)
	cause := RefundCause
	if f.Kind == RefundFact {
		c.addRefund(f.Refund)
	} else {
		cause = c.addOrder(f.Order)
	}
	return c.evaluate(p, at, cause, f.Backfill, say, out)
}

// evaluate computes everything at t, moves the standing there, and appends what is to be announced: at most one change
// of each kind, the segment first (semantics 7).
func (c *Customer) evaluate(p *Parameters, t Instant, cause Cause, history bool, say Telling, out []Change) []Change {
	c.EvaluatedAt, c.Evaluated = t, true
	c.tally.fill(&c.Ledger, p)
	was, is := c.Standing, &c.Standing
	s := c.tally.silence(p, t)
	scores := s.scores()
	is.R, is.F, is.M, is.Lifecycle, is.Versions = scores.R, scores.F, scores.M, scores.Lifecycle, p.Versions

	mode := say.mode(t, cause, history)
	told := mode == Live || say.EmitBackfill
	moved := scores.Segment != was.Published && (was.Published != NoSegment || scores.Segment != Prospect)
	if moved {
		is.Published, is.Since = scores.Segment, t
		is.Seen |= 1 << scores.Segment
		if told {
			is.SegmentSeq++
		}
	}
	raw := c.tally.raw(p, t)
	chance := p.Churn.calibrated(raw)
	is.Band = p.Churn.band(was.Band, chance)
	risked := is.Band != was.Band || p.Churn.jumped(was.Reference, chance)
	if risked {
		is.Reference = chance
		if told {
			is.RiskSeq++
		}
	}
	is.Threshold = c.tally.threshold(p, t, is.Band)
	c.Due = c.nextDue(p, s)

	if told && (moved || risked) {
		change := Change{
			At: t, Cause: cause, Mode: mode, Was: was, Is: *is, Risk: Risk{Chance: chance}, Worth: c.tally.worth(p, t),
			Figures: s.figures(), ThresholdAt: c.thresholdAt(),
		}
		if moved {
			change.Kind, change.Sequence = SegmentChange, is.SegmentSeq
			change.Next = s.transition()
			out = append(out, change)
		}
		if risked {
			change.Kind, change.Sequence = RiskChange, is.RiskSeq
			change.Risk = c.tally.risk(p, raw, t)
			out = append(out, change)
		}
	}
	return out
}

// nextDue is the first instant after the evaluation at which silence changes scores, lifecycle or band, or moves the
// probability far enough from its reference.
func (c *Customer) nextDue(p *Parameters, s silence) Instant {
	due := Never
	for here := s.scores(); s.step(); {
		if s.scores() != here {
			due = s.now
			break
		}
	}
	if at := c.tally.churnDue(p, c.EvaluatedAt, due, &c.Standing); at < due {
		due = at
	}
	return due
}

func (c *Customer) thresholdAt() Instant {
	if c.Threshold.Days == 0 {
		return Never
	}
	return c.tally.last + Instant(c.Threshold.Days)*Day
}
