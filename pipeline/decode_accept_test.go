package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
)

const ninth = draftedAt - 3_600_000 // 09:00, when the order of these tests was placed

// plainFact is the fact of anOrder.
func plainFact() state.Fact {
	return state.Fact{Kind: state.OrderFact, Customer: canary, At: draftedAt, Order: state.Order{
		ID: xxhash.Sum64String(canary + "-1"), UpdatedAt: draftedAt, Status: state.Completed, Amount: 1_250, OrderedAt: ninth, Day: ninth / 86_400_000,
	}}
}

// What looks odd and is right: every one of these is accepted, and means what is beside it.
func TestAcceptsOrders(t *testing.T) {
	with := func(change func(*state.Order)) state.Fact {
		f := plainFact()
		change(&f.Order)
		return f
	}
	none := func(*state.Order) {}
	amount := func(m state.Money) func(*state.Order) { return func(o *state.Order) { o.Amount = m } }
	placed := func(at state.Instant) func(*state.Order) {
		return func(o *state.Order) { o.OrderedAt, o.Day = at, int32(at/state.Day) }
	}
	usd := func(fx string) *draft { return anOrder().set("currency", `"USD"`).set("fx", fx) }
	for i, test := range []struct {
		r      *draft
		change func(*state.Order)
	}{
		{anOrder(), none},
		{anOrder().set("type", `"order"`), none},
		{anOrder().set("type", "null"), none},
		{anOrder().set("type", `"\u006frder"`), none},
		{anOrder().set("note", `"\ud83d\ude00"`), none},
		{anOrder().withTail(" , \"items\" : [ {\"sku\":null} ] \r\n\t"), none},
		{anOrder().withTail(`,"Amount":"x","ORDER_ID":7,"coupon":{},"channel":5,"cost":"y","discount":[],"campaign":false`), none},
		{anOrder().set("refund_id", "7").set("refunded_at", `"x"`).set("at", "1").set("id", "{}").set("properties", "3"), none},
		{anOrder().set("status", "null").set("revision", "null").set("test", "null").set("fx", "null").set("refunded", "null").set("updated_at", "null"), none},
		{anOrder().set("fx", `{"rate":"rubbish","base_currency":7}`), none}, // the pipeline's own currency: nobody looks
		{anOrder().set("order_id", `"`+strings.Repeat("ü", 128)+`"`), func(o *state.Order) { o.ID = xxhash.Sum64String(strings.Repeat("ü", 128)) }},
		{anOrder().set("order_id", `" \n"`), func(o *state.Order) { o.ID = xxhash.Sum64String(" \n") }}, // not trimmed
		{anOrder().set("order_id", `"\u00e9"`), func(o *state.Order) { o.ID = xxhash.Sum64String("é") }},
		{anOrder().set("status", `"partially_refunded"`), func(o *state.Order) { o.Status = state.PartiallyRefunded }},
		{anOrder().set("status", `"pending"`), func(o *state.Order) { o.Status = state.Pending }},
		{anOrder().set("revision", "9223372036854775807"), func(o *state.Order) { o.Revision = 1<<63 - 1 }},
		{anOrder().set("revision", "0"), none},
		{anOrder().set("test", "true"), func(o *state.Order) { o.Test = true }},
		{anOrder().set("test", "false"), none},
		{anOrder().set("amount", "12.50"), none},
		{anOrder().set("amount", "12.5"), none},
		{anOrder().set("amount", `"000000000012.50"`), none},
		{anOrder().set("amount", `"0.005"`), amount(1)},
		{anOrder().set("amount", `"0.00499999"`), amount(0)},
		{anOrder().set("amount", `"-0.00499"`), amount(0)}, // negative, but not after rounding
		{anOrder().set("amount", "-0"), amount(0)},
		{anOrder().set("amount", `"9999999999999.994"`), amount(state.MaxMoney)},
		{anOrder().set("refunded", `"-0.000"`), none},
		{anOrder().set("refunded", "99.5"), func(o *state.Order) { o.Refunded = 9_950 }},
		{usd(`{"rate":"0.5"}`), amount(625)},
		{usd(`{"rate":0.91236,"base_currency":"EUR","source":"x"}`), amount(1_140)}, // 1140.45
		{usd(`{"rate":"0.5","base_currency":null}`).set("refunded", "0.01"), func(o *state.Order) { o.Amount, o.Refunded = 625, 1 }},
		{anOrder().set("ordered_at", `"2024-05-01T11:00:00.0009+02:00"`), none},
		{anOrder().set("ordered_at", `"2024-05-02T10:00:00.000Z"`), placed(draftedAt)}, // clamped
		{anOrder().set("updated_at", `"2024-05-02T10:00:00.000Z"`), none},
		{anOrder().set("updated_at", `"2024-05-01T08:00:00Z"`), func(o *state.Order) { o.UpdatedAt = ninth - 3_600_000 }},
		{anOrder().set("ordered_at", `"1970-01-01T00:00:00Z"`), placed(0)},
		{anOrder().withStamp(draftedAt+300_000).set("updated_at", `"2024-05-01T10:00:00Z"`), none},
	} {
		want := with(test.change)
		want.At = state.Instant(test.r.stamp)
		got, bad := decodeOne(testDecoder(), test.r)
		if bad != nil || got != want {
			t.Errorf("%d: %s\nrejected %+v\n got %+v\nwant %+v", i, test.r.kafka().Value, bad, got, want)
		}
	}
}

