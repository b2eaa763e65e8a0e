package events_test

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

func checkTime(t *testing.T, ms int64) {
	t.Helper()
	want := time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
	if got := events.TimeText(state.Instant(ms)); got != want {
		t.Fatalf("%d is %s, want %s", ms, got, want)
	}
}

// Every day of four centuries and more, its first and last millisecond, and instants from everywhere.
func TestTime(t *testing.T) {
	const day = int64(state.Day)
	for d := int64(-800 * 366); d < 800*366; d++ {
		checkTime(t, d*day)
		checkTime(t, d*day-1)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		checkTime(t, random.Int64N(253_402_300_800_000))
		checkTime(t, int64(random.Uint64()>>random.IntN(40))-random.Int64N(1<<50))
	}
	for _, ms := range []int64{0, -1, 1, 253_402_300_799_999, 253_402_300_800_000, -62_167_219_200_000, -62_167_219_200_001} {
		checkTime(t, ms)
	}
}

func TestMoney(t *testing.T) {
	for _, c := range []struct {
		m      state.Money
		digits int
		want   string
	}{
		{0, 2, "0.00"}, {5, 2, "0.05"}, {99, 2, "0.99"}, {100, 2, "1.00"}, {12345, 2, "123.45"}, {-5, 2, "-0.05"},
		{-12345, 2, "-123.45"}, {0, 0, "0"}, {7, 0, "7"}, {-7, 0, "-7"}, {7, 3, "0.007"}, {1000, 3, "1.000"}, {1, 4, "0.0001"},
		{1, 22, "0.0000000000000000000001"}, {math.MaxInt64, 2, "92233720368547758.07"}, {math.MinInt64, 2, "-92233720368547758.08"},
		{math.MaxInt64, 19, "0.9223372036854775807"}, {state.MaxMoney, 2, "9999999999999.99"},
	} {
		if got := events.MoneyText(c.m, c.digits); got != c.want {
			t.Errorf("%d with %d digits is %s, want %s", c.m, c.digits, got, c.want)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		m, digits := int64(random.Uint64())>>random.IntN(64), random.IntN(5)
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
		want := new(big.Rat).SetFrac(big.NewInt(m), unit).FloatString(digits)
		if got := events.MoneyText(state.Money(m), digits); got != want {
			t.Fatalf("%d with %d digits is %s, want %s", m, digits, got, want)
		}
	}
}

// All probabilities: the shortest number that reads back as the same millionths.
func TestProbability(t *testing.T) {
	var b []byte
	for p := state.Millionths(0); p <= state.One; p++ {
		b = events.AppendProbability(b[:0], p)
		if want := strconv.FormatFloat(float64(p)/1e6, 'f', -1, 64); string(b) != want {
			t.Fatalf("%d is %s, want %s", p, b, want)
		}
	}
	if got := string(events.AppendProbability(nil, state.None)); got != "null" {
		t.Errorf("none is %s", got)
	}
}

func checkString(t *testing.T, s string) {
	t.Helper()
	got := events.AppendString([]byte("x"), s)
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	if string(got) != "x"+strings.TrimSuffix(want.String(), "\n") {
		t.Fatalf("%q is %s, want %s", s, got[1:], want.String())
	}
	var back string
	if err := json.Unmarshal(got[1:], &back); err != nil {
		t.Fatalf("%q is %s: %v", s, got, err)
	}
	if utf8.ValidString(s) && back != s {
		t.Fatalf("%q comes back as %q", s, back)
	}
}

var stringSeeds = []string{
	"", "ana", "\x00\x01\b\t\n\v\f\r\x1f\x7f", `"\/<>&'`, "\u2028a\u2029", "\ufffd", "\xff", "a\xc3", "\xed\xa0\x80",
	"\xf0\x9f\x98", "\U0001F600é", "\xe2\x80", "\xe2\x80\xa8\xe2",
}

func TestString(t *testing.T) {
	for _, s := range stringSeeds {
		checkString(t, s)
	}
	for c := range 256 {
		checkString(t, "a"+string([]byte{byte(c)})+"b")
	}
}

func FuzzString(f *testing.F) {
	for _, s := range stringSeeds {
		f.Add(s)
	}
	f.Fuzz(checkString)
}

// Whatever the customer and the purposes are called, the value is JSON and says so.
func FuzzNames(f *testing.F) {
	for _, s := range stringSeeds {
		f.Add(s, "email")
		f.Add("ana", s)
	}
	e := events.New("conf", 1, parameters(f), "EUR", 2)
	c := aChange(f)
	f.Fuzz(func(t *testing.T, customer, purpose string) {
		n := &state.Interactions{LastAt: 1, Consents: []state.Consent{{Purpose: purpose}}}
		for _, r := range []events.Record{e.Change(customer, c, n), e.Profile(customer, nil, n)} {
			v := decode(t, r.Value)
			if utf8.ValidString(customer) && v["customer_id"] != customer {
				t.Errorf("%q comes back as %q", customer, v["customer_id"])
			}
			if utf8.ValidString(purpose) && v["consent"].(map[string]any)[purpose] != "granted" {
				t.Errorf("%q is not in %v", purpose, v["consent"])
			}
			if string(r.Key) != customer {
				t.Errorf("%q has the key %q", customer, r.Key)
			}
		}
	})
}
