package events

import (
	"strconv"
	"unicode/utf8"

	"github.com/asiduo/asiduo/state"
)

// TimeText is t as YYYY-MM-DDThh:mm:ss.mmmZ.
func TimeText(t state.Instant) string { return string(AppendTime(make([]byte, 0, 24), t)) }

// AppendTime appends t as YYYY-MM-DDThh:mm:ss.mmmZ to b. Years beyond 9999 get more digits, as in package time.
func AppendTime(b []byte, t state.Instant) []byte {
	day, ms := t/state.Day, t%state.Day
	if ms < 0 {
		day, ms = day-1, ms+state.Day
	}
	year, month, dom := civil(int64(day))
	b = appendYear(b, year)
	s := uint64(ms) / 1000
	return append(b,
		'-', digit(month/10), digit(month%10), '-', digit(dom/10), digit(dom%10),
		'T', digit(s/36000), digit(s/3600%10), ':', digit(s/600%6), digit(s/60%10), ':', digit(s/10%6), digit(s%10),
		'.', digit(uint64(ms)/100%10), digit(uint64(ms)/10%10), digit(uint64(ms)%10), 'Z')
}

func digit(v uint64) byte { return '0' + byte(v) }

func appendYear(b []byte, year int64) []byte {
	if year >= 1000 && year <= 9999 {
		y := uint64(year)
		return append(b, digit(y/1000), digit(y/100%10), digit(y/10%10), digit(y%10))
	}
	if year < 0 {
		b, year = append(b, '-'), -year
	}
	for bound := int64(1000); bound > 1 && year < bound; bound /= 10 {
		b = append(b, '0')
	}
	return strconv.AppendInt(b, year, 10)
}

// civil is the Gregorian date of a day number, days since 1970-01-01. Years are counted from March, so that the leap
// day is the last of a year, in eras of 400 years, which all have the same number of days.
func civil(day int64) (year int64, month, dom uint64) {
	const era = 146_097
	day += 719_468 // days from 0000-03-01
	n := day / era
	if day < 0 {
		n = (day - era + 1) / era
	}
	doe := uint64(day - n*era)
	yoe := (doe - doe/1460 + doe/36_524 - doe/146_096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	m := (5*doy + 2) / 153 // months since March
	year, month, dom = int64(yoe)+n*400, m+3, doy-(153*m+2)/5+1
	if month > 12 {
		year, month = year+1, month-12
	}
	return year, month, dom
}

// MoneyText is m as a decimal with exactly the given number of digits after the point, none and no point if it is 0.
func MoneyText(m state.Money, digits int) string { return string(AppendMoney(nil, m, digits)) }

// AppendMoney appends m as MoneyText writes it to b.
func AppendMoney(b []byte, m state.Money, digits int) []byte {
	v := uint64(m)
	if m < 0 {
		b, v = append(b, '-'), -v
	}
	var scratch [20]byte
	s := strconv.AppendUint(scratch[:0], v, 10)
	whole := len(s) - digits
	if whole > 0 {
		b = append(b, s[:whole]...)
		s = s[whole:]
	} else {
		b = append(b, '0')
	}
	if digits > 0 {
		b = append(b, '.')
		for ; whole < 0; whole++ {
			b = append(b, '0')
		}
		b = append(b, s...)
	}
	return b
}

// AppendProbability appends p to b as the shortest JSON number that is exactly it, null if there is none.
func AppendProbability(b []byte, p state.Millionths) []byte {
	if p < 0 {
		return append(b, "null"...)
	}
	b = strconv.AppendInt(b, int64(p/state.One), 10)
	rest := p % state.One
	if rest == 0 {
		return b
	}
	b = append(b, '.')
	for scale := state.One / 10; rest > 0; scale /= 10 {
		b = append(b, digit(uint64(rest/scale)))
		rest %= scale
	}
	return b
}

const hex = "0123456789abcdef"

// AppendString appends s to b as a JSON string. U+2028 and U+2029, which end a line in JavaScript, are escaped; bytes
// that are not UTF-8 become U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	done := 0 // of s, in b
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' {
				b = appendControl(append(b, s[done:i]...), c)
				done = i + 1
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if (r == utf8.RuneError && size == 1) || r == '\u2028' || r == '\u2029' {
			b = append(b, s[done:i]...)
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			done = i + size
		}
		i += size
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}

func appendControl(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}
