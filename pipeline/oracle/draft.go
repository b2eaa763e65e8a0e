package oracle

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// draft is a record before it is bytes, so that faults can be put into it.
type draft struct {
	plan      *plan
	topic     string
	timestamp int64
	at        int64
	key       []byte
	customer  string
	members   []member
	raw       func(text []byte) []byte // the last word on the bytes
}

type member struct{ name, value string }

// set gives a member a value, which is JSON text; "" removes it.
func (d *draft) set(name, value string) {
	i := slices.IndexFunc(d.members, func(m member) bool { return m.name == name })
	switch {
	case value == "" && i >= 0:
		d.members = slices.Delete(d.members, i, i+1)
	case i >= 0:
		d.members[i].value = value
	case value != "":
		d.members = append(d.members, member{name, value})
	}
}

// timeName is the name of the record's required time.
func (d *draft) timeName() string {
	for _, m := range d.members {
		if m.name == "refunded_at" || m.name == "at" {
			return m.name
		}
	}
	return "ordered_at"
}

// setTime writes an instant in one of several notations.
func (d *draft) setTime(name string, at int64, form int) {
	t := time.UnixMilli(at).UTC()
	switch form {
	case 1:
		t = t.In(time.FixedZone("", 2*3600))
	case 2:
		t = t.In(time.FixedZone("", -(9*3600 + 1800)))
	}
	text := t.Format("2006-01-02T15:04:05.000Z07:00")
	if form == 3 {
		text = t.Format("2006-01-02T15:04:05.000") + "999Z" // surplus digits are cut off
	}
	d.set(name, quote(text))
}

// setMoney writes minor units as text or number, sometimes with a fraction that is rounded away.
func (d *draft) setMoney(name string, minor int64, s step) {
	text := moneyText(minor, d.plan.MinorDigits)
	if s.form == 2 {
		if d.plan.MinorDigits == 0 {
			text += "."
		}
		text += "4"
	}
	if s.form == 1 {
		d.set(name, text)
		return
	}
	d.set(name, quote(text))
}

func (d *draft) setCurrency(s step) {
	d.set("currency", quote(d.plan.Currency))
	if s.currency < 13 {
		return
	}
	rate := []string{`"1.1"`, `0.5`, `"2"`, `"0.0001"`}[s.j%4]
	d.set("currency", quote("SEK"))
	if s.currency == 15 {
		d.set("fx", fmt.Sprintf(`{"rate":%s,"base_currency":%q}`, rate, d.plan.Currency))
	} else {
		d.set("fx", `{"rate":`+rate+`}`)
	}
}

// value is the record's bytes.
func (d *draft) value() []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range d.members {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quote(m.name) + ":" + m.value)
	}
	b.WriteByte('}')
	if d.raw != nil {
		return d.raw(b.Bytes())
	}
	return b.Bytes()
}

// setting is the fault of a member with a wrong value.
func setting(name, value string) func(*draft) {
	return func(d *draft) { d.set(name, value) }
}

// settingTime is the fault of a wrong required time.
func settingTime(value string) func(*draft) {
	return func(d *draft) { d.set(d.timeName(), value) }
}

// rewriting is a fault of the bytes.
func rewriting(f func(text []byte) []byte) func(*draft) {
	return func(d *draft) { d.raw = f }
}

// noting is the fault of a member that is not JSON as it should be.
func noting(member string) func(*draft) {
	return rewriting(func(text []byte) []byte {
		return slices.Concat(text[:len(text)-1], []byte(member), []byte("}"))
	})
}

// replacing is the fault of having other bytes altogether.
func replacing(text string) func(*draft) {
	return rewriting(func([]byte) []byte { return []byte(text) })
}

