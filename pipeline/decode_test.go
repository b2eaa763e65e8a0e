package pipeline

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
)

// canary stands in the records of these tests wherever personal data stands in real ones.
const canary = "canary-7f3a"

const draftedAt = 1_714_557_600_000 // 2024-05-01T10:00:00Z

// draft is a JSON object in the making: members in order, each as JSON text.
type draft struct {
	from    role
	key     []byte
	stamp   int64
	headers []kgo.RecordHeader
	members []string // name, value, name, value...
	raw     []byte   // instead of the members
	tail    string   // before the closing brace
}

func anOrder() *draft {
	return &draft{key: []byte(canary), stamp: draftedAt, members: []string{
		"order_id", `"` + canary + `-1"`, "customer_id", `"` + canary + `"`, "ordered_at", `"2024-05-01T09:00:00Z"`, "amount", `"12.50"`,
		"currency", `"EUR"`,
	}}
}

func aRefund() *draft {
	return &draft{key: []byte(canary), stamp: draftedAt, members: []string{
		"type", `"refund"`, "order_id", `"` + canary + `-1"`, "refund_id", `"` + canary + `-2"`, "customer_id", `"` + canary + `"`,
		"refunded_at", `"2024-05-01T09:30:00Z"`, "amount", `3`, "currency", `"EUR"`,
	}}
}

func anInteraction() *draft {
	return &draft{from: interactions, key: []byte(canary), stamp: draftedAt, members: []string{
		"id", `"` + canary + `-3"`, "customer_id", `"` + canary + `"`, "type", `"visit"`, "at", `"2024-05-01T09:00:00Z"`,
	}}
}

func aConsent() *draft {
	return anInteraction().set("type", `"consent"`).set("properties", `{"purpose":"`+canary+`","status":"granted"}`)
}

// set gives a member a value; "" removes the member.
func (r *draft) set(name, value string) *draft {
	for i := 0; i < len(r.members); i += 2 {
		if r.members[i] == name {
			if value == "" {
				r.members = slices.Delete(r.members, i, i+2)
			} else {
				r.members[i+1] = value
			}
			return r
		}
	}
	if value != "" {
		r.members = append(r.members, name, value)
	}
	return r
}

func (r *draft) withRaw(s string) *draft  { r.raw = []byte(s); return r }
func (r *draft) withTail(s string) *draft { r.tail = s; return r }
func (r *draft) withKey(k []byte) *draft  { r.key = k; return r }
func (r *draft) withStamp(ms int64) *draft {
	r.stamp = ms
	return r
}

func (r *draft) kafka() *kgo.Record {
	k := &kgo.Record{Key: r.key, Value: r.raw, Timestamp: time.UnixMilli(r.stamp), Headers: r.headers}
	if r.raw == nil {
		parts := make([]string, 0, len(r.members)/2)
		for i := 0; i < len(r.members); i += 2 {
			parts = append(parts, fmt.Sprintf("%q:%s", r.members[i], r.members[i+1]))
		}
		k.Value = []byte("{" + strings.Join(parts, ",") + r.tail + "}")
	}
	return k
}

func testDecoder() *decoder {
	return &decoder{currency: "EUR", minorDigits: 2, zone: time.UTC, maxBytes: 1024, future: 24 * 3_600_000, maxFuture: 300_000}
}

// decodeOne decodes with a decoder that has just seen another record, as it always has.
func decodeOne(d *decoder, r *draft) (state.Fact, *reject) {
	var f state.Fact
	before := aConsent().set("fx", `{"rate":9,"base_currency":"USD"}`).set("order_id", `"stale"`).set("refunded", `"9"`).set("test", "true")
	_ = d.decode(interactions, before.kafka(), draftedAt, true, &f)
	bad := d.decode(r.from, r.kafka(), draftedAt, true, &f)
	return f, bad
}

type rejectedDraft struct {
	name   string
	r      *draft
	reason reason
	detail string
}

