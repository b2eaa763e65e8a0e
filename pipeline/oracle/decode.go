package oracle

import (
	"bytes"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// purchase is an accepted order or refund record.
type purchase struct {
	refund   bool
	customer string
	order    string
	refundID string
	at       int64 // ordered_at or refunded_at, clamped
	updated  int64
	status   int // rank of 4.2
	revision int64
	test     bool
	amount   int64
	refunded int64
	instant  int64 // t of 1.2
	backfill bool
}

// interaction is an accepted interaction record.
type interaction struct {
	customer string
	kind     string
	at       int64
	purpose  string
	status   string
}

// statuses are in the order of their rank (4.2).
var statuses = []string{"pending", "paid", "completed", "partially_refunded", "refunded", "cancelled", "voided"}

var (
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
	revisionForm = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
)

// object is a decoded JSON object; members that are null are left out (3.1).
type object map[string]jsontext.Value

func parseObject(value []byte) (object, bool) {
	dec := jsontext.NewDecoder(bytes.NewReader(value))
	start, err := dec.ReadToken()
	if err != nil || start.Kind() != '{' {
		return nil, false
	}
	o := object{}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, false
		}
		key := name.String()
		member, err := dec.ReadValue()
		if err != nil {
			return nil, false
		}
		if member.Kind() != 'n' {
			o[key] = slices.Clone(member)
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, false
	}
	_, err = dec.ReadToken()
	return o, err == io.EOF
}

