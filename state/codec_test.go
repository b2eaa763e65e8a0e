package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What was encoded comes back, and encodes to the same bytes; a customer that was used before makes no difference.
func TestCustomerRoundTrip(t *testing.T) {
	used, _ := play(defaults(), []Fact{order(1, start, 100), refund(9, 1, start, 5)}, always)
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		p.Versions = Versions{uint32(uniform(t, "rules", 3)), uint32(uniform(t, "cuts", 255)), uint32(uniform(t, "model", 7))}
		c, _ := play(p, drawFacts(t, p, 24), Telling{LiveFrom: start + 5*Day})
		c.Truncated = uniform(t, "truncated", 3) == 0
		b := c.AppendTo([]byte("before"))
		if !bytes.HasPrefix(b, []byte("before")) {
			t.Fatalf("AppendTo does not append")
		}
		b = b[len("before"):]
		d := *used
		if err := d.Decode(b); err != nil {
			t.Fatalf("decode: %v", err)
		}
		checkSame(t, c, &d)
		if again := d.AppendTo(nil); !bytes.Equal(b, again) {
			t.Fatalf("encoded again:\n%x\n%x", b, again)
		}
		for n := range len(b) {
			if err := d.Decode(b[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
			}
		}
		if err := d.Decode(append(b, 0)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a byte too many: %v", err)
		}
	})
}

func checkSame(t *rapid.T, want, got *Customer) {
	same := want.Standing == got.Standing && want.Evaluated == got.Evaluated && want.EvaluatedAt == got.EvaluatedAt &&
		want.Due == got.Due && want.Settled == got.Settled && want.Truncated == got.Truncated &&
		len(want.Orders) == len(got.Orders) && len(want.Refunds) == len(got.Refunds)
	for i := range want.Orders {
		same = same && want.Orders[i] == got.Orders[i]
	}
	for i := range want.Refunds {
		same = same && want.Refunds[i] == got.Refunds[i]
	}
	if !same {
		t.Fatalf("decoded\n%+v\nwant\n%+v", got, want)
	}
}

// Every field of every struct that is kept is in the bytes: two values that differ in it have different encodings.
func TestEveryFieldIsEncoded(t *testing.T) {
	change := func(t *testing.T, base any, encode func(any) []byte, skip ...string) {
		v := reflect.ValueOf(base).Elem()
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Type.Kind() == reflect.Struct || f.Type.Kind() == reflect.Slice {
				continue
			}
			before := encode(base)
			old := reflect.ValueOf(v.Field(i).Interface())
			switch {
			case f.Type.Kind() == reflect.Bool:
				v.Field(i).SetBool(!v.Field(i).Bool())
			case f.Type.Kind() == reflect.String:
				v.Field(i).SetString(v.Field(i).String() + "x")
			case v.Field(i).CanInt():
				v.Field(i).SetInt(v.Field(i).Int() + 1)
			default:
				v.Field(i).SetUint(v.Field(i).Uint() + 1)
			}
			if bytes.Equal(before, encode(base)) {
				t.Errorf("%s.%s is not encoded", v.Type(), f.Name)
			}
			v.Field(i).Set(old)
		}
	}
	c := richCustomer()
	encode := func(any) []byte { return c.AppendTo(nil) }
	for _, part := range []any{c, &c.Standing, &c.Standing.Threshold, &c.Versions, &c.Ledger, &c.Settled, &c.Settled.Occasions, &c.Orders[0], &c.Orders[1], &c.Refunds[0]} {
		change(t, part, encode)
	}
	n := richInteractions()
	for _, part := range []any{n, &n.Consents[0]} {
		change(t, part, func(any) []byte { return n.AppendTo(nil) })
	}
}

func TestInteractionsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{Purposes: 8}
		var n, m Interactions
		for range uniform(t, "interactions", 15) {
			n.Apply(&limits, &Interaction{
				At: Instant(rapid.Int64Range(0, int64(start)).Draw(t, "at")), Complaint: ComplaintKind(uniform(t, "complaint", 2)),
				Purpose: rapid.StringN(0, 8, 256).Draw(t, "purpose"), Consent: ConsentStatus(uniform(t, "status", 2)),
			})
		}
		b := n.AppendTo(nil)
		if err := m.Decode(b); err != nil {
			t.Fatalf("decode: %v", err)
		}
		if len(n.Consents) == 0 {
			n.Consents, m.Consents = nil, nil
		}
		if !reflect.DeepEqual(n, m) || !bytes.Equal(b, m.AppendTo(nil)) {
			t.Fatalf("decoded\n%+v\nwant\n%+v", m, n)
		}
		for i := range len(b) {
			if err := m.Decode(b[:i]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("the first %d of %d bytes: %v", i, len(b), err)
			}
		}
	})
}

func TestNewerFormat(t *testing.T) {
	const want = "state record of format 2; this release reads up to 1: run the newer release"
	for _, decode := range []func([]byte) error{new(Customer).Decode, new(Interactions).Decode} {
		err := decode([]byte{Format + 1, 0, 1, 2, 3})
		if newer, ok := errors.AsType[*NewerFormatError](err); !ok || newer.Format != Format+1 || err.Error() != want {
			t.Errorf("newer format: %v", err)
		}
		if errors.Is(err, ErrCorrupt) {
			t.Error("a newer format passes for corruption: the store would be set aside")
		}
		for _, b := range [][]byte{nil, {}, {Format}, {0, 0, 0}} {
			if err := decode(b); !errors.Is(err, ErrCorrupt) {
				t.Errorf("% x: %v", b, err)
			}
		}
	}
}

// A count that the bytes cannot hold must not be believed.
func TestDecodeBounds(t *testing.T) {
	prefix := newCustomer().AppendTo(nil)
	prefix = prefix[:len(prefix)-2] // without the two counts
	inter := (&Interactions{}).AppendTo(nil)
	inter = inter[:len(inter)-1]
	for _, count := range []uint64{2, 1 << 20, 1 << 40, 1<<64 - 1} {
		big := func(b []byte) []byte {
			return append(binary.AppendUvarint(bytes.Clone(b), count), make([]byte, 20)...)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		errs := []error{
			new(Customer).Decode(big(prefix)),
			new(Customer).Decode(big(append(bytes.Clone(prefix), 0))),
			new(Interactions).Decode(big(inter)),
			new(Interactions).Decode(big(append(bytes.Clone(inter), 1))), // the length of a purpose
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%d things in few bytes made it allocate %d bytes", count, n)
		}
		for i, err := range errs {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("count %d, encoding %d: %v", count, i, err)
			}
		}
	}
}

// Flipped bits are noticed or make another sound value; they never make a panic, then or when the value is used.
func TestFlippedBits(t *testing.T) {
	p := defaults()
	for _, g := range golden() {
		b := g.encode()
		for i := range len(b) * 8 {
			d := bytes.Clone(b)
			d[i/8] ^= 1 << (i % 8)
			checkDecoded(t, p, d)
		}
	}
}

func checkDecoded(t *testing.T, p *Parameters, b []byte) {
	t.Helper()
	var c, c2 Customer
	if err := c.Decode(b); err == nil {
		if len(c.Orders)*11+len(c.Refunds)*18 > len(b) {
			t.Fatalf("%d orders and %d refunds from %d bytes", len(c.Orders), len(c.Refunds), len(b))
		}
		again := c.AppendTo(nil)
		if err := c2.Decode(again); err != nil || !bytes.Equal(again, c2.AppendTo(nil)) {
			t.Fatalf("%x decodes, but what it encodes to does not: %v", b, err)
		}
		if int(c.Published) < len(p.Rules.names) {
			_, _, _ = c.Profile(p), c.Lifecycle.String(), p.Rules.SegmentName(c.Published)
			_, _ = c.Band.String(), c.Threshold.Band.String()
		}
	}
	var n, n2 Interactions
	if err := n.Decode(b); err == nil {
		again := n.AppendTo(nil)
		if err := n2.Decode(again); err != nil || !bytes.Equal(again, n2.AppendTo(nil)) {
			t.Fatalf("%x decodes, but what it encodes to does not: %v", b, err)
		}
	}
}