func TestAcceptsRefundsAndInteractions(t *testing.T) {
	refunded := state.Fact{Kind: state.RefundFact, Customer: canary, At: draftedAt, Refund: state.Refund{
		Order: xxhash.Sum64String(canary + "-1"), ID: xxhash.Sum64String(canary + "-2"), At: draftedAt - 1_800_000, Amount: 300,
	}}
	small := refunded
	small.Refund.Amount = 0 // above 0 before rounding
	seen := func(i state.Interaction) state.Fact {
		i.At = ninth
		return state.Fact{Kind: state.InteractionFact, Customer: canary, At: draftedAt, Interaction: i}
	}
	consent := func(s state.ConsentStatus) state.Fact {
		return seen(state.Interaction{Purpose: canary, Consent: s})
	}
	of := func(status string) *draft {
		return aConsent().set("properties", `{"more":[],"purpose":"`+canary+`","status":"`+status+`"}`)
	}
	history := aRefund()
	history.headers = []kgo.RecordHeader{{Key: "asiduo-mode", Value: []byte("backfill")}}
	loaded := refunded
	loaded.Backfill = true
	live := anInteraction()
	live.headers = []kgo.RecordHeader{{Key: "asiduo-mode", Value: []byte("live")}, {Key: "Asiduo-Mode", Value: []byte("backfill")}}
	long := strings.Repeat("p", 256)
	for i, test := range []struct {
		r    *draft
		want state.Fact
	}{
		{aRefund(), refunded},
		{history, loaded},
		{aRefund().set("amount", `"0.001"`), small},
		{aRefund().set("ordered_at", `"x"`).set("status", "7").set("refunded", "{}").set("revision", "-1").set("test", "1").set("updated_at", "0"), refunded},
		{anInteraction(), seen(state.Interaction{})},
		{live, seen(state.Interaction{})},
		{anInteraction().set("properties", "3").set("currency", "7").set("order_id", `""`).set("amount", `"x"`), seen(state.Interaction{})},
		{anInteraction().set("type", `"anything at all"`), seen(state.Interaction{})},
		{anInteraction().set("type", `"order"`), seen(state.Interaction{})},
		{anInteraction().set("type", `"complaint"`), seen(state.Interaction{Complaint: state.Complained})},
		{anInteraction().set("type", `"complaint_resolved"`), seen(state.Interaction{Complaint: state.Resolved})},
		{of("granted"), consent(state.Granted)},
		{of("denied"), consent(state.Denied)},
		{of("revoked"), consent(state.Revoked)},
		{aConsent().set("properties", `{"status":"denied","purpose":"`+long+`"}`), seen(state.Interaction{Purpose: long, Consent: state.Denied})},
	} {
		if got, bad := decodeOne(testDecoder(), test.r); bad != nil || got != test.want {
			t.Errorf("%d: %s\nrejected %+v\n got %+v\nwant %+v", i, test.r.kafka().Value, bad, got, test.want)
		}
	}
}

