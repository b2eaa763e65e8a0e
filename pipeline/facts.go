package pipeline

import (
	"math"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
)

var required = [...][]field{
	state.OrderFact:       {fOrderID, fCustomerID, fOrderedAt, fAmount, fCurrency},
	state.RefundFact:      {fOrderID, fCustomerID, fRefundID, fRefundedAt, fAmount, fCurrency},
	state.InteractionFact: {fID, fCustomerID, fType, fAt},
}

// checkFields does checks 4 to 6: presence, then types and domains, times and decimals excepted.
func (d *decoder) checkFields(kind state.Kind) *reject {
	v := &d.found
	emptyOrder := false
	for _, f := range required[kind] {
		if v[f].absent() || v[f].isEmptyStr() {
			if f == fOrderID && v[f].isEmptyStr() {
				emptyOrder = true
				continue
			}
			return rejectf(missingField, "%s is missing", fieldNames[f])
		}
	}
	if emptyOrder {
		return rejectf(emptyOrderID, "order_id is empty")
	}
	ids := required[kind][:2] // order_id or id, and customer_id
	for _, f := range ids {
		if !v[f].hasID() {
			return rejectf(badField, "%s is not a string of 1 to 256 bytes", fieldNames[f])
		}
	}
	if kind == state.InteractionFact {
		return d.checkInteraction()
	}
	if kind == state.RefundFact && !v[fRefundID].hasID() {
		return rejectf(badField, "refund_id is not a string of 1 to 256 bytes")
	}
	if !v[fCurrency].isString() {
		return rejectf(badField, "currency is not a string")
	}
	if fx := v[fFX]; !fx.absent() && fx.kind != '{' {
		return rejectf(badField, "fx is not an object")
	}
	if kind == state.RefundFact {
		return nil
	}
	if s := v[fStatus]; !s.absent() {
		if _, ok := state.ParseStatus(string(s.text)); !ok || !s.isString() {
			return rejectf(badField, "status is not one of pending, paid, completed, partially_refunded, refunded, cancelled, voided")
		}
	}
	if r := v[fRevision]; !r.absent() {
		if _, ok := revision(r); !ok {
			return rejectf(badField, "revision is not a whole number from 0 to %d", math.MaxInt64)
		}
	}
	if t := v[fTest]; !t.absent() && t.kind != 't' && t.kind != 'f' {
		return rejectf(badField, "test is neither true nor false")
	}
	return nil
}

func (d *decoder) checkInteraction() *reject {
	v := &d.found
	if !v[fType].hasID() {
		return rejectf(badField, "type is not a string of 1 to 256 bytes")
	}
	if string(v[fType].text) != "consent" {
		return nil
	}
	if v[fProperties].kind != '{' {
		return rejectf(badField, "properties of a consent is not an object")
	}
	if p := v[fPurpose]; !p.isString() || len(p.text) == 0 {
		return rejectf(badField, "properties.purpose of a consent is not a string")
	}
	if _, ok := state.ParseConsent(string(v[fConsent].text)); !ok || !v[fConsent].isString() {
		return rejectf(badField, "properties.status of a consent is not one of granted, denied, revoked")
	}
	return nil
}

func revision(v value) (int64, bool) {
	if v.kind != '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(v.text), 10, 64)
	return n, err == nil && v.text[0] != '-'
}

