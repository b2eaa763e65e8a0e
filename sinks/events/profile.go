package events

import (
	"hash/crc64"
	"strconv"

	"github.com/asiduo/asiduo/state"
)

// profileRoom is what the value of a profile takes without customer and consents, unless figures are unusually long.
const profileRoom = 736

var digests = crc64.MakeTable(crc64.ECMA)

// Profile is the record of where a customer stands, as of the last evaluation: c is nil if only interactions are
// known, n is nil if none are. The event's time is that of the evaluation or of the last interaction, whichever is
// later; its id is made of the content, so equal profiles have equal ids. It rebuilds the figures inside c and changes
// nothing else of it.
func (e *Encoder) Profile(customer string, c *state.Customer, n *state.Interactions) Record {
	v := envelope{b: make([]byte, 0, profileRoom+len(customer)+consentRoom(n)+e.room(customer))}
	v.b = e.AppendProfile(v.b, customer, c, n)
	v.value = len(v.b)
	v.b = append(v.b, customer...)
	v.key = len(v.b)
	v.b = append(v.b, e.idPrefix...)
	v.b = append(v.b, customer...)
	v.b = append(v.b, ":p"...)
	for digest, shift := crc64.Checksum(v.b[:v.value], digests), 60; shift >= 0; shift -= 4 {
		v.b = append(v.b, hex[digest>>shift&15])
	}
	v.id = len(v.b)
	var at state.Instant
	if c != nil && c.Evaluated {
		at = c.EvaluatedAt
	}
	if n != nil {
		at = max(at, n.LastAt)
	}
	v.b = AppendTime(v.b, at)
	v.at = len(v.b)
	return v.record(e, e.profileTopic, profileType)
}

// nobody is the profile of a customer of whom no order or refund has been seen.
var nobody = state.Profile{
	Standing:    state.Standing{Band: state.NoBand, Reference: state.None},
	Next:        state.Transition{At: state.Never},
	ThresholdAt: state.Never,
}

// AppendProfile appends the value alone of the record that Profile makes to b.
func (e *Encoder) AppendProfile(b []byte, customer string, c *state.Customer, n *state.Interactions) []byte {
	p, evaluated, at := nobody, c != nil && c.Evaluated, state.Instant(0)
	if evaluated {
		p, at = c.Profile(e.p), c.EvaluatedAt
	}
	b = append(b, `{"customer_id":`...)
	b = AppendString(b, customer)
	b = append(b, `,"segment_sequence":`...)
	b = strconv.AppendUint(b, p.SegmentSeq, 10)
	b = append(b, `,"risk_sequence":`...)
	b = strconv.AppendUint(b, p.RiskSeq, 10)
	b = append(b, `,"as_of":`...)
	b = appendTimeOrNull(b, at, evaluated)
	b = append(b, `,"segment":`...)
	b = e.appendSegment(b, p.Published)
	b = append(b, `,"since":`...)
	b = appendTimeOrNull(b, p.Since, p.Published != state.NoSegment)
	b = appendScores(b, &p.Standing)
	b = append(b, `,"lifecycle":`...)
	b = appendWord(b, p.Lifecycle.String())
	b = append(b, `,"churn_band":`...)
	b = appendBand(b, p.Band)
	b = append(b, `,"churn_reference":`...)
	b = AppendProbability(b, p.Reference)
	b = e.appendTotals(b, &p.Figures)
	b = append(b, `,"last_interaction_at":`...)
	b = appendTimeOrNull(b, lastInteraction(n), n != nil && n.LastAt > 0)
	b = appendContext(b, n)
	b = e.appendTransition(b, p.Next)
	b = appendThreshold(b, p.Threshold.Band, p.ThresholdAt)
	b = append(b, `,"truncated":`...)
	b = strconv.AppendBool(b, (c != nil && c.Truncated) || (n != nil && n.Truncated))
	if evaluated {
		b = appendVersions(b, p.Versions)
	} else {
		b = append(b, `,"versions":null`...)
	}
	return append(b, '}')
}

func lastInteraction(n *state.Interactions) state.Instant {
	if n == nil {
		return 0
	}
	return n.LastAt
}

// appendTotals appends the figures, those of the window and those of all time.
func (e *Encoder) appendTotals(b []byte, f *state.Figures) []byte {
	bought := f.Lifetime > 0
	b = append(b, `,"first_order_at":`...)
	b = appendTimeOrNull(b, f.First, bought)
	b = append(b, `,"last_order_at":`...)
	b = appendTimeOrNull(b, f.Last, bought)
	b = append(b, `,"orders":`...)
	b = strconv.AppendInt(b, int64(f.Orders), 10)
	b = append(b, `,"orders_lifetime":`...)
	b = strconv.AppendInt(b, f.Lifetime, 10)
	b = append(b, `,"net_revenue":`...)
	b = e.appendMoney(b, f.Net)
	b = append(b, `,"net_revenue_lifetime":`...)
	b = e.appendMoney(b, f.LifetimeNet)
	b = append(b, `,"currency":`...)
	return append(b, e.currency...)
}
