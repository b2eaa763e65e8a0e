package oracle

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// day is what semantics calls d: always 24 hours.
const day int64 = 86_400_000

// maxMinor is the greatest amount in minor units (3.3).
const maxMinor = 999_999_999_999_999

var (
	decimalForm = regexp.MustCompile(`^-?[0-9]{1,15}(\.[0-9]{1,12})?$`)
	timeForm    = regexp.MustCompile(`^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))$`)
)

// parseDecimal reads a decimal of 3.3 exactly.
func parseDecimal(text string) (*big.Rat, bool) {
	if !decimalForm.MatchString(text) {
		return nil, false
	}
	whole, fraction, _ := strings.Cut(text, ".")
	digits, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return nil, false
	}
	return new(big.Rat).SetFrac(digits, power10(len(fraction))), true
}

func power10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

// toUnits multiplies by 10^digits and rounds once, half away from zero; false if the
// result is beyond maxMinor.
func toUnits(amount *big.Rat, digits int) (int64, bool) {
	exact := new(big.Rat).Mul(amount, new(big.Rat).SetInt(power10(digits)))
	size := new(big.Rat).Abs(exact)
	size.Add(size, big.NewRat(1, 2))
	rounded := new(big.Int).Quo(size.Num(), size.Denom())
	if rounded.Cmp(big.NewInt(maxMinor)) > 0 {
		return 0, false
	}
	if exact.Sign() < 0 {
		return -rounded.Int64(), true
	}
	return rounded.Int64(), true
}

// scaled reads a decimal as an integer number of 10^-digits.
func scaled(text string, digits int) (int64, bool) {
	exact, ok := parseDecimal(text)
	if !ok {
		return 0, false
	}
	return toUnits(exact, digits)
}

// parseTime reads a time of 3.3 as milliseconds since 1970.
func parseTime(text string) (int64, bool) {
	m := timeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n := func(i int) int {
		v, _ := strconv.Atoi(m[i])
		return v
	}
	hour, minute, second := n(4), n(5), n(6)
	if hour > 23 || minute > 59 || second > 59 || n(9) > 23 || n(10) > 59 {
		return 0, false
	}
	date := time.Date(n(1), time.Month(n(2)), n(3), hour, minute, second, 0, time.UTC)
	if date.Year() != n(1) || date.Month() != time.Month(n(2)) || date.Day() != n(3) {
		return 0, false // time.Date carried a day that the month does not have
	}
	ms, _ := strconv.Atoi((m[7] + "000")[:3])
	offset := int64(n(9)*60+n(10)) * 60_000
	if m[8] == "-" {
		offset = -offset
	}
	at := date.UnixMilli() + int64(ms) - offset
	return at, at >= 0
}

// timeText writes an instant as outputs carry it.
func timeText(at int64) string {
	return time.UnixMilli(at).UTC().Format("2006-01-02T15:04:05.000Z")
}

// moneyText writes minor units as a decimal with exactly that many digits.
func moneyText(minor int64, digits int) string {
	sign := ""
	if minor < 0 {
		sign, minor = "-", -minor
	}
	text := fmt.Sprintf("%0*d", digits+1, minor)
	if digits == 0 {
		return sign + text
	}
	return sign + text[:len(text)-digits] + "." + text[len(text)-digits:]
}

// calendarDay numbers the days of a time zone's calendar, without gaps.
func calendarDay(at int64, zone *time.Location) int64 {
	y, m, d := time.UnixMilli(at).In(zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC).UnixMilli() / day
}

func number(n int64) json.Number {
	return json.Number(strconv.FormatInt(n, 10))
}

// millionths writes a probability with at most six decimals.
func millionths(p int64) json.Number {
	text := moneyText(p, 6)
	return json.Number(strings.TrimSuffix(strings.TrimRight(text, "0"), "."))
}
