package pipeline

import (
	"bytes"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// quick reads records as most producers write them: an object without escapes in its strings, with few members in each of its objects and
// little depth. It accepts nothing that the strict decoder does not, and finds the same there; whatever it does not
// understand, right or wrong, is the strict decoder's (FuzzScan holds the two against each other).
type quick struct {
	b     []byte
	at    int
	names [][2]int // of the objects that are open, to see one that comes twice: where in b, so that no old record is kept for its names
	found *[fields]value
}

// Limits of what is plain.
const (
	quickDepth   = 16
	quickMembers = 32 // each name is compared with all before it
)

// scan says whether it has read all of b. What is found lies in b.
func (q *quick) scan(b []byte, found *[fields]value) bool {
	q.b, q.at, q.names, q.found = b, 0, q.names[:0], found
	if !q.next('{') || !q.members(topLevel, 1) {
		return false
	}
	q.space()
	return q.at == len(q.b)
}

// space passes over white space.
func (q *quick) space() {
	for q.at < len(q.b) && (q.b[q.at] == ' ' || q.b[q.at] == '\n' || q.b[q.at] == '\t' || q.b[q.at] == '\r') {
		q.at++
	}
}

// next passes over c, if it is what comes next.
func (q *quick) next(c byte) bool {
	q.space()
	if q.at < len(q.b) && q.b[q.at] == c {
		q.at++
		return true
	}
	return false
}

// members reads an object behind its brace. Those that are known are kept; nil knows none.
func (q *quick) members(known func([]byte) (field, bool), depth int) bool {
	if q.next('}') {
		return true
	}
	first := len(q.names)
	for {
		q.space()
		name, ok := q.text()
		if !ok || len(q.names)-first == quickMembers {
			return false
		}
		for _, before := range q.names[first:] {
			if bytes.Equal(q.b[before[0]:before[1]], name) {
				return false
			}
		}
		end := q.at - 1 // before the quote
		q.names = append(q.names, [2]int{end - len(name), end})
		if !q.next(':') {
			return false
		}
		var f field
		if known != nil {
			f, ok = known(name)
		}
		if known == nil || !ok {
			_, ok = q.value(depth)
		} else {
			ok = q.member(f, depth)
		}
		if !ok {
			return false
		}
		if q.next(',') {
			continue
		}
		q.names = q.names[:first]
		return q.next('}')
	}
}

// member reads the value of a field.
func (q *quick) member(f field, depth int) bool {
	if (f == fFX || f == fProperties) && q.next('{') {
		q.found[f].kind = '{'
		if f == fFX {
			return q.members(inFX, depth+1)
		}
		return q.members(inProperties, depth+1)
	}
	v, ok := q.value(depth)
	if ok && v.kind != 'n' {
		q.found[f] = v
	}
	return ok
}

// value reads any value; only strings and numbers have a text.
func (q *quick) value(depth int) (v value, ok bool) {
	q.space()
	if q.at == len(q.b) {
		return v, false
	}
	switch c := q.b[q.at]; c {
	case '"':
		text, ok := q.text()
		return value{'"', text}, ok
	case '{':
		q.at++
		return value{kind: '{'}, depth < quickDepth && q.members(nil, depth+1)
	case '[':
		q.at++
		return value{kind: '['}, depth < quickDepth && q.elements(depth+1)
	case 't':
		return q.literal("true")
	case 'f':
		return q.literal("false")
	case 'n':
		return q.literal("null")
	default:
		text, ok := q.number()
		return value{'0', text}, ok
	}
}

func (q *quick) elements(depth int) bool {
	if q.next(']') {
		return true
	}
	for {
		if _, ok := q.value(depth); !ok {
			return false
		}
		if !q.next(',') {
			return q.next(']')
		}
	}
}

func (q *quick) literal(word string) (value, bool) {
	if len(q.b)-q.at < len(word) || string(q.b[q.at:q.at+len(word)]) != word {
		return value{}, false
	}
	q.at += len(word)
	return value{kind: jsontext.Kind(word[0])}, true
}

// standing are the bytes of a string that stand for themselves.
var standing = func() (table [256]bool) {
	for c := range table {
		table[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return table
}()

// text reads a string.
func (q *quick) text() ([]byte, bool) {
	if q.at == len(q.b) || q.b[q.at] != '"' {
		return nil, false
	}
	b := q.b[q.at+1:]
	i, high := 0, byte(0)
	for i < len(b) && standing[b[i]] {
		high |= b[i]
		i++
	}
	if i == len(b) || b[i] != '"' || high >= utf8.RuneSelf && !utf8.Valid(b[:i]) {
		return nil, false
	}
	q.at += i + 2
	return b[:i:i], true
}

// number reads a number (RFC 8259, 6).
func (q *quick) number() ([]byte, bool) {
	from := q.at
	if q.b[q.at] == '-' {
		q.at++
	}
	if whole := q.digits(); whole == 0 || whole > 1 && q.b[q.at-whole] == '0' {
		return nil, false
	}
	if q.at < len(q.b) && q.b[q.at] == '.' {
		q.at++
		if q.digits() == 0 {
			return nil, false
		}
	}
	if q.at < len(q.b) && q.b[q.at]|0x20 == 'e' {
		q.at++
		if q.at < len(q.b) && (q.b[q.at] == '+' || q.b[q.at] == '-') {
			q.at++
		}
		if q.digits() == 0 {
			return nil, false
		}
	}
	return q.b[from:q.at:q.at], true
}

// digits passes over digits and says how many there were.
func (q *quick) digits() (n int) {
	for q.at < len(q.b) && q.b[q.at]-'0' <= 9 {
		q.at++
		n++
	}
	return n
}
