package pipeline

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
)

// reason says why a record cannot be used (semantics 3.4). Limits of the domain are reasons too.
type reason string

const (
	tooLarge        reason = "too_large"
	undecodable     reason = "undecodable"
	missingField    reason = "missing_field"
	emptyOrderID    reason = "empty_order_id"
	badField        reason = "bad_field"
	keyMismatch     reason = "key_mismatch"
	badTime         reason = "bad_time"
	futureTime      reason = "future_time"
	unknownCurrency reason = "unknown_currency"
	badAmount       reason = "bad_amount"
	negativeTotal   reason = "negative_total"
	misrouted       reason = "misrouted"
	purposeTooLong  reason = "consent_purpose_bytes"
	unprocessable   reason = "unprocessable"
)

// reasons are all of them, for metrics.
var reasons = []reason{
	tooLarge, undecodable, missingField, emptyOrderID, badField, keyMismatch, badTime, futureTime, unknownCurrency, badAmount,
	negativeTotal, misrouted, purposeTooLong, unprocessable, reason(state.TooLate), reason(state.TooManyOrders),
	reason(state.TooManyRefund), reason(state.TooManyTopics),
}

// maxPurposeBytes keeps what is stored of one consent small.
const maxPurposeBytes = 256

// reject is a record that cannot be used. The detail is a sentence without personal data.
type reject struct {
	reason reason
	detail string
}

func rejectf(r reason, format string, args ...any) *reject {
	return &reject{r, fmt.Sprintf(format, args...)}
}

// role is which input a record comes from.
type role uint8

const (
	purchases role = iota
	interactions
)

// field is the place of a known field in a record.
type field uint8

const (
	fType field = iota
	fID
	fOrderID
	fCustomerID
	fRefundID
	fOrderedAt
	fUpdatedAt
	fRefundedAt
	fAt
	fAmount
	fRefunded
	fCurrency
	fStatus
	fRevision
	fTest
	fFX
	fProperties
	fRate
	fBase
	fPurpose
	fConsent
	fields
)

var fieldNames = [fields]string{
	"type", "id", "order_id", "customer_id", "refund_id", "ordered_at", "updated_at", "refunded_at", "at", "amount", "refunded",
	"currency", "status", "revision", "test", "fx", "properties", "fx.rate", "fx.base_currency", "properties.purpose",
	"properties.status",
}

// value is one field as found: its JSON kind, and the text of a string or number. The zero value is absence, null too.
type value struct {
	kind jsontext.Kind
	text []byte
}

func (v value) absent() bool     { return v.kind == 0 }
func (v value) isString() bool   { return v.kind == '"' }
func (v value) hasID() bool      { return v.isString() && len(v.text) <= 256 }
func (v value) isDecimal() bool  { return v.isString() || v.kind == '0' }
func (v value) isEmptyStr() bool { return v.isString() && len(v.text) == 0 }

// decoder turns records into facts. It is used by one goroutine and keeps its buffers.
type decoder struct {
	currency    string
	minorDigits int
	zone        *time.Location
	payloadTime bool
	maxBytes    int
	future      state.Instant // a time may be this much later than the record's timestamp
	maxFuture   state.Instant // a timestamp may be this much later than now

	dec    jsontext.Decoder
	reader bytes.Buffer
	found  [fields]value
	arena  []byte // texts of found
}

// decode checks a record in the order of semantics 3.4 and fills f. Without known time, timestamps are not compared
// with it.
func (d *decoder) decode(from role, r *kgo.Record, now state.Instant, timeKnown bool, f *state.Fact) *reject {
	if len(r.Value) > d.maxBytes {
		return rejectf(tooLarge, "the value has %d bytes, at most %d are accepted", len(r.Value), d.maxBytes)
	}
	if r.Value == nil {
		return rejectf(undecodable, "the record has no value")
	}
	if err := d.scan(r.Value); err != nil {
		return rejectf(undecodable, "the value is not one JSON object: %v", position(err))
	}
	*f = state.Fact{Kind: state.InteractionFact, Backfill: isBackfill(r)}
	if from == purchases {
		switch t := d.found[fType]; {
		case t.absent(), t.isString() && string(t.text) == "order":
			f.Kind = state.OrderFact
		case t.isString() && string(t.text) == "refund":
			f.Kind = state.RefundFact
		default:
			return rejectf(badField, "type is neither \"order\" nor \"refund\"")
		}
	}
	if bad := d.checkFields(f.Kind); bad != nil {
		return bad
	}
	if r.Key == nil || !bytes.Equal(r.Key, d.found[fCustomerID].text) {
		return rejectf(keyMismatch, "the record's key is not its customer_id")
	}
	f.Customer = string(r.Key)
	return d.convert(r, now, timeKnown, f)
}