type rejections []rejectedDraft

func (l *rejections) add(r *draft, why reason, detail string) {
	*l = append(*l, rejectedDraft{fmt.Sprintf("%d %s", len(*l), why), r, why, detail})
}

func checkRejected(t *testing.T, tests []rejectedDraft) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, bad := decodeOne(testDecoder(), test.r)
			if bad == nil {
				t.Fatalf("accepted %s", test.r.kafka().Value)
			}
			if bad.reason != test.reason || bad.detail != test.detail {
				t.Errorf("%s\n got %s: %s\nwant %s: %s", test.r.kafka().Value, bad.reason, bad.detail, test.reason, test.detail)
			}
			if strings.Contains(bad.detail, "canary") || strings.Contains(bad.detail, "7f3a") {
				t.Errorf("the detail gives away what was in the record: %s", bad.detail)
			}
			if !slices.Contains(slices.Collect(maps.Keys(maps.Collect(Reasons()))), string(bad.reason)) {
				t.Errorf("reason %s is not among those that metrics know", bad.reason)
			}
		})
	}
}

// Checks 1 and 2: the bytes.
func TestRejectsBytes(t *testing.T) {
	const not = "the value is not one JSON object: "
	null := anOrder().kafka()
	null.Value = nil
	var f state.Fact
	if bad := testDecoder().decode(purchases, null, 0, false, &f); bad == nil || *bad != (reject{undecodable, "the record has no value"}) {
		t.Errorf("null: %+v", bad)
	}
	checkRejected(t, []rejectedDraft{
		{"too large", anOrder().withRaw(strings.Repeat(" ", 1025)), tooLarge, "the value has 1025 bytes, at most 1024 are accepted"},
		{"as large as may be", anOrder().withRaw(strings.Repeat(" ", 1024)), undecodable, not + "it is empty"},
		{"empty", anOrder().withRaw(""), undecodable, not + "it is empty"},
		{"text", anOrder().withRaw(canary), undecodable, not + "invalid character 'c' at start of value at byte 0"},
		{"array", anOrder().withRaw(`["` + canary + `"]`), undecodable, not + "it is another JSON value"},
		{"string", anOrder().withRaw(`"` + canary + `"`), undecodable, not + "it is another JSON value"},
		{"null text", anOrder().withRaw(`null`), undecodable, not + "it is another JSON value"},
		{"cut", anOrder().withRaw(`{"order_id":"` + canary), undecodable, not + "unexpected EOF at byte 24"},
		{"more after it", anOrder().withRaw(`{} {}`), undecodable, not + "something follows the object"},
		{"text after it", anOrder().withRaw(`{} ` + canary), undecodable, not + "invalid character 'c' at start of value at byte 3"},
		{"byte order mark", anOrder().withRaw("\ufeff{}"), undecodable, not + "invalid character '\\ufeff' at start of value at byte 0"},
		{"duplicate name", anOrder().withRaw(`{"` + canary + `":1,"` + canary + `":2}`), undecodable, not + "duplicate object member name at byte 17"},
		{"duplicate known name", anOrder().withTail(`,"customer_id":"` + canary + `"`), undecodable, not + "duplicate object member name at byte 126"},
		{"duplicate name, escaped", anOrder().withRaw(`{"type":"order","t\u0079pe":"order"}`), undecodable, not + "duplicate object member name at byte 16"},
		{"duplicate name below", anOrder().withRaw(`{"items":[{"sku":1,"sku":2}]}`), undecodable, not + "duplicate object member name at byte 19"},
		{"duplicate name in fx", anOrder().withRaw(`{"fx":{"rate":1,"rate":1}}`), undecodable, not + "duplicate object member name at byte 16"},
		{"bad UTF-8", anOrder().withRaw("{\"note\":\"" + canary + "\xff\"}"), undecodable, not + "invalid UTF-8 at byte 20"},
		{"bad UTF-8 in a name", anOrder().withRaw("{\"" + canary + "\xff\":1}"), undecodable, not + "invalid UTF-8 at byte 13"},
		{"lone surrogate", anOrder().withRaw(`{"note":"\ud800` + canary + `"}`), undecodable, not + "invalid surrogate pair at byte 9"},
		{"swapped surrogates", anOrder().withRaw(`{"note":"\udc00\ud800"}`), undecodable, not + "invalid surrogate pair at byte 9"},
		{"lone surrogate at the end", anOrder().withRaw(`{"note":"\ud800"}`), undecodable, not + "invalid surrogate pair at byte 9"},
		{"bad escape", anOrder().withRaw(`{"note":"\u7f3acanary\u7g` + canary + `"}`), undecodable, not + "invalid escape sequence at byte 21"},
		{"unknown escape", anOrder().withRaw(`{"note":"\c` + canary + `"}`), undecodable, not + "invalid escape sequence at byte 9"},
		{"control character", anOrder().withRaw("{\"note\":\"a\nb\"}"), undecodable, not + "invalid character '\\n' in string (expecting non-control character) at byte 10"},
		{"NaN", anOrder().set("amount", "NaN"), undecodable, not + "invalid character 'N' at start of value at byte 101"},
		{"Infinity", anOrder().set("amount", "-Infinity"), undecodable, not + "invalid character 'I' in number (expecting digit) at byte 102"},
		{"comma at the end", anOrder().withRaw(`{"a":1,}`), undecodable, not + "invalid character ',' at start of value at byte 6"},
		{"leading zero", anOrder().withRaw(`{"a":01}`), undecodable, not + "invalid character '1' after object value (expecting ',' or '}') at byte 6"},
		{"single quotes", anOrder().withRaw(`{'a':1}`), undecodable, not + "invalid character '\\'' at start of value at byte 1"},
	})
}

