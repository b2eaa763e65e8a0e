package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Format is the version of the encodings that are written. FORMAT.md draws them.
const Format = 1

// ErrCorrupt is returned for bytes that are not an encoding.
var ErrCorrupt = errors.New("corrupt state record")

// NewerFormatError is returned for bytes that a newer release has written.
type NewerFormatError struct{ Format byte }

func (e *NewerFormatError) Error() string {
	return fmt.Sprintf("state record of format %d; this release reads up to %d: run the newer release", e.Format, Format)
}

// Bits of a customer's flags.
const (
	hasEvaluated = 1 << iota
	hasPublished
	hasReference
	hasDue
	hasThreshold
	hasSettled
	isTruncated
)

// Bits of an order's flags, above three bits of status.
const (
	orderTest       = 1 << 3
	orderDayShift   = 4 // two bits: calendar day minus UTC day, plus one
	orderRefunded   = 1 << 6
	orderHasVersion = 1 << 7
)

// AppendTo appends the encoding of c to b. Equal facts and standing give equal bytes.
func (c *Customer) AppendTo(b []byte) []byte {
	flags := byte(0)
	set := func(on bool, bit byte) {
		if on {
			flags |= bit
		}
	}
	set(c.Evaluated, hasEvaluated)
	set(c.Published != NoSegment, hasPublished)
	set(c.Reference != None, hasReference)
	set(c.Due != Never, hasDue)
	set(c.Threshold.Days != 0, hasThreshold)
	set(c.Settled.Orders != 0, hasSettled)
	set(c.Truncated, isTruncated)
	b = append(b, Format, flags)
	if c.Evaluated {
		b = binary.AppendUvarint(b, uint64(c.EvaluatedAt))
	}
	b = append(b, c.R|c.F<<3, c.M|byte(c.Band+1)<<3, byte(c.Lifecycle))
	if c.Published != NoSegment {
		b = append(b, byte(c.Published))
		b = binary.AppendVarint(b, int64(c.EvaluatedAt-c.Since))
		b = binary.AppendUvarint(b, uint64(c.Seen))
	}
	if c.Reference != None {
		b = binary.AppendUvarint(b, uint64(c.Reference))
	}
	if c.Due != Never {
		b = binary.AppendVarint(b, int64(c.Due-c.EvaluatedAt))
	}
	if c.Threshold.Days != 0 {
		b = binary.AppendUvarint(b, uint64(c.Threshold.Days)<<2|uint64(c.Threshold.Band))
	}
	b = binary.AppendUvarint(b, c.SegmentSeq)
	b = binary.AppendUvarint(b, c.RiskSeq)
	b = binary.AppendUvarint(b, uint64(c.Versions.Rules))
	b = binary.AppendUvarint(b, uint64(c.Versions.Cuts))
	b = binary.AppendUvarint(b, uint64(c.Versions.Model))
	if c.Settled.Orders != 0 {
		b = c.Settled.appendTo(b)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Orders)))
	at := Instant(0)
	for i := range c.Orders {
		b = c.Orders[i].appendTo(b, at)
		at = c.Orders[i].OrderedAt
	}
	b = binary.AppendUvarint(b, uint64(len(c.Refunds)))
	for _, r := range c.Refunds {
		b = binary.BigEndian.AppendUint64(b, r.Order)
		b = binary.BigEndian.AppendUint64(b, r.ID)
		b = binary.AppendUvarint(b, uint64(r.At))
		b = binary.AppendUvarint(b, uint64(r.Amount))
	}
	return b
}

func (s *Settled) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(s.Orders))
	b = binary.AppendUvarint(b, uint64(s.Net))
	b = binary.AppendUvarint(b, uint64(s.First))
	b = binary.AppendUvarint(b, uint64(s.Last-s.First))
	b = binary.AppendUvarint(b, uint64(s.Days))
	b = binary.AppendVarint(b, int64(s.FirstDay))
	return binary.AppendUvarint(b, uint64(s.LastDay-s.FirstDay)<<1|uint64(bit(s.Eve)))
}

