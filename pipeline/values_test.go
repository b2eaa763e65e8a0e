package pipeline

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/state"
)

var timeGrammar = regexp.MustCompile(`^\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// referenceTime is semantics 3.3 by way of the time package, which accepts more and is fenced by a grammar.
func referenceTime(s string) (state.Instant, bool) {
	if !timeGrammar.MatchString(s) {
		return 0, false
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Before(time.Unix(0, 0)) {
		return 0, false
	}
	return state.Instant(t.UnixMilli()), true
}

func checkTime(t rapid.TB, s string) {
	t.Helper()
	want, ok := referenceTime(s)
	got, gotOK := parseTime([]byte(s))
	if ok != gotOK || ok && want != got {
		t.Errorf("%q: %d %v, want %d %v", s, got, gotOK, want, ok)
	}
}

func TestParseTime(t *testing.T) {
	for s, want := range map[string]state.Instant{
		"1970-01-01T00:00:00Z":                0,
		"1970-01-01T00:00:00.0009Z":           0,
		"1970-01-01T00:59:00+00:59":           0,
		"1969-12-31T23:00:00-01:00":           0,
		"2024-02-29T23:59:59.999999999Z":      1_709_251_199_999,
		"2024-05-01T12:00:00.1+02:00":         1_714_557_600_100,
		"2024-05-01T10:00:00.12-23:59":        1_714_643_940_120,
		"9999-12-31T23:59:59Z":                253_402_300_799_000,
		"0001-01-01T00:00:00Z":                -1,
		"1969-12-31T23:59:59.999Z":            -1,
		"1970-01-01T00:00:00+00:01":           -1,
		"2023-02-29T00:00:00Z":                -1,
		"1900-02-29T00:00:00Z":                -1,
		"2100-02-29T00:00:00Z":                -1,
		"2000-02-29T00:00:00Z":                951_782_400_000,
		"2024-00-10T00:00:00Z":                -1,
		"2024-13-10T00:00:00Z":                -1,
		"2024-04-31T00:00:00Z":                -1,
		"2024-04-00T00:00:00Z":                -1,
		"2024-05-01T24:00:00Z":                -1,
		"2024-05-01T10:60:00Z":                -1,
		"2016-12-31T23:59:60Z":                -1,
		"2024-05-01T10:00:00.Z":               -1,
		"2024-05-01T10:00:00,5Z":              -1,
		"2024-05-01T10:00:00.1234567890Z":     -1,
		"2024-05-01T10:00:00":                 -1,
		"2024-05-01T10:00:00z":                -1,
		"2024-05-01t10:00:00Z":                -1,
		"2024-05-01 10:00:00Z":                -1,
		"2024-05-01T10:00Z":                   -1,
		"2024-05-01T10:00:00+0200":            -1,
		"2024-05-01T10:00:00+24:00":           -1,
		"2024-05-01T10:00:00+02:60":           -1,
		"2024-05-01T10:00:00 +02:00":          -1,
		"+2024-05-01T10:00:00Z":               -1,
		" 2024-05-01T10:00:00Z":               -1,
		"2024-05-01T10:00:00Z ":               -1,
		"2024-5-1T10:00:00Z":                  -1,
		"２０２４-05-01T10:00:00Z":                -1,
		"2024-05-01T10:00:00\u22120000":       -1,
		"":                                    -1,
		"1714557600":                          -1,
		"2024-05-01T10:00:00.000+02:00[CEST]": -1,
	} {
		got, ok := parseTime([]byte(s))
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
		checkTime(t, s)
	}
}

// Times that are nearly right are read as the time package reads them, or not at all.
func TestParseTimeAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := func(label string, from, to int) int { return rapid.IntRange(from, to).Draw(t, label) }
		fraction := ""
		if d := n("fraction digits", -4, 11); d >= 0 {
			fraction = "." + strings.Repeat("7", d)
		}
		zone := "Z"
		if n("zone", 0, 2) > 0 {
			zone = fmt.Sprintf("%s%02d:%02d", []string{"+", "-"}[n("sign", 0, 1)], n("zone h", 0, 25), n("zone m", 0, 61))
		}
		s := fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02d%s%s", n("year", 1965, 2105), n("month", 0, 13), n("day", 0, 32),
			n("hour", 0, 25), n("minute", 0, 61), n("second", 0, 61), fraction, zone)
		checkTime(t, s)
		i := n("at", 0, len(s)-1)
		checkTime(t, s[:i]+string(rune(n("byte", 0, 127)))+s[i+1:])
		checkTime(t, s[:i]+s[i+1:])
	})
}

func TestCalendarDay(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "Asia/Kathmandu",
		"Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Pacific/Honolulu", "Africa/Cairo", "America/St_Johns"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		check := func(t rapid.TB, at int64) {
			if at < 0 {
				return
			}
			y, m, d := time.UnixMilli(at).In(zone).Date()
			want := time.Date(y, m, d, 12, 0, 0, 0, time.UTC).Unix()
			want = (want - 43_200) / 86_400 // whole days, before 1970 too
			if got := calendarDay(state.Instant(at), zone); int64(got) != want {
				t.Errorf("%s at %d: day %d, want %d (%d-%d-%d)", name, at, got, want, y, m, d)
			}
		}
		for at := time.Unix(0, 0); at.Year() < 2040; {
			_, end := at.In(zone).ZoneBounds()
			if end.IsZero() {
				break
			}
			for _, ms := range []int64{-3_600_000, -1, 0, 1, 3_599_999, 3_600_000, 86_400_000} {
				check(t, end.UnixMilli()+ms)
			}
			at = end
		}
		rapid.Check(t, func(t *rapid.T) { check(t, rapid.Int64Range(0, 4e12).Draw(t, "instant")) })
	}
}

var decimalGrammar = regexp.MustCompile(`^-?[0-9]{1,15}(\.[0-9]{1,12})?$`)

// referenceMinor is semantics 3.3 with rational numbers: exact, rounded once, half away from zero.
func referenceMinor(amount, rate string, digits int) (int64, bool) {
	x, _ := new(big.Rat).SetString(amount)
	if rate != "" {
		r, _ := new(big.Rat).SetString(rate)
		x.Mul(x, r)
	}
	x.Mul(x, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)))
	negative := x.Sign() < 0
	x.Abs(x).Add(x, big.NewRat(1, 2))
	n := new(big.Int).Div(x.Num(), x.Denom())
	if n.Cmp(big.NewInt(int64(state.MaxMoney))) > 0 {
		return 0, false
	}
	if negative {
		return -n.Int64(), true
	}
	return n.Int64(), true
}

func checkMinor(t rapid.TB, amount, rate string, digits int) {
	t.Helper()
	d, ok := parseDecimal([]byte(amount))
	if want := decimalGrammar.MatchString(amount); ok != want {
		t.Errorf("%q is a decimal: %v, want %v", amount, ok, want)
	}
	if !ok {
		return
	}
	if x, _ := new(big.Rat).SetString(amount); d.zero() != (x.Sign() == 0) {
		t.Errorf("%q is zero: %v", amount, d.zero())
	}
	var by *decimal
	if rate != "" {
		r, ok := parseDecimal([]byte(rate))
		if !ok {
			t.Errorf("rate %q is no decimal", rate)
			return
		}
		by = &r
	}
	want, fits := referenceMinor(amount, rate, digits)
	if got, ok := d.minor(by, digits); ok != fits || ok && int64(got) != want {
		t.Errorf("%s by %q with %d digits: %d %v, want %d %v", amount, rate, digits, got, ok, want, fits)
	}
	if rate != "" && parsesTwice(d, by, digits) {
		t.Errorf("%s by %q: converting changes its operands", amount, rate)
	}
}

// parsesTwice says whether a second conversion of the same values differs from the first.
func parsesTwice(d decimal, by *decimal, digits int) bool {
	a, okA := d.minor(by, digits)
	b, okB := d.minor(by, digits)
	return a != b || okA != okB
}

func TestDecimals(t *testing.T) {
	for _, amount := range []string{
		"0", "-0", "00012.50", "0.5", "0.005", "0.0049999", "-0.005", "-0.0049", "1.005", "2.675", "999999999999999", "9999999999999.99",
		"9999999999999.994", "9999999999999.995", "999999999999999.5", "999999999999.999999999999", "123456789012345.123456789012",
		"", "-", ".5", "5.", "+5", "1e2", "1E2", "1 ", " 1", "1,5", "1_000", "0x10", "--1", "1.2.3", "1234567890123456", "0.1234567890123",
		"1.", "-.5", "٣", "NaN", "Infinity", "1.5-",
	} {
		for digits := range 5 {
			for _, rate := range []string{"", "1", "0.5", "1.1", "0.000000000001", "999999999999999", "123456789012345.123456789012"} {
				checkMinor(t, amount, rate, digits)
			}
		}
	}
}

func TestDecimalsAgainstRationals(t *testing.T) {
	text := func(sign string) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			whole := rapid.StringMatching(`[0-9]{1,15}`).Draw(t, "whole")
			part := rapid.StringMatching(`|\.[0-9]{1,12}|\.[0-9]{0,4}5`).Draw(t, "part")
			return rapid.SampledFrom([]string{"", sign}).Draw(t, "sign") + whole + part
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.IntRange(0, 4).Draw(t, "digits")
		rate := ""
		if rapid.Bool().Draw(t, "other currency") {
			rate = text("").Draw(t, "rate")
		}
		checkMinor(t, text("-").Draw(t, "amount"), rate, digits)
		if amount := rapid.StringMatching(`-?[0-9]{0,17}\.?[0-9]{0,14}`).Draw(t, "nearly a decimal"); len(amount) > 0 {
			checkMinor(t, amount, "", digits)
		}
	})
}