// Checks 3 to 6: what there is and of which kind.
func TestRejectsFields(t *testing.T) {
	long := `"` + strings.Repeat("ü", 128) + `x"` // 257 bytes, 129 characters
	id := func(name string) string { return name + " is not a string of 1 to 256 bytes" }
	const neither = `type is neither "order" nor "refund"`
	const statuses = "status is not one of pending, paid, completed, partially_refunded, refunded, cancelled, voided"
	const number = "revision is not a whole number from 0 to 9223372036854775807"
	var tests rejections
	add := tests.add
	for _, v := range []string{`"return"`, `"Order"`, `""`, `3`, `true`, `[]`, `{}`, `"` + canary + `"`} {
		add(anOrder().set("type", v), badField, neither)
	}
	for _, missing := range []string{"", "null", `""`} {
		for _, name := range []string{"customer_id", "ordered_at", "amount", "currency"} {
			add(anOrder().set(name, missing), missingField, name+" is missing")
		}
		for _, name := range []string{"customer_id", "refund_id", "refunded_at", "amount", "currency"} {
			add(aRefund().set(name, missing), missingField, name+" is missing")
		}
		for _, name := range []string{"id", "customer_id", "type", "at"} {
			add(anInteraction().set(name, missing), missingField, name+" is missing")
		}
		if missing != `""` {
			add(anOrder().set("order_id", missing), missingField, "order_id is missing")
			add(aRefund().set("order_id", missing), missingField, "order_id is missing")
		}
	}
	add(anOrder().set("order_id", `""`), emptyOrderID, "order_id is empty")
	add(aRefund().set("order_id", `""`), emptyOrderID, "order_id is empty")
	add(anOrder().set("order_id", `""`).set("currency", ""), missingField, "currency is missing")
	for _, v := range []string{long, "17", "true", "[]", "{}"} {
		add(anOrder().set("order_id", v), badField, id("order_id"))
		add(anOrder().set("customer_id", v), badField, id("customer_id"))
		add(aRefund().set("refund_id", v), badField, id("refund_id"))
		add(anInteraction().set("id", v), badField, id("id"))
		add(anInteraction().set("type", v), badField, id("type"))
	}
	for _, v := range []string{"978", "true", "{}", "[]"} {
		add(anOrder().set("currency", v), badField, "currency is not a string")
		add(aRefund().set("currency", v), badField, "currency is not a string")
	}
	for _, v := range []string{`"1.1"`, "1.1", "[]", "false"} {
		add(anOrder().set("fx", v), badField, "fx is not an object")
		add(aRefund().set("fx", v), badField, "fx is not an object")
	}
	for _, v := range []string{`"shipped"`, `""`, `"Paid"`, `"` + canary + `"`, "2", "true"} {
		add(anOrder().set("status", v), badField, statuses)
	}
	for _, v := range []string{"-1", "-0", "1.0", "1e2", `"2"`, "9223372036854775808", "true"} {
		add(anOrder().set("revision", v), badField, number)
	}
	for _, v := range []string{`"true"`, "1", "0", "{}"} {
		add(anOrder().set("test", v), badField, "test is neither true nor false")
	}
	checkRejected(t, tests)
}

