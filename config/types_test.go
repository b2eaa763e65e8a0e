package config

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurationText(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"250ms": 250 * time.Millisecond, "10s": 10 * time.Second, "5m": 5 * time.Minute, "24h": 24 * time.Hour,
		"7d": 7 * 24 * time.Hour, "90s": 90 * time.Second, "36h": 36 * time.Hour, "3us": 3 * time.Microsecond, "0s": 0,
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.Std() != want {
			t.Errorf("%s: got %v, %v", text, d.Std(), err)
		}
		if d.String() != text {
			t.Errorf("%s prints as %s", text, d)
		}
	}
	var d Duration
	if err := d.UnmarshalText([]byte("1h30m")); err != nil || d.Std() != 90*time.Minute {
		t.Errorf("got %v, %v", d, err)
	}
	for _, text := range []string{"", "5", "-5s", "1.5s", "s", "5 s", "5w", "99999999999d", "106751d23h59m"} {
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %v", text, d)
		}
	}
}

func TestSizeText(t *testing.T) {
	for text, want := range map[string]int64{"64KiB": 64 << 10, "8MiB": 8 << 20, "1GiB": 1 << 30, "2TiB": 2 << 40, "1000": 1000, "0": 0, "1025KiB": 1025 << 10} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s.Bytes() != want {
			t.Errorf("%s: got %v, %v", text, s.Bytes(), err)
		}
		if s.String() != text {
			t.Errorf("%s prints as %s", text, s)
		}
	}
	var s Size
	for _, text := range []string{"", "-1", "1.5MiB", "4MB", "4M", "4 MiB", "8388608TiB", "9223372036854775808"} {
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %v", text, s)
		}
	}
}

func TestDecimalScale(t *testing.T) {
	for _, tt := range []struct {
		text   Decimal
		digits int
		want   int64
	}{
		{"12.50", 2, 1250}, {"12.5", 0, 13}, {"-12.5", 0, -13}, {"12.49999", 0, 12}, {"-0.004", 2, 0}, {"0.005", 2, 1},
		{"-0.005", 2, -1}, {"3", 3, 3000}, {"0.33", 6, 330000}, {"007", 0, 7}, {"9223372036854775807", 0, math.MaxInt64},
	} {
		if got, err := tt.text.Minor(tt.digits); err != nil || got != tt.want {
			t.Errorf("%s in %d digits: got %d, %v; want %d", tt.text, tt.digits, got, err, tt.want)
		}
	}
	for _, text := range []Decimal{"", "x", "1,5", "1e3", ".5", "5.", "+1", "9223372036854775808", "92233720368547758.07.1"} {
		if got, err := text.Minor(0); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
	for _, digits := range []int{-1, 19} {
		if _, err := Decimal("1").Minor(digits); err == nil {
			t.Errorf("%d digits are taken", digits)
		}
	}
	if got, err := Decimal("9223372036854775807.5").Minor(0); err == nil {
		t.Errorf("rounding overflows to %d", got)
	}
	if got, err := Decimal("0.1234560").Millionths(); err != nil || got != 123456 {
		t.Errorf("got %d, %v", got, err)
	}
	if got, err := Decimal("0.1234567").Millionths(); err == nil {
		t.Errorf("a seventh place is taken: %d", got)
	}
}

// TestDecimalAgainstRationals compares rounding with exact fractions.
func TestDecimalAgainstRationals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?[0-9]{1,9}(\.[0-9]{1,9})?`).Draw(t, "text")
		digits := rapid.IntRange(0, 6).Draw(t, "digits")
		exact, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is no fraction", text)
		}
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
		exact.Mul(exact, new(big.Rat).SetInt(scale))
		// Rat rounds half away from zero as well.
		want := exact.FloatString(0)
		got, err := Decimal(text).Minor(digits)
		if err != nil || big.NewInt(got).String() != strings.Replace(want, "-0", "0", 1) && want != big.NewInt(got).String() {
			t.Fatalf("%s in %d digits: got %d, %v; want %s", text, digits, got, err, want)
		}
	})
}

func TestTextRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Min(0).Draw(t, "duration"))
		if rapid.Bool().Draw(t, "round") {
			d -= d % Duration(time.Hour)
		}
		var gotDuration Duration
		through(t, d, &gotDuration)
		if gotDuration != d {
			t.Fatalf("%d became %d by %s", d, gotDuration, d)
		}
		s := Size(rapid.Int64Min(0).Draw(t, "size"))
		if rapid.Bool().Draw(t, "even") {
			s -= s % (1 << 20)
		}
		var gotSize Size
		through(t, s, &gotSize)
		if gotSize != s {
			t.Fatalf("%d became %d by %s", s, gotSize, s)
		}
		decimal := Decimal(rapid.StringMatching(`-?[0-9]{1,30}(\.[0-9]{1,30})?`).Draw(t, "decimal"))
		var gotDecimal Decimal
		through(t, decimal, &gotDecimal)
		if gotDecimal != decimal {
			t.Fatalf("%s became %s", decimal, gotDecimal)
		}
		instant := At(time.UnixMilli(rapid.Int64Range(0, 253402300799999).Draw(t, "ms")))
		var gotInstant Instant
		through(t, instant, &gotInstant)
		if gotInstant != instant || gotInstant.UnixMilli() != instant.Time().UnixMilli() {
			t.Fatalf("%s became %s", instant, gotInstant)
		}
	})
}

// through writes a value as JSON and reads it back.
func through(t *rapid.T, from, to any) {
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func TestInstant(t *testing.T) {
	var i Instant
	if !i.IsZero() || i.UnixMilli() != 0 || i.String() != "" {
		t.Error("the empty instant is not empty")
	}
	if err := i.UnmarshalText([]byte("2026-03-01T01:00:00+02:00")); err != nil {
		t.Fatal(err)
	}
	if i.IsZero() || i.UnixMilli() != time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC).UnixMilli() || i.String() != "2026-03-01T01:00:00+02:00" {
		t.Errorf("got %v, %d", i, i.UnixMilli())
	}
	if err := i.UnmarshalText(nil); err != nil || !i.IsZero() {
		t.Errorf("got %v, %v", i, err)
	}
	for _, text := range []string{"2026-03-01", "2026-02-30T00:00:00Z", "now", "2026-03-01 00:00:00Z"} {
		if err := i.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestDigits(t *testing.T) {
	for currency, want := range map[string]int{"EUR": 2, "JPY": 0, "KWD": 3, "CLF": 4, "USD": 2} {
		if got := (Config{Currency: currency, MinorDigits: -1}).Digits(); got != want {
			t.Errorf("%s has %d digits, want %d", currency, got, want)
		}
	}
	if got := (Config{Currency: "JPY", MinorDigits: 2}).Digits(); got != 2 {
		t.Errorf("minor_digits is ignored: %d", got)
	}
}
