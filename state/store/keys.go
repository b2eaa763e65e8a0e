package store

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/asiduo/asiduo/state"
)

// Every key, one function each.
//
//	c id        a customer
//	i id        a customer's interactions
//	t time id   a timer: look at the customer at that time
//	m name      what the store knows about itself
//
// An id is a tag byte and 16 bytes for a canonical UUID, else another tag byte and the text: half the bytes for the
// most common form of customer ids.
const (
	customerPrefix    = 'c'
	interactionPrefix = 'i'
	timerPrefix       = 't'
	metaPrefix        = 'm'

	idUUID = 1
	idText = 2
)

// CustomerKey appends the key of a customer, which is also its key in the changelog.
func CustomerKey(b []byte, id string) []byte { return appendID(append(b, customerPrefix), id) }

// InteractionsKey appends the key of a customer's interactions, which is also its key in the changelog.
func InteractionsKey(b []byte, id string) []byte { return appendID(append(b, interactionPrefix), id) }

// TimerKey appends the key of a customer's timer.
func TimerKey(b []byte, at state.Instant, id string) []byte {
	return appendID(binary.BigEndian.AppendUint64(append(b, timerPrefix), uint64(at)), id)
}

func metaKey(name string) []byte { return append([]byte{metaPrefix}, name...) }

// IsCustomerKey says whether a key of the changelog is that of a customer.
func IsCustomerKey(key []byte) bool { return len(key) > 1 && key[0] == customerPrefix && isID(key[1:]) }

// IsInteractionsKey says whether a key of the changelog is that of a customer's interactions.
func IsInteractionsKey(key []byte) bool {
	return len(key) > 1 && key[0] == interactionPrefix && isID(key[1:])
}

// isID holds for what appendID writes: a UUID as text is the key of nobody.
func isID(b []byte) bool {
	if b[0] == idUUID {
		return len(b) == 17
	}
	_, is := parseUUID(b[1:])
	return b[0] == idText && len(b) > 1 && !is
}

// CustomerID is the id in the key of a customer or of interactions.
func CustomerID(key []byte) string { return idOf(key[1:]) }

func timerOf(key []byte) (state.Instant, string) {
	return state.Instant(binary.BigEndian.Uint64(key[1:])), idOf(key[9:])
}

func idOf(b []byte) string {
	if b[0] != idUUID {
		return string(b[1:])
	}
	return uuidText(b[1:17])
}

func uuidText(raw []byte) string {
	var s [36]byte
	h := s[:0]
	for i, part := range [][]byte{raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:16]} {
		if i > 0 {
			h = append(h, '-')
		}
		h = hex.AppendEncode(h, part)
	}
	return string(h)
}

// seekID is what follows the tag in the last possible key whose id, as text, is not after the given one; in the first
// possible key if there is none.
func seekID(tag byte, after string) []byte {
	if tag != idUUID {
		return []byte(after)
	}
	// UUIDs are in the order of their texts, so that the greatest one is found bit by bit.
	raw := make([]byte, 16)
	for bit := range 128 {
		mask := byte(0x80) >> (bit % 8)
		if raw[bit/8] |= mask; uuidText(raw) > after {
			raw[bit/8] &^= mask
		}
	}
	return raw
}

func appendID(b []byte, id string) []byte {
	if raw, ok := parseUUID(id); ok {
		return append(append(b, idUUID), raw[:]...)
	}
	return append(append(b, idText), id...)
}

// parseUUID takes the canonical form only, lower case with four hyphens, so that the text can be made again.
func parseUUID[T string | []byte](id T) (raw [16]byte, ok bool) {
	if len(id) != 36 {
		return raw, false
	}
	n := 0
	for i := 0; i < 36; {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if id[i] != '-' {
				return raw, false
			}
			i++
			continue
		}
		high, low := nibble(id[i]), nibble(id[i+1])
		if high > 15 || low > 15 {
			return raw, false
		}
		raw[n] = high<<4 | low
		n, i = n+1, i+2
	}
	return raw, true
}

func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