// The instant of a record is its timestamp, or the latest time it carries, after clamping.
func TestInstant(t *testing.T) {
	d := testDecoder()
	d.payloadTime = true
	for i, test := range []struct {
		r    *draft
		want state.Instant
	}{
		{anOrder(), ninth},
		{anOrder().set("updated_at", `"2024-05-01T09:10:00Z"`), ninth + 600_000},
		{anOrder().set("updated_at", `"2024-05-01T08:10:00Z"`), ninth},
		{anOrder().set("updated_at", `"2024-05-01T23:10:00Z"`), draftedAt},
		{aRefund(), draftedAt - 1_800_000},
		{aRefund().set("ordered_at", `"2024-05-01T09:59:00Z"`), draftedAt - 1_800_000},
		{anInteraction(), draftedAt},
	} {
		if got, bad := decodeOne(d, test.r); bad != nil || got.At != test.want {
			t.Errorf("%d: %s\nat %d, want %d; %+v", i, test.r.kafka().Value, got.At, test.want, bad)
		}
	}
	if got, _ := decodeOne(d, anOrder()); got.Order.UpdatedAt != draftedAt {
		t.Errorf("updated_at defaults to %d, not to the timestamp", got.Order.UpdatedAt)
	}
}

// The calendar day of an order is that of the tenant's zone.
func TestDayInZone(t *testing.T) {
	d := testDecoder()
	var err error
	if d.zone, err = time.LoadLocation("America/New_York"); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]int32{`"2024-05-01T03:59:59.999Z"`: 19_843, `"2024-05-01T04:00:00Z"`: 19_844} {
		if got, bad := decodeOne(d, anOrder().set("ordered_at", at)); bad != nil || got.Order.Day != want {
			t.Errorf("%s: day %d, want %d; %+v", at, got.Order.Day, want, bad)
		}
	}
}

// Without known time timestamps are compared with nothing.
func TestFutureTimestampNeedsTime(t *testing.T) {
	var f state.Fact
	r := anOrder().withStamp(draftedAt + 300_001).kafka()
	if bad := testDecoder().decode(purchases, r, draftedAt, false, &f); bad != nil {
		t.Errorf("rejected %+v", bad)
	}
}

// Of two faults that which is checked first is told.
func TestPrecedence(t *testing.T) {
	faults := []struct {
		reason reason
		apply  func(*draft)
	}{
		{tooLarge, func(r *draft) { r.set("note", `"`+strings.Repeat("x", 1024)+`"`) }},
		{undecodable, func(r *draft) { r.withTail(",") }},
		{badField, func(r *draft) { r.set("type", `"return"`) }},
		{missingField, func(r *draft) { r.set("currency", "") }},
		{emptyOrderID, func(r *draft) { r.set("order_id", `""`) }},
		{badField, func(r *draft) { r.set("status", `"shipped"`) }},
		{keyMismatch, func(r *draft) { r.withKey(nil) }},
		{badTime, func(r *draft) { r.set("updated_at", `"x"`) }},
		{futureTime, func(r *draft) { r.set("ordered_at", `"2024-05-03T10:00:00Z"`) }},
		{unknownCurrency, func(r *draft) { r.set("currency", `"NOK"`) }},
		{badAmount, func(r *draft) { r.set("refunded", `"x"`) }},
		{negativeTotal, func(r *draft) { r.set("amount", `"-1"`) }},
	}
	for i, first := range faults {
		for _, second := range faults[i:] {
			t.Run(fmt.Sprintf("%d %s and %s", i, first.reason, second.reason), func(t *testing.T) {
				r := anOrder()
				second.apply(r)
				first.apply(r)
				if _, bad := decodeOne(testDecoder(), r); bad == nil || bad.reason != first.reason {
					t.Errorf("%s: %+v", r.kafka().Value, bad)
				}
			})
		}
	}
}