func isBackfill(r *kgo.Record) bool {
	for _, h := range r.Headers {
		if h.Key == "asiduo-mode" && string(h.Value) == "backfill" {
			return true
		}
	}
	return false
}

// position keeps of a syntax error what is no personal data: its kind and place. A bad escape is reported with what
// follows it in the string, which is cut off.
func position(err error) string {
	e, ok := err.(*jsontext.SyntacticError)
	if !ok || e.Err == nil {
		return err.Error()
	}
	what := e.Err.Error()
	for _, kind := range []string{"invalid escape sequence", "invalid surrogate pair"} {
		if strings.HasPrefix(what, kind) {
			what = kind
		}
	}
	return fmt.Sprintf("%s at byte %d", what, e.ByteOffset)
}

// scan reads the known fields of one object, checking the whole of it.
func (d *decoder) scan(b []byte) error {
	d.found = [fields]value{}
	d.arena = d.arena[:0]
	d.reader = *bytes.NewBuffer(b)
	d.dec.Reset(&d.reader)
	if d.dec.PeekKind() != '{' {
		switch _, err := d.dec.ReadValue(); err {
		case io.EOF:
			return fmt.Errorf("it is empty")
		case nil:
			return fmt.Errorf("it is another JSON value")
		default:
			return err
		}
	}
	if err := d.object(topLevel); err != nil {
		return err
	}
	switch _, err := d.dec.ReadToken(); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("something follows the object")
	default:
		return err
	}
}

// topLevel, inFX and inProperties are the fields of an object by name.
func topLevel(name []byte) (field, bool) {
	for f := fType; f <= fProperties; f++ {
		if fieldNames[f] == string(name) {
			return f, true
		}
	}
	return 0, false
}

func inFX(name []byte) (field, bool) {
	switch string(name) {
	case "rate":
		return fRate, true
	case "base_currency":
		return fBase, true
	}
	return 0, false
}

func inProperties(name []byte) (field, bool) {
	switch string(name) {
	case "purpose":
		return fPurpose, true
	case "status":
		return fConsent, true
	}
	return 0, false
}

func (d *decoder) object(known func([]byte) (field, bool)) error {
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for d.dec.PeekKind() != '}' {
		name, err := d.dec.ReadValue()
		if err != nil {
			return err
		}
		f, ok := known(name[1 : len(name)-1])
		if !ok && bytes.IndexByte(name, '\\') >= 0 {
			plain, err := jsontext.AppendUnquote(nil, name)
			if err != nil {
				return err
			}
			f, ok = known(plain)
		}
		if !ok {
			if err := d.dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		if err := d.member(f); err != nil {
			return err
		}
	}
	_, err := d.dec.ReadToken()
	return err
}

func (d *decoder) member(f field) error {
	if d.dec.PeekKind() == '{' && (f == fFX || f == fProperties) {
		d.found[f].kind = '{'
		if f == fFX {
			return d.object(inFX)
		}
		return d.object(inProperties)
	}
	v, err := d.dec.ReadValue()
	if err != nil {
		return err
	}
	kind, start := v.Kind(), len(d.arena)
	switch kind {
	case 'n':
		return nil
	case '"':
		if d.arena, err = jsontext.AppendUnquote(d.arena, v); err != nil {
			return err
		}
	case '0':
		d.arena = append(d.arena, v...)
	}
	d.found[f] = value{kind, d.arena[start:len(d.arena):len(d.arena)]}
	return nil
}

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
		if at[i] > stamp+d.future {
			return rejectf(futureTime, "%s is more than %v later than the record's timestamp", fieldNames[name], time.Duration(d.future)*time.Millisecond)
		}
		at[i] = min(at[i], stamp)
	}
	if timeKnown && stamp > now+d.maxFuture {
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
