package config

import (
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// hidden is what is shown in place of a secret.
const hidden = "***"

// Secret is text that is never shown: every way of printing it gives ***. string(s) is the text itself.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// Format hides the secret from every verb; without it a wrong verb such as %d would print the text.
func (s Secret) Format(f fmt.State, verb rune) {
	text := s.String()
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		text = s.GoString()
	}
	_, _ = io.WriteString(f, text)
}

// MarshalText hides the secret from JSON, YAML and logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}

// Duration is a length of time, written as whole numbers with units: 250ms, 10s, 5m, 24h, 7d, 1h30m.
type Duration time.Duration

const (
	day             = 24 * time.Hour
	durationPattern = `^(0|([0-9]+(ns|us|ms|s|m|h|d))+)$`
)

var (
	durationText = regexp.MustCompile(durationPattern)
	durationPart = regexp.MustCompile(`([0-9]+)([a-z]+)`)
)

// durationUnits is ordered for printing: the first that divides a duration is its unit.
var durationUnits = []struct {
	name string
	size time.Duration
}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}, {"us", time.Microsecond}, {"ns", 1}}

// Std is the duration as package time knows it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String is the text that UnmarshalText reads.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	for _, u := range durationUnits {
		// A single day is written 24h, as people do.
		if time.Duration(d)%u.size == 0 && time.Duration(d) != day {
			return strconv.FormatInt(int64(d)/int64(u.size), 10) + u.name
		}
	}
	return "24h"
}

// MarshalText is the text that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 250ms, 10s, 5m, 24h, 7d, 1h30m or 0.
func (d *Duration) UnmarshalText(text []byte) error {
	if !durationText.Match(text) {
		return fmt.Errorf("%q is not a duration such as 250ms, 10s, 5m, 24h or 7d", text)
	}
	var sum int64
	for _, part := range durationPart.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseInt(part[1], 10, 64)
		unit := unitSize(part[2])
		if err != nil || n > (math.MaxInt64-sum)/unit {
			return fmt.Errorf("duration %q is too long", text)
		}
		sum += n * unit
	}
	*d = Duration(sum)
	return nil
}

func unitSize(name string) int64 {
	for _, u := range durationUnits {
		if u.name == name {
			return int64(u.size)
		}
	}
	return 1
}

// Size is a number of bytes, written 64KiB, 8MiB, 1GiB or as a plain number.
type Size int64

const sizePattern = `^[0-9]+(KiB|MiB|GiB|TiB)?$`

var sizeText = regexp.MustCompile(`^([0-9]+)(KiB|MiB|GiB|TiB)?$`)

var sizeShift = map[string]uint{"": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}

// Bytes is the size as a number.
func (s Size) Bytes() int64 { return int64(s) }

