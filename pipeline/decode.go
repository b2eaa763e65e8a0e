package pipeline

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
)

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

	quick  quick
	dec    jsontext.Decoder
	reader bytes.Buffer
	found  [fields]value
	arena  []byte // texts of found, but for those of quick
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
	if d.quick.scan(b, &d.found) {
		return nil
	}
	return d.strict(b)
}

// strict is scan without the short way.
func (d *decoder) strict(b []byte) error {
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