func (o *Order) appendTo(b []byte, before Instant) []byte {
	b = binary.BigEndian.AppendUint64(b, o.ID)
	b = binary.AppendUvarint(b, uint64(o.OrderedAt-before))
	flags := byte(o.Status) | byte(int64(o.Day)-int64(o.OrderedAt/Day)+1)<<orderDayShift
	if o.Test {
		flags |= orderTest
	}
	if o.Refunded != 0 {
		flags |= orderRefunded
	}
	if o.Revision != 0 || o.UpdatedAt != o.OrderedAt {
		flags |= orderHasVersion
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(o.Amount))
	if o.Refunded != 0 {
		b = binary.AppendUvarint(b, uint64(o.Refunded))
	}
	if flags&orderHasVersion != 0 {
		b = binary.AppendUvarint(b, uint64(o.Revision))
		b = binary.AppendVarint(b, int64(o.UpdatedAt-o.OrderedAt))
	}
	return b
}

// latest is the end of the year 9999: there are no later times in records, and none that a clock can be set to, so that
// sums of instants and times never overflow.
const latest Instant = 253_402_300_799_999

// Decode makes c the customer encoded in b. It keeps nothing of b. Only bytes that AppendTo can have written are
// accepted, so that nothing impossible is ever scored, and what was decoded encodes to b again.
func (c *Customer) Decode(b []byte) error {
	c.Reset()
	d := decoder{b: b}
	flags, err := d.header()
	if err != nil {
		return err
	}
	if flags&hasEvaluated != 0 {
		c.Evaluated, c.EvaluatedAt = true, d.instant()
	}
	d.check(c.EvaluatedAt <= latest)
	// What depends on an evaluation needs one, and there is no flag beyond the last.
	d.check(flags < isTruncated<<1 && (c.Evaluated || flags&(hasPublished|hasDue) == 0))
	d.standing(c, flags)
	if flags&hasSettled != 0 {
		c.Settled.decode(&d)
	}
	c.Truncated = flags&isTruncated != 0
	var before Order
	for range d.count(11) {
		o := d.order(before.OrderedAt)
		if len(c.Orders) == 0 {
			d.check(o.OrderedAt >= c.Settled.Last)
		} else {
			d.check(o.OrderedAt > before.OrderedAt || o.ID > before.ID)
		}
		c.Orders = append(c.Orders, o)
		before = o
	}
	for i := range d.count(18) {
		r := Refund{d.uint64(), d.uint64(), d.instant(), d.money()}
		d.check(r.At <= c.EvaluatedAt && (i == 0 || compareRefunds(c.Refunds[i-1], r) < 0))
		c.Refunds = append(c.Refunds, r)
	}
	d.check(max(before.OrderedAt, c.Settled.Last) <= c.EvaluatedAt) // no fact lies in the future (semantics 3.5)
	if d.bad || len(d.b) > 0 {
		return ErrCorrupt
	}
	return nil
}

// standing takes what AppendTo writes of a standing and of the due instant. Every code and score lies in its range, so
// that nobody looks up what does not exist.
func (d *decoder) standing(c *Customer, flags byte) {
	rf, mb := d.byte(), d.byte()
	c.R, c.F, c.M, c.Band = rf&7, rf>>3, mb&7, Band(mb>>3)-1
	c.Lifecycle = Lifecycle(d.byte())
	if flags&hasPublished != 0 {
		c.Published = Segment(d.byte())
		c.Since = c.EvaluatedAt - Instant(d.varint())
		c.Seen = d.uint32()
		d.check(c.Published != NoSegment && c.Since >= 0 && c.Since <= c.EvaluatedAt)
	}
	if flags&hasReference != 0 {
		c.Reference = Millionths(d.atMost(uint64(One)))
	}
	if flags&hasDue != 0 {
		c.Due = c.EvaluatedAt + Instant(d.varint())
		d.check(c.Due > c.EvaluatedAt && c.Due < Never)
	}
	if flags&hasThreshold != 0 {
		v := d.atMost(lastChurnDay<<2 | 3)
		c.Threshold = Threshold{int(v >> 2), Band(v & 3)}
		d.check(c.Threshold.Days > 0)
	}
	c.SegmentSeq, c.RiskSeq = d.uvarint(), d.uvarint()
	c.Versions = Versions{d.uint32(), d.uint32(), d.uint32()}
	d.check((c.Band == NoBand) == (c.Reference == None)) // who is in a band was told so
	d.check(max(c.R, c.F, c.M) <= 5 && c.Published < MaxSegments && c.Band <= High && c.Threshold.Band <= High &&
		int(c.Lifecycle) < len(lifecycleNames))
}