// String is the text that UnmarshalText reads.
func (s Size) String() string {
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if s != 0 && int64(s)%(1<<sizeShift[unit]) == 0 {
			return strconv.FormatInt(int64(s)>>sizeShift[unit], 10) + unit
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText is the text that UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads 64KiB, 8MiB, 1GiB, 2TiB or a plain number of bytes.
func (s *Size) UnmarshalText(text []byte) error {
	m := sizeText.FindStringSubmatch(string(text))
	if m == nil {
		return fmt.Errorf("%q is not a size such as 64KiB, 8MiB or 1GiB", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	shift := sizeShift[m[2]]
	if err != nil || n > math.MaxInt64>>shift {
		return fmt.Errorf("size %q is too large", text)
	}
	*s = Size(n << shift)
	return nil
}

// Decimal is a decimal number kept as its text, so that no digit passes through a float.
type Decimal string

const decimalPattern = `^-?[0-9]+(\.[0-9]+)?$`

var decimalText = regexp.MustCompile(`^(-?)([0-9]+)(?:\.([0-9]+))?$`)

// MarshalText is the text as it was written.
func (d Decimal) MarshalText() ([]byte, error) { return []byte(d), nil }

// UnmarshalText takes digits with an optional sign and decimal point.
func (d *Decimal) UnmarshalText(text []byte) error {
	if !decimalText.Match(text) {
		return fmt.Errorf("%q is not a decimal number such as 12.50", text)
	}
	*d = Decimal(text)
	return nil
}

// Minor is the number in units of 10^-digits, rounded half away from zero.
func (d Decimal) Minor(digits int) (int64, error) {
	n, _, err := d.scale(digits)
	return n, err
}

// Millionths is the number in millionths; digits beyond the sixth place must be zero.
func (d Decimal) Millionths() (int64, error) {
	n, exact, err := d.scale(6)
	if err == nil && !exact {
		return 0, fmt.Errorf("%q has more than six decimal places", string(d))
	}
	return n, err
}

// scale shifts the decimal point right by digits and rounds; exact tells whether nothing was lost.
func (d Decimal) scale(digits int) (n int64, exact bool, err error) {
	m := decimalText.FindStringSubmatch(string(d))
	if m == nil {
		return 0, false, fmt.Errorf("%q is not a decimal number such as 12.50", string(d))
	}
	if digits < 0 || digits > 18 {
		return 0, false, fmt.Errorf("%d decimal places are out of range", digits)
	}
	kept, rest := m[3], ""
	if len(kept) > digits {
		kept, rest = kept[:digits], kept[digits:]
	}
	n, err = strconv.ParseInt(m[2]+kept+strings.Repeat("0", digits-len(kept)), 10, 64)
	up := rest != "" && rest[0] >= '5'
	if err != nil || up && n == math.MaxInt64 {
		return 0, false, fmt.Errorf("%q is too large", string(d))
	}
	if up {
		n++
	}
	if m[1] == "-" {
		n = -n
	}
	return n, strings.Trim(rest, "0") == "", nil
}

// Instant is a point in time written as RFC 3339 says, or empty.
type Instant struct {
	t time.Time
	// text is kept so that an instant prints back as it was written, whatever its offset.
	text string
}

// At is the instant t.
func At(t time.Time) Instant {
	t = t.UTC().Round(0)
	return Instant{t: t, text: t.Format(time.RFC3339Nano)}
}

// IsZero tells whether the instant is empty.
func (i Instant) IsZero() bool { return i.text == "" }

// Time is the instant in UTC; the zero time if empty.
func (i Instant) Time() time.Time { return i.t }

// UnixMilli is the instant in milliseconds since 1970; 0 if empty.
func (i Instant) UnixMilli() int64 {
	if i.IsZero() {
		return 0
	}
	return i.t.UnixMilli()
}

// String is the text that UnmarshalText reads.
func (i Instant) String() string { return i.text }

// MarshalText is the text that UnmarshalText reads.
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.text), nil }

// UnmarshalText reads an RFC 3339 instant or nothing.
func (i *Instant) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*i = Instant{}
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return fmt.Errorf("%q is not an instant such as 2026-01-31T00:00:00Z", text)
	}
	*i = Instant{t: t.UTC(), text: string(text)}
	return nil
}

// Scores is a range of scores from 1 to 5, written 3, 4-5 or any; the zero value is any.
type Scores struct{ Min, Max uint8 }

const scoresPattern = `^([1-5](-[1-5])?|any)$`

var scoresText = regexp.MustCompile(scoresPattern)

// String is the shortest text of the range.
func (s Scores) String() string {
	switch {
	case s == Scores{}:
		return "any"
	case s.Min == s.Max:
		return strconv.Itoa(int(s.Min))
	}
	return fmt.Sprintf("%d-%d", s.Min, s.Max)
}

// MarshalText writes the range as String.
func (s Scores) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the range.
func (s *Scores) UnmarshalText(text []byte) error {
	if !scoresText.Match(text) || len(text) == 3 && text[1] == '-' && text[0] > text[2] {
		return fmt.Errorf("%q is not a range of scores such as 3, 4-5 or any", text)
	}
	if *s = (Scores{}); text[0] != 'a' {
		s.Min, s.Max = text[0]-'0', text[len(text)-1]-'0'
	}
	return nil
}
