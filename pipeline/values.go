package pipeline

import (
	"math/big"
	"time"

	"github.com/asiduo/asiduo/state"
)

// parseTime reads YYYY-MM-DDThh:mm:ss(.fraction)?(Z|±hh:mm), a real date, not before 1970. Digits beyond the
// millisecond are cut off. It is written out because time.Parse accepts more than this.
func parseTime(b []byte) (state.Instant, bool) {
	if len(b) < 20 || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	year, ok0 := digits(b[0:4])
	month, ok1 := digits(b[5:7])
	day, ok2 := digits(b[8:10])
	hour, ok3 := digits(b[11:13])
	minute, ok4 := digits(b[14:16])
	second, ok5 := digits(b[17:19])
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || hour > 23 || minute > 59 || second > 59 ||
		month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	milli, b, ok := fraction(b[19:])
	if !ok {
		return 0, false
	}
	offset, ok := zoneOffset(b)
	if !ok {
		return 0, false
	}
	seconds := int64(daysSince1970(year, month, day))*86_400 + int64(hour*3600+minute*60+second-offset)
	at := state.Instant(seconds*1000 + int64(milli))
	return at, at >= 0
}

// fraction reads .digits, at most nine, as milliseconds.
func fraction(b []byte) (milli int, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '.' {
		return 0, b, true
	}
	b = b[1:]
	n := 0
	for ; n < len(b) && '0' <= b[n] && b[n] <= '9'; n++ {
		if n < 3 {
			milli = milli*10 + int(b[n]-'0')
		}
	}
	for i := n; i < 3; i++ {
		milli *= 10
	}
	return milli, b[n:], n >= 1 && n <= 9
}

// zoneOffset reads Z or ±hh:mm as seconds east.
func zoneOffset(b []byte) (int, bool) {
	if len(b) == 1 && b[0] == 'Z' {
		return 0, true
	}
	if len(b) != 6 || (b[0] != '+' && b[0] != '-') || b[3] != ':' {
		return 0, false
	}
	h, ok1 := digits(b[1:3])
	m, ok2 := digits(b[4:6])
	if !ok1 || !ok2 || h > 23 || m > 59 {
		return 0, false
	}
	if b[0] == '-' {
		return -(h*3600 + m*60), true
	}
	return h*3600 + m*60, true
}

func digits(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSince1970 counts the days of the proleptic Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date
// Algorithms").
func daysSince1970(year, month, day int) int {
	if month <= 2 {
		year--
	}
	era := year / 400
	if year < 0 {
		era = (year - 399) / 400
	}
	yoe := year - era*400
	doy := (153*((month+9)%12)+2)/5 + day - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146_097 + doe - 719_468
}

// calendarDay is the day of an instant in a zone, counted from 1970-01-01.
func calendarDay(at state.Instant, zone *time.Location) int32 {
	if zone == time.UTC {
		return int32(at / state.Day)
	}
	_, offset := time.UnixMilli(int64(at)).In(zone).Zone()
	local := at + state.Instant(offset)*1000
	day := local / state.Day
	if local < 0 {
		day-- // the first hours of 1970 west of Greenwich
	}
	return int32(day)
}

// decimal is an exact number: units / 10^scale.
type decimal struct {
	units *big.Int // nil: small holds it
	small int64
	scale int
	neg   bool
}

// parseDecimal reads -?[0-9]{1,15}(\.[0-9]{1,12})? in full.
func parseDecimal(b []byte) (d decimal, ok bool) {
	if len(b) > 0 && b[0] == '-' {
		d.neg, b = true, b[1:]
	}
	whole := 0
	for whole < len(b) && '0' <= b[whole] && b[whole] <= '9' {
		whole++
	}
	if whole < 1 || whole > 15 {
		return d, false
	}
	all := b[:whole]
	if rest := b[whole:]; len(rest) > 0 {
		if d.scale = len(rest) - 1; rest[0] != '.' || d.scale < 1 || d.scale > 12 {
			return d, false
		}
		for _, c := range rest[1:] {
			if c < '0' || c > '9' {
				return d, false
			}
		}
		if whole+d.scale > 18 {
			text := append(append(make([]byte, 0, 28), all...), rest[1:]...)
			d.units, _ = new(big.Int).SetString(string(text), 10)
			return d, true
		}
		n, _ := digits(rest[1:])
		high, _ := digits(all)
		d.small = int64(high)*pow10[d.scale] + int64(n)
		return d, true
	}
	n, _ := digits(all)
	d.small = int64(n)
	return d, true
}

var pow10 = [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

func (d decimal) zero() bool { return d.small == 0 && (d.units == nil || d.units.Sign() == 0) }

func (d decimal) big() *big.Int {
	if d.units != nil {
		return d.units
	}
	return big.NewInt(d.small)
}

// minor converts d to minor units, multiplied by rate if there is one, rounding once, half away from zero; false if
// the result is too big.
func (d decimal) minor(rate *decimal, minorDigits int) (state.Money, bool) {
	var m state.Money
	if rate == nil && d.units == nil && d.scale <= minorDigits && d.small <= int64(state.MaxMoney)/pow10[minorDigits-d.scale] {
		m = state.Money(d.small * pow10[minorDigits-d.scale])
	} else {
		n, scale := new(big.Int).Set(d.big()), d.scale
		if rate != nil {
			n.Mul(n, rate.big())
			scale += rate.scale
		}
		n.Mul(n, big.NewInt(pow10[minorDigits]))
		half := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
		n.Add(n.Lsh(n, 1), half).Quo(n, half.Lsh(half, 1))
		if !n.IsInt64() || n.Int64() > int64(state.MaxMoney) {
			return 0, false
		}
		m = state.Money(n.Int64())
	}
	if d.neg {
		m = -m
	}
	return m, true
}