// Checks 6 and 7: what a consent needs, and the key.
func TestRejectsConsentsAndKeys(t *testing.T) {
	const consent = "properties.status of a consent is not one of granted, denied, revoked"
	const key = "the record's key is not its customer_id"
	var tests rejections
	add := tests.add
	for _, v := range []string{"", "null", "3", `"granted"`, "[]"} {
		add(aConsent().set("properties", v), badField, "properties of a consent is not an object")
	}
	for _, v := range []string{`{"status":"granted"}`, `{"purpose":null,"status":"granted"}`, `{"purpose":"","status":"granted"}`, `{"purpose":3,"status":"granted"}`} {
		add(aConsent().set("properties", v), badField, "properties.purpose of a consent is not a string")
	}
	for _, v := range []string{`{"purpose":"a"}`, `{"purpose":"a","status":"yes"}`, `{"purpose":"a","status":""}`, `{"purpose":"a","status":true}`} {
		add(aConsent().set("properties", v), badField, consent)
	}
	for _, r := range []func() *draft{anOrder, aRefund, anInteraction} {
		add(r().withKey(nil), keyMismatch, key)
		add(r().withKey([]byte{}), keyMismatch, key)
		add(r().withKey([]byte(strings.ToUpper(canary))), keyMismatch, key)
		add(r().withKey([]byte(canary+" ")), keyMismatch, key)
		add(r().withKey([]byte("Zoë")).set("customer_id", `"Zoe\u0308"`), keyMismatch, key)
	}
	checkRejected(t, tests)
}

