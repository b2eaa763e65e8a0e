package api

import (
	"strconv"
	"strings"
	"time"

	"github.com/asiduo/asiduo/state"
)

// timeText is t as YYYY-MM-DDThh:mm:ss.mmmZ; nil unless known.
func timeText(t state.Instant, known bool) *string {
	if !known {
		return nil
	}
	return new(time.UnixMilli(int64(t)).UTC().Format("2006-01-02T15:04:05.000Z"))
}

// moneyText is m as a decimal with exactly the given number of digits after the point.
func moneyText(m state.Money, digits int) string {
	sign, v := "", uint64(m)
	if m < 0 {
		sign, v = "-", -v
	}
	text := strconv.FormatUint(v, 10)
	if digits == 0 {
		return sign + text
	}
	if short := digits + 1 - len(text); short > 0 {
		text = strings.Repeat("0", short) + text
	}
	whole := len(text) - digits
	return sign + text[:whole] + "." + text[whole:]
}

// probability is the number whose shortest decimal is p; nil if there is none. A quotient is rounded to the nearest
// float64, and that of a number of six decimals is written as this number.
func probability(p state.Millionths) *float64 {
	if p == state.None {
		return nil
	}
	return new(decimal(p))
}

func decimal(p state.Millionths) float64 { return float64(p) / float64(state.One) }

// hashText is the hash of an order's or refund's id.
func hashText(h uint64) string {
	text := strconv.FormatUint(h, 16)
	return strings.Repeat("0", 16-len(text)) + text
}

// dayText is a calendar day, days since 1970-01-01, as YYYY-MM-DD.
func dayText(day int32) string {
	return time.Unix(int64(day)*86_400, 0).UTC().Format(time.DateOnly)
}