// faults are all ways to be malformed; some are harmless in some kinds of records.
var faults = []func(*draft){
	// too_large
	func(d *draft) {
		d.set("note", quote(strings.Repeat("y", d.plan.Limits.MaxRecordBytes)))
	},
	// undecodable
	rewriting(func([]byte) []byte { return nil }),
	replacing(""),
	replacing("not json"),
	replacing("[1]"),
	rewriting(func(text []byte) []byte { return text[:len(text)-1] }),
	rewriting(func(text []byte) []byte { return append(text, " {}"...) }),
	rewriting(func(text []byte) []byte { return append([]byte("\xef\xbb\xbf"), text...) }),
	noting(`,"customer_id":"ana"`),
	noting(`,"items":[{"sku":"a","sku":"b"}]`),
	noting(`,"items":[{"sku":"a","s\u006bu":"b"}]`),
	noting(",\"note\":\"\xff\""),
	noting(",\"note\":\"\xed\xa0\x80\""),
	noting(`,"note":"\ud800"`),
	noting(`,"note":"\udc00\ud800"`),
	noting(`,"note":NaN`),
	noting(`,`),
	// bad_field
	setting("type", `"return"`),
	setting("type", `3`),
	setting("order_id", `17`),
	setting("order_id", quote(strings.Repeat("y", 257))),
	setting("refund_id", `false`),
	setting("id", `[]`),
	setting("status", `"shipped"`),
	setting("status", `""`),
	setting("revision", `-1`),
	setting("revision", `1.0`),
	setting("revision", `"2"`),
	setting("revision", `9223372036854775808`),
	setting("test", `"true"`),
	setting("currency", `978`),
	setting("fx", `"1.1"`),
	setting("properties", `{"purpose":"email","status":"maybe"}`),
	// missing_field and empty_order_id
	setting("order_id", ""),
	setting("customer_id", `null`),
	setting("customer_id", `""`),
	setting("amount", `""`),
	setting("currency", ""),
	settingTime(`null`),
	setting("order_id", `""`),
	// key_mismatch
	func(d *draft) { d.key = nil },
	func(d *draft) { d.key = []byte("ANA") },
	func(d *draft) { d.key = []byte{} },
	// bad_time and future_time
	settingTime(`"2024-02-30T10:00:00Z"`),
	settingTime(`"2024-05-01T10:00:60Z"`),
	settingTime(`"1969-12-31T23:59:59.999Z"`),
	settingTime(`"1970-01-01T00:00:00+00:01"`),
	settingTime(`1714557600`),
	setting("updated_at", `"yesterday"`),
	func(d *draft) { d.setTime(d.timeName(), d.timestamp+d.plan.Limits.FutureHours*3_600_000+1, 0) },
	func(d *draft) { d.setTime("updated_at", d.timestamp+d.plan.Limits.FutureHours*3_600_000+1, 0) },
	// unknown_currency
	func(d *draft) { d.set("currency", `"NOK"`); d.set("fx", "") },
	func(d *draft) { d.set("currency", `"NOK"`); d.set("fx", `{"rate":null}`) },
	func(d *draft) { d.set("currency", `"NOK"`); d.set("fx", `{"rate":"2","base_currency":"USD"}`) },
	setting("currency", `"eur"`),
	// bad_amount and negative_total
	setting("amount", `"ten"`),
	setting("amount", `1e2`),
	setting("amount", `"+5"`),
	setting("amount", `"5."`),
	setting("amount", `true`),
	setting("amount", `"1234567890123456"`),
	setting("amount", `"999999999999999.9"`),
	setting("amount", `"-1"`),
	setting("amount", `"-0.00001"`),
	setting("amount", `0`),
	setting("refunded", `"-1.00"`),
	func(d *draft) { d.set("currency", `"NOK"`); d.set("fx", `{"rate":"0"}`) },
	func(d *draft) { d.set("currency", `"NOK"`); d.set("fx", `{"rate":"x"}`) },
	// too_late
	func(d *draft) { d.setTime(d.timeName(), max(0, d.timestamp-d.plan.window-1), 0) },
}