// Checks 8 to 12: times and money.
func TestRejectsValues(t *testing.T) {
	bad := func(name string) string { return name + " is not a time such as 2024-05-01T10:00:00Z" }
	future := func(name string) string { return name + " is more than 24h0m0s later than the record's timestamp" }
	const later = `"2024-05-02T10:00:00.001Z"`
	const noCode, noRate = "currency is not three letters A to Z", "currency USD is not the pipeline's (EUR) and fx.rate is missing"
	const base, rate = "fx.base_currency is not the pipeline's (EUR)", "fx.rate is not a decimal above 0"
	var tests rejections
	add := tests.add
	for _, v := range []string{`"yesterday"`, `"` + canary + `"`, "1714557600", "{}", `"2024-02-30T10:00:00Z"`, `"1969-12-31T23:59:59Z"`} {
		add(anOrder().set("ordered_at", v), badTime, bad("ordered_at"))
		add(anOrder().set("updated_at", v), badTime, bad("updated_at"))
		add(aRefund().set("refunded_at", v), badTime, bad("refunded_at"))
		add(anInteraction().set("at", v), badTime, bad("at"))
	}
	add(anOrder().set("updated_at", `""`), badTime, bad("updated_at")) // present, and no time
	add(anOrder().set("ordered_at", later), futureTime, future("ordered_at"))
	add(anOrder().set("updated_at", later), futureTime, future("updated_at"))
	add(aRefund().set("refunded_at", later), futureTime, future("refunded_at"))
	add(anInteraction().set("at", later), futureTime, future("at"))
	const noStamp = "the record has no timestamp, or one before 1970"
	add(anOrder().withStamp(-1).set("ordered_at", `"1970-01-01T00:00:00Z"`), badTime, noStamp)
	add(anInteraction().withStamp(-86_400_000).set("at", `"1970-01-01T00:00:00Z"`), badTime, noStamp)
	add(anOrder().withStamp(math.MinInt64), futureTime, future("ordered_at"))
	add(anOrder().withStamp(math.MaxInt64), futureTime, "the record's timestamp is more than 5m0s later than now")
	add(anOrder().withStamp(draftedAt+300_001), futureTime, "the record's timestamp is more than 5m0s later than now")
	add(anInteraction().withStamp(draftedAt+300_001), futureTime, "the record's timestamp is more than 5m0s later than now")
	fx := func(currency, fx string) *draft { return anOrder().set("currency", currency).set("fx", fx) }
	for _, v := range []string{`"eur"`, `"EURO"`, `"EU"`, `"` + canary + `"`, `"€€€"`, `"E R"`} {
		add(fx(v, `{"rate":"2"}`), unknownCurrency, noCode)
	}
	for _, v := range []string{"", "null", "{}", `{"rate":null}`, `{"base_currency":"EUR"}`} {
		add(fx(`"USD"`, v), unknownCurrency, noRate)
		add(aRefund().set("currency", `"USD"`).set("fx", v), unknownCurrency, noRate)
	}
	for _, v := range []string{`"USD"`, `""`, "3", `"eur"`, `"` + canary + `"`} {
		add(fx(`"USD"`, `{"rate":"2","base_currency":`+v+`}`), unknownCurrency, base)
	}
	for _, v := range []string{`"0"`, "0.000", `"-1"`, `""`, `"x"`, "1e2", "true", "{}", "[1]"} {
		add(fx(`"USD"`, `{"rate":`+v+`}`), badAmount, rate)
	}
	for _, v := range []string{`"` + canary + `"`, "1e2", `"+5"`, `"5."`, `".5"`, "true", "{}", `"1234567890123456"`, `"0.1234567890123"`} {
		add(anOrder().set("amount", v), badAmount, "amount is not a decimal such as 12.50")
		add(anOrder().set("refunded", v), badAmount, "refunded is not a decimal such as 12.50")
		add(aRefund().set("amount", v), badAmount, "amount is not a decimal such as 12.50")
	}
	add(anOrder().set("refunded", `""`), badAmount, "refunded is not a decimal such as 12.50")
	for _, v := range []string{"0", `"-0.00"`, "-1", `"-0.001"`} {
		add(aRefund().set("amount", v), badAmount, "the amount of a refund is not above 0")
	}
	add(anOrder().set("refunded", `"-0.001"`), badAmount, "refunded is below 0")
	for _, v := range []string{`"9999999999999.995"`, `"-9999999999999.995"`, `"999999999999999"`} {
		add(anOrder().set("amount", v), badAmount, "amount is too big")
	}
	add(anOrder().set("refunded", `"10000000000000"`), badAmount, "refunded is too big")
	add(fx(`"USD"`, `{"rate":"999999999999999"}`), badAmount, "amount is too big")
	add(anOrder().set("amount", "-0.005"), negativeTotal, "the amount of the order is below 0")
	add(fx(`"USD"`, `{"rate":"0.001"}`).set("amount", `"-5"`), negativeTotal, "the amount of the order is below 0")
	purpose := `{"status":"granted","purpose":"` + strings.Repeat("x", 257) + `"}`
	add(aConsent().set("properties", purpose), purposeTooLong, "properties.purpose has 257 bytes, at most 256 are accepted")
	checkRejected(t, tests)
}