// convert does checks 8 to 12 and fills the fact.
func (d *decoder) convert(r *kgo.Record, now state.Instant, timeKnown bool, f *state.Fact) *reject {
	stamp := state.Instant(r.Timestamp.UnixMilli())
	v := &d.found
	var times []field
	switch f.Kind {
	case state.OrderFact:
		times = []field{fOrderedAt, fUpdatedAt}
	case state.RefundFact:
		times = []field{fRefundedAt}
	default:
		times = []field{fAt}
	}
	var at [2]state.Instant
	for i, name := range times {
		if v[name].absent() {
			at[i] = -1
			continue
		}
		t, ok := parseTime(v[name].text)
		if !ok || !v[name].isString() {
			return rejectf(badTime, "%s is not a time such as 2024-05-01T10:00:00Z", fieldNames[name])
		}
		at[i] = t
	}
	for i, name := range times {
		if at[i]-d.future > stamp { // a stamp may be anything; sums of it may not be
			return rejectf(futureTime, "%s is more than %v later than the record's timestamp", fieldNames[name], time.Duration(d.future)*time.Millisecond)
		}
		at[i] = min(at[i], stamp)
	}
	if stamp < 0 {
		return rejectf(badTime, "the record has no timestamp, or one before 1970")
	}
	if timeKnown && stamp-d.maxFuture > now {
		return rejectf(futureTime, "the record's timestamp is more than %v later than now", time.Duration(d.maxFuture)*time.Millisecond)
	}
	f.At = stamp
	if f.Kind == state.InteractionFact {
		return d.interaction(at[0], f)
	}
	if d.payloadTime {
		f.At = max(at[0], at[1])
	}
	amount, refunded, bad := d.money(f.Kind)
	if bad != nil {
		return bad
	}
	order := xxhash.Sum64(v[fOrderID].text)
	if f.Kind == state.RefundFact {
		f.Refund = state.Refund{Order: order, ID: xxhash.Sum64(v[fRefundID].text), At: at[0], Amount: amount}
		if d.payloadTime {
			f.At = at[0]
		}
		return nil
	}
	if at[1] < 0 {
		at[1] = stamp
	}
	o := &f.Order
	*o = state.Order{
		ID: order, UpdatedAt: at[1], Status: state.Completed, Refunded: refunded, Amount: amount,
		OrderedAt: at[0], Test: v[fTest].kind == 't', Day: calendarDay(at[0], d.zone),
	}
	if !v[fStatus].absent() {
		o.Status, _ = state.ParseStatus(string(v[fStatus].text))
	}
	if !v[fRevision].absent() {
		o.Revision, _ = revision(v[fRevision])
	}
	return nil
}

func (d *decoder) interaction(at state.Instant, f *state.Fact) *reject {
	f.Interaction.At = at
	switch string(d.found[fType].text) {
	case "complaint":
		f.Interaction.Complaint = state.Complained
	case "complaint_resolved":
		f.Interaction.Complaint = state.Resolved
	case "consent":
		if n := len(d.found[fPurpose].text); n > maxPurposeBytes {
			return rejectf(purposeTooLong, "properties.purpose has %d bytes, at most %d are accepted", n, maxPurposeBytes)
		}
		f.Interaction.Purpose = string(d.found[fPurpose].text)
		f.Interaction.Consent, _ = state.ParseConsent(string(d.found[fConsent].text))
	}
	return nil
}

// money does checks 10 to 12: amount and refunded in minor units of the pipeline's currency.
func (d *decoder) money(kind state.Kind) (amount, refunded state.Money, bad *reject) {
	v := &d.found
	var rate *decimal
	if c := v[fCurrency].text; string(c) != d.currency {
		switch {
		case !isCurrency(c):
			return 0, 0, rejectf(unknownCurrency, "currency is not three letters A to Z")
		case v[fRate].absent():
			return 0, 0, rejectf(unknownCurrency, "currency %s is not the pipeline's (%s) and fx.rate is missing", c, d.currency)
		case !v[fBase].absent() && (!v[fBase].isString() || string(v[fBase].text) != d.currency):
			return 0, 0, rejectf(unknownCurrency, "fx.base_currency is not the pipeline's (%s)", d.currency)
		}
		r, ok := parseDecimal(v[fRate].text)
		if !ok || !v[fRate].isDecimal() || r.neg || r.zero() {
			return 0, 0, rejectf(badAmount, "fx.rate is not a decimal above 0")
		}
		rate = &r
	}
	amounts := [2]state.Money{}
	for i, name := range []field{fAmount, fRefunded} {
		if name == fRefunded && (kind != state.OrderFact || v[name].absent()) {
			continue
		}
		n, ok := parseDecimal(v[name].text)
		if !ok || !v[name].isDecimal() {
			return 0, 0, rejectf(badAmount, "%s is not a decimal such as 12.50", fieldNames[name])
		}
		if kind == state.RefundFact && (n.neg || n.zero()) {
			return 0, 0, rejectf(badAmount, "the amount of a refund is not above 0")
		}
		if name == fRefunded && n.neg && !n.zero() {
			return 0, 0, rejectf(badAmount, "refunded is below 0")
		}
		if amounts[i], ok = n.minor(rate, d.minorDigits); !ok {
			return 0, 0, rejectf(badAmount, "%s is too big", fieldNames[name])
		}
	}
	if amounts[0] < 0 {
		return 0, 0, rejectf(negativeTotal, "the amount of the order is below 0")
	}
	return amounts[0], amounts[1], nil
}

func isCurrency(b []byte) bool {
	if len(b) != 3 {
		return false
	}
	for _, c := range b {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}
