package events

import (
	"strconv"

	"github.com/asiduo/asiduo/state"
)

// What the values of changes take without customer and consents, unless figures are unusually long.
const (
	moveRoom = 832
	riskRoom = 608
)

// Change is the record of a segment change or of a change of churn risk, as c says. Of the interactions, consents and
// an open complaint go into it as known now; n is nil if there are none.
func (e *Encoder) Change(customer string, c *state.Change, n *state.Interactions) Record {
	topic, kind, letter, room := e.segmentTopic, segmentType, byte('s'), moveRoom
	if c.Kind == state.RiskChange {
		topic, kind, letter, room = e.riskTopic, riskType, 'r', riskRoom
	}
	v := envelope{b: make([]byte, 0, room+len(customer)+consentRoom(n)+e.room(customer))}
	v.b = e.AppendChange(v.b, customer, c, n)
	v.value = len(v.b)
	v.b = append(v.b, customer...)
	v.key = len(v.b)
	v.b = append(v.b, e.idPrefix...)
	v.b = append(v.b, customer...)
	v.b = append(v.b, ':', letter)
	v.b = strconv.AppendUint(v.b, c.Sequence, 10)
	v.id = len(v.b)
	v.b = AppendTime(v.b, c.At)
	v.at = len(v.b)
	return v.record(e, topic, kind)
}

// AppendChange appends the value alone of the record that Change makes to b.
func (e *Encoder) AppendChange(b []byte, customer string, c *state.Change, n *state.Interactions) []byte {
	b = append(b, `{"customer_id":`...)
	b = AppendString(b, customer)
	b = append(b, `,"sequence":`...)
	b = strconv.AppendUint(b, c.Sequence, 10)
	if c.Kind == state.RiskChange {
		b = e.appendRisk(b, c)
	} else {
		b = e.appendMove(b, c)
	}
	b = append(b, `,"mode":`...)
	b = appendWord(b, c.Mode.String())
	b = appendContext(b, n)
	b = appendVersions(b, c.Is.Versions)
	return append(b, '}')
}