func (s *Settled) decode(d *decoder) {
	s.Orders, s.Net = int64(d.atMost(math.MaxInt64)), Money(d.atMost(math.MaxInt64))
	s.First = d.instant()
	s.Last = s.First + d.instant()
	s.Days = int64(d.atMost(uint64(s.Orders)))
	first := d.varint()
	span := d.atMost(math.MaxUint32)
	last := first + int64(span>>1)
	s.FirstDay, s.LastDay, s.Eve = int32(first), int32(last), span&1 != 0
	d.check(s.Days > 0 && s.Last >= s.First && int64(s.FirstDay) == first && int64(s.LastDay) == last)
}

// AppendTo appends the encoding of n to b. Equal facts give equal bytes.
func (n *Interactions) AppendTo(b []byte) []byte {
	flags := byte(0)
	if n.Complaining {
		flags |= 1
	}
	if n.Truncated {
		flags |= 2
	}
	b = append(b, Format, flags)
	b = binary.AppendUvarint(b, uint64(n.LastAt))
	b = binary.AppendUvarint(b, uint64(n.ComplaintAt))
	b = binary.AppendUvarint(b, uint64(len(n.Consents)))
	for _, c := range n.Consents {
		b = binary.AppendUvarint(b, uint64(len(c.Purpose)))
		b = append(b, c.Purpose...)
		b = binary.AppendUvarint(b, uint64(c.At))
		b = append(b, byte(c.Status))
	}
	return b
}

// Decode makes n the interactions encoded in b. It keeps nothing of b, and is as strict as that of a customer.
func (n *Interactions) Decode(b []byte) error {
	n.Reset()
	d := decoder{b: b}
	flags, err := d.header()
	if err != nil {
		return err
	}
	d.check(flags <= 3)
	n.Complaining, n.Truncated = flags&1 != 0, flags&2 != 0
	n.LastAt, n.ComplaintAt = d.instant(), d.instant()
	before := ""
	for range d.count(4) {
		c := Consent{Purpose: d.string(), At: d.instant(), Status: ConsentStatus(d.byte())}
		if d.check(c.Purpose > before && c.Status <= Revoked); d.bad {
			break
		}
		n.Consents = append(n.Consents, c)
		before = c.Purpose
	}
	if d.bad || len(d.b) > 0 {
		return ErrCorrupt
	}
	return nil
}

// decoder takes fields from the front of b. After a fault everything is zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) header() (flags byte, err error) {
	if len(d.b) < 2 || d.b[0] == 0 {
		return 0, ErrCorrupt
	}
	if d.b[0] > Format {
		return 0, &NewerFormatError{d.b[0]}
	}
	flags = d.b[1]
	d.b = d.b[2:]
	return flags, nil
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

// check holds something that is true of everything that was ever encoded.
func (d *decoder) check(holds bool) {
	if !holds {
		d.fail()
	}
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uint64() uint64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

// uvarint takes the shortest form only: the last byte of several is not 0.
func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 {
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1) // zigzag, as binary.AppendVarint writes it
}

func (d *decoder) atMost(most uint64) uint64 {
	v := d.uvarint()
	if v > most {
		d.fail()
		return 0
	}
	return v
}

func (d *decoder) uint32() uint32   { return uint32(d.atMost(math.MaxUint32)) }
func (d *decoder) money() Money     { return Money(d.atMost(uint64(MaxMoney))) }
func (d *decoder) instant() Instant { return Instant(d.atMost(uint64(Never))) }

// count is a number of things of which each takes at least size bytes, so that a fault cannot ask for much memory.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.count(1)
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) order(before Instant) (o Order) {
	o.ID = d.uint64()
	o.OrderedAt = before + d.instant()
	flags := d.byte()
	shift := flags >> orderDayShift & 3
	o.Status, o.Test = Status(flags&7), flags&orderTest != 0
	o.Day = int32(int64(o.OrderedAt/Day) + int64(shift) - 1)
	o.Amount = d.money()
	o.UpdatedAt = o.OrderedAt
	if flags&orderRefunded != 0 {
		o.Refunded = d.money()
		d.check(o.Refunded != 0)
	}
	if flags&orderHasVersion != 0 {
		o.Revision = int64(d.atMost(math.MaxInt64))
		o.UpdatedAt += Instant(d.varint())
		d.check(o.UpdatedAt >= 0 && (o.Revision != 0 || o.UpdatedAt != o.OrderedAt))
	}
	d.check(o.OrderedAt >= 0 && o.OrderedAt/Day < math.MaxInt32 && shift <= 2 && o.Status <= Voided)
	return o
}