// No fact lies behind the evaluation (semantics 3.5): who has such a one is not as anybody has left him.
func TestFactsBeforeEvaluation(t *testing.T) {
	at := 20_000 * Day
	c, settled := newCustomer(), newCustomer()
	for id := range Instant(2) {
		c.Orders = append(c.Orders, order(uint64(id), at+id*Day, 100).Order)
	}
	settled.Settled = Settled{Orders: 1, Net: 100, First: at, Last: at, Occasions: Occasions{Days: 1, FirstDay: 20_000, LastDay: 20_000}}
	for name, c := range map[string]*Customer{"order": c, "settled order": settled} {
		for off, sound := range map[Instant]bool{0: true, 1: true, -1: false} {
			last := c.Settled.Last
			if n := len(c.Orders); n > 0 {
				last = c.Orders[n-1].OrderedAt
			}
			c.Evaluated, c.EvaluatedAt = true, last+off
			if err := new(Customer).Decode(c.AppendTo(nil)); sound != (err == nil) || !sound && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s evaluated %d ms after the last: %v", name, off, err)
			}
		}
	}
}

// A customer who has everything that the limits allow, each thing as long as it can be, takes no more than MaxBytes.
func TestMaxBytes(t *testing.T) {
	limits := Limits{Orders: 700, Refunds: 900, Purposes: 40}
	c, n := &Customer{}, &Interactions{Truncated: true}
	c.Reset()
	const late = Instant(253_402_300_799_999) // the end of the year 9999
	c.Evaluated, c.EvaluatedAt, c.Due, c.Truncated = true, late, 1, true
	c.Standing = Standing{
		Published: 31, Since: 0, Seen: math.MaxUint32, R: 5, F: 5, M: 5, Reference: 999_999, SegmentSeq: math.MaxUint64, RiskSeq: math.MaxUint64,
		Threshold: Threshold{Days: math.MaxInt32, Band: 2}, Versions: Versions{math.MaxUint32, math.MaxUint32, math.MaxUint32},
	}
	c.Settled = Settled{math.MaxInt64, math.MaxInt64, 1, late, Occasions{math.MaxInt32, math.MinInt32 / 4, math.MaxInt32 / 4, true}}
	for i := range limits.Orders {
		c.Orders = append(c.Orders, Order{
			ID: math.MaxUint64, OrderedAt: late * Instant(i%2), UpdatedAt: late * Instant((i+1)%2), Revision: math.MaxInt64, Amount: MaxMoney, Refunded: MaxMoney,
			Status: PartiallyRefunded, Test: true, Day: int32(late * Instant(i%2) / Day),
		})
	}
	for range limits.Refunds {
		c.Refunds = append(c.Refunds, Refund{math.MaxUint64, math.MaxUint64, late, MaxMoney})
	}
	n.LastAt, n.ComplaintAt, n.Complaining = late, late, true
	for range limits.Purposes {
		n.Consents = append(n.Consents, Consent{strings.Repeat("p", 256), late, Revoked})
	}
	most, mostInteractions := limits.MaxBytes()
	if got := len(c.AppendTo(nil)); got > most || got < most/2 {
		t.Errorf("a customer takes %d bytes, MaxBytes says %d", got, most)
	}
	if got := len(n.AppendTo(nil)); got > mostInteractions || got < mostInteractions/2 {
		t.Errorf("interactions take %d bytes, MaxBytes says %d", got, mostInteractions)
	}
}