// text returns a member that is a string.
func (o object) text(name string) (string, bool) {
	v, there := o[name]
	if !there || v.Kind() != '"' {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

// decimal returns a member that is a decimal of 3.3.
func (o object) decimal(name string) (*big.Rat, bool) {
	if v, there := o[name]; there && v.Kind() == '0' {
		return parseDecimal(string(v))
	}
	s, _ := o.text(name)
	return parseDecimal(s)
}

// isID reports whether a member is a string of 1 to 256 bytes.
func (o object) isID(name string) bool {
	s, ok := o.text(name)
	return ok && s != "" && len(s) <= 256
}

// open does checks 1 and 2.
func (p *plan) open(r Record) (object, string) {
	if len(r.Value) > p.Limits.MaxRecordBytes {
		return nil, "too_large"
	}
	if r.Value == nil {
		return nil, "undecodable"
	}
	o, ok := parseObject(r.Value)
	if !ok {
		return nil, "undecodable"
	}
	return o, ""
}

// missing does checks 4 and 5.
func (o object) missing(required ...string) string {
	emptyOrder := false
	for _, name := range required {
		v, there := o[name]
		switch s, isText := o.text(name); {
		case !there || v.Kind() == 'n':
			return "missing_field"
		case isText && s == "" && name == "order_id":
			emptyOrder = true
		case isText && s == "":
			return "missing_field"
		}
	}
	if emptyOrder {
		return "empty_order_id"
	}
	return ""
}

// times does checks 8 and 9 and clamps (3.5); absent fields are left out.
func (p *plan) times(r Record, o object, names ...string) (map[string]int64, string) {
	at := map[string]int64{}
	for _, name := range names {
		if _, there := o[name]; !there {
			continue
		}
		s, _ := o.text(name)
		t, ok := parseTime(s)
		if !ok {
			return nil, "bad_time"
		}
		at[name] = t
	}
	for name, t := range at {
		if t > r.Timestamp+p.Limits.FutureHours*3_600_000 {
			return nil, "future_time"
		}
		at[name] = min(t, r.Timestamp)
	}
	return at, ""
}

// readPurchase does checks 1 to 12.
func (p *plan) readPurchase(r Record) (purchase, string) {
	o, reason := p.open(r)
	if reason != "" {
		return purchase{}, reason
	}
	kind := "order"
	if _, there := o["type"]; there {
		kind, _ = o.text("type")
	}
	var v purchase
	var timeNames []string
	switch kind {
	case "order":
		reason = o.missing("order_id", "customer_id", "ordered_at", "amount", "currency")
		timeNames = []string{"ordered_at", "updated_at"}
	case "refund":
		reason = o.missing("order_id", "customer_id", "refund_id", "refunded_at", "amount", "currency")
		timeNames = []string{"refunded_at"}
		v.refund = true
	default:
		reason = "bad_field"
	}
	if reason != "" {
		return purchase{}, reason
	}
	if !p.readFields(o, &v) {
		return purchase{}, "bad_field"
	}
	if r.Key == nil || string(r.Key) != v.customer {
		return purchase{}, "key_mismatch"
	}
	at, reason := p.times(r, o, timeNames...)
	if reason != "" {
		return purchase{}, reason
	}
	v.at, v.instant = at[timeNames[0]], r.Timestamp
	v.updated = r.Timestamp
	if updated, there := at["updated_at"]; there {
		v.updated = updated
	}
	if p.EventTime == "payload" {
		v.instant = max(at["ordered_at"], at["updated_at"], at["refunded_at"])
	}
	v.backfill = r.Headers["asiduo-mode"] == "backfill"
	return v, p.readMoney(o, &v)
}

// readFields does check 6; times and decimals have their own.
func (p *plan) readFields(o object, v *purchase) bool {
	if !o.isID("order_id") || !o.isID("customer_id") || v.refund && !o.isID("refund_id") {
		return false
	}
	v.order, _ = o.text("order_id")
	v.customer, _ = o.text("customer_id")
	v.refundID, _ = o.text("refund_id")
	if _, ok := o.text("currency"); !ok {
		return false
	}
	if fx, there := o["fx"]; there && fx.Kind() != '{' {
		return false
	}
	if v.refund {
		return true
	}
	v.status = slices.Index(statuses, "completed")
	if _, there := o["status"]; there {
		s, ok := o.text("status")
		if v.status = slices.Index(statuses, s); !ok || v.status < 0 {
			return false
		}
	}
	if revision, there := o["revision"]; there {
		if !revisionForm.Match(revision) {
			return false
		}
		n, err := strconv.ParseInt(string(revision), 10, 64)
		if err != nil {
			return false
		}
		v.revision = n
	}
	if test, there := o["test"]; there {
		if test.Kind() != 't' && test.Kind() != 'f' {
			return false
		}
		v.test = test.Kind() == 't'
	}
	return true
}

// readMoney does checks 10 to 12.
func (p *plan) readMoney(o object, v *purchase) string {
	rate := big.NewRat(1, 1)
	if currency, _ := o.text("currency"); currency != p.Currency {
		fx, _ := parseObject(o["fx"])
		if _, there := fx["rate"]; !there || !currencyForm.MatchString(currency) {
			return "unknown_currency"
		}
		if _, there := fx["base_currency"]; there {
			if base, _ := fx.text("base_currency"); base != p.Currency {
				return "unknown_currency"
			}
		}
		var ok bool
		if rate, ok = fx.decimal("rate"); !ok || rate.Sign() <= 0 {
			return "bad_amount"
		}
	}
	amount, ok := o.decimal("amount")
	if !ok || v.refund && amount.Sign() <= 0 {
		return "bad_amount"
	}
	if v.amount, ok = toUnits(amount.Mul(amount, rate), p.MinorDigits); !ok {
		return "bad_amount"
	}
	if _, there := o["refunded"]; there && !v.refund {
		refunded, ok := o.decimal("refunded")
		if !ok || refunded.Sign() < 0 {
			return "bad_amount"
		}
		if v.refunded, ok = toUnits(refunded.Mul(refunded, rate), p.MinorDigits); !ok {
			return "bad_amount"
		}
	}
	if !v.refund && v.amount < 0 {
		return "negative_total"
	}
	return ""
}

// readInteraction does all checks that interactions have.
func (p *plan) readInteraction(r Record) (interaction, string) {
	o, reason := p.open(r)
	if reason == "" {
		reason = o.missing("id", "customer_id", "type", "at")
	}
	if reason != "" {
		return interaction{}, reason
	}
	if !o.isID("id") || !o.isID("customer_id") || !o.isID("type") {
		return interaction{}, "bad_field"
	}
	var v interaction
	v.customer, _ = o.text("customer_id")
	v.kind, _ = o.text("type")
	if v.kind == "consent" {
		properties, _ := parseObject(o["properties"])
		v.purpose, _ = properties.text("purpose")
		v.status, _ = properties.text("status")
		if v.purpose == "" || !slices.Contains(consentStatuses, v.status) {
			return interaction{}, "bad_field"
		}
	}
	if r.Key == nil || string(r.Key) != v.customer {
		return interaction{}, "key_mismatch"
	}
	at, reason := p.times(r, o, "at")
	v.at = at["at"]
	return v, reason
}