// appendMove appends what only a segment change says.
func (e *Encoder) appendMove(b []byte, c *state.Change) []byte {
	known := c.Was.Published != state.NoSegment
	b = append(b, `,"from":`...)
	if known {
		b = append(b, `{"segment":`...)
		b = e.appendSegment(b, c.Was.Published)
		b = append(b, `,"since":`...)
		b = appendTimeOrNull(b, c.Was.Since, true)
		b = append(appendScores(b, &c.Was), '}')
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"to":{"segment":`...)
	b = e.appendSegment(b, c.Is.Published)
	b = append(appendScores(b, &c.Is), '}')

	b = append(b, `,"transition":{"direction":`...)
	b = appendWord(b, c.Direction(e.p.Rules))
	b = append(b, `,"cause":`...)
	b = appendWord(b, c.Cause.String())
	b = append(b, `,"first_time_in_segment":`...)
	b = strconv.AppendBool(b, c.FirstTime())
	b = append(b, `,"days_in_previous":`...)
	b = appendDays(b, c.At-c.Was.Since, known)

	b = append(b, `},"lifecycle":{"from":`...)
	if known {
		b = appendWord(b, c.Was.Lifecycle.String())
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"to":`...)
	b = appendWord(b, c.Is.Lifecycle.String())
	b = append(b, '}')

	b = e.appendMetrics(b, &c.Figures)
	b = e.appendTransition(b, c.Next)
	b = e.appendWorth(b, &c.Worth)
	b = append(b, `,"churn":`...)
	if c.Chance == state.None {
		return append(b, "null"...)
	}
	b = append(b, `{"probability":`...)
	b = AppendProbability(b, c.Chance)
	b = append(b, `,"band":`...)
	b = appendBand(b, c.Is.Band)
	return append(b, '}')
}

func (e *Encoder) appendMetrics(b []byte, f *state.Figures) []byte {
	bought := f.Lifetime > 0
	b = append(b, `,"metrics":{"first_order_at":`...)
	b = appendTimeOrNull(b, f.First, bought)
	b = append(b, `,"last_order_at":`...)
	b = appendTimeOrNull(b, f.Last, bought)
	b = append(b, `,"recency_days":`...)
	b = appendDays(b, f.Idle, bought)
	b = append(b, `,"orders":`...)
	b = strconv.AppendInt(b, int64(f.Orders), 10)
	b = append(b, `,"orders_lifetime":`...)
	b = strconv.AppendInt(b, f.Lifetime, 10)
	b = append(b, `,"net_revenue":`...)
	b = e.appendMoney(b, f.Net)
	b = append(b, `,"currency":`...)
	b = append(b, e.currency...)
	return append(b, e.windowTail...)
}

// appendWorth appends what a customer will bring in, where that is told.
func (e *Encoder) appendWorth(b []byte, w *state.Worth) []byte {
	if e.valueTail == "" || !w.Known {
		return b
	}
	b = e.appendMoney(append(b, `,"value":{"clv":`...), w.Now)
	b = e.appendMoney(append(b, `,"at_risk":`...), w.AtRisk)
	b = e.appendMoney(append(b, `,"earned":`...), w.Earned)
	return append(b, e.valueTail...)
}

// appendRisk appends what only a change of churn risk says.
func (e *Encoder) appendRisk(b []byte, c *state.Change) []byte {
	b = append(b, `,"churn":{"probability":`...)
	b = AppendProbability(b, c.Chance)
	b = append(b, `,"band":`...)
	b = appendBand(b, c.Is.Band)
	b = append(b, `,"previous_probability":`...)
	b = AppendProbability(b, c.Was.Reference)
	b = append(b, `,"previous_band":`...)
	b = appendBand(b, c.Was.Band)
	if e.p.Churn.Map != nil {
		b = append(b, `,"raw_probability":`...)
		b = AppendProbability(b, c.Raw)
	}
	if c.Percentile >= 0 {
		b = append(b, `,"percentile":`...)
		b = strconv.AppendInt(b, int64(c.Percentile), 10)
	}
	b = append(b, e.horizonTail...)
	b = e.appendWorth(b, &c.Worth)

	b = append(b, `,"cause":`...)
	b = appendWord(b, c.Cause.String())
	b = append(b, `,"days_since_last_order":`...)
	b = appendDays(b, c.Figures.Idle, c.Figures.Lifetime > 0)
	b = append(b, `,"overdue":`...)
	b = AppendProbability(b, c.Overdue)
	b = append(b, `,"drivers":`...)
	b = appendDrivers(b, &c.Risk)
	b = append(b, `,"segment":`...)
	b = e.appendSegment(b, c.Is.Published)
	b = append(b, `,"lifecycle":`...)
	b = appendWord(b, c.Is.Lifecycle.String())
	return appendThreshold(b, c.Is.Threshold.Band, c.ThresholdAt)
}

// appendDrivers appends what the probability is made of.
func appendDrivers(b []byte, r *state.Risk) []byte {
	if r.Chance == state.None {
		return append(b, "null"...)
	}
	b = append(b, `{"base":`...)
	b = AppendProbability(b, r.Drivers.Base)
	b = append(b, `,"rhythm":`...)
	rhythm := r.Drivers.Rhythm
	if rhythm < 0 {
		b = append(b, '-')
	}
	b = AppendProbability(b, max(rhythm, -rhythm))
	b = append(b, `,"silence":`...)
	b = AppendProbability(b, r.Drivers.Silence)
	return append(b, '}')
}

// appendDays appends the whole days of a span.
func appendDays(b []byte, span state.Instant, known bool) []byte {
	if !known {
		return append(b, "null"...)
	}
	return strconv.AppendInt(b, int64(span/state.Day), 10)
}
