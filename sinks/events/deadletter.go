package events

import (
	"strconv"

	"github.com/asiduo/asiduo/state"
)

// MaxDeadBytes is what is kept of the key and of the value of a record that cannot be used.
const MaxDeadBytes = 16 << 10

// MaxLetterBytes is more than a whole dead letter has.
const MaxLetterBytes = 2*MaxDeadBytes + 4<<10

// MaxEventBytes is more than any change or profile of a customer with so many consent purposes has: ids and purposes
// of up to 256 bytes, of which JSON may make six each.
func MaxEventBytes(purposes int) int { return 24<<10 + 1700*purposes }

// Headers of a dead letter, besides those of CloudEvents. Numbers are decimal.
const (
	ReasonHeader       = "asiduo-reason"        // a word: which check failed
	DetailHeader       = "asiduo-detail"        // a sentence
	TopicHeader        = "asiduo-topic"         // where the record was read
	PartitionHeader    = "asiduo-partition"     //
	OffsetHeader       = "asiduo-offset"        //
	LastOffsetHeader   = "asiduo-last-offset"   // only if it stands for several records: the offset of the last
	TimestampHeader    = "asiduo-timestamp"     // the record's, milliseconds since 1970-01-01T00:00:00Z
	TruncatedHeader    = "asiduo-truncated"     // only if the value is cut: its length in bytes
	TruncatedKeyHeader = "asiduo-truncated-key" // only if the key is cut: its length in bytes
)

// Rejected is an input record that cannot be used. Detail must not hold personal data: it also goes where people look
// for errors.
type Rejected struct {
	Topic      string
	Partition  int32
	Offset     int64
	LastOffset int64 // of a batch that cannot be read: that of its last record
	Timestamp  int64 // milliseconds since 1970-01-01T00:00:00Z; less than 0 if the record has none
	Key        []byte
	Value      []byte
	Reason     string
	Detail     string
}

// lastRFC3339 is the end of the times that can be written with four digits of the year.
const lastRFC3339 state.Instant = 253_402_300_799_999

// DeadLetter is the record of what could not be used: key and value as they came, both cut at MaxDeadBytes so that the
// letter always fits where the record did, and headers that say where it was and why. One letter may stand for a batch
// that cannot be read. It holds on to key and value.
func (e *Encoder) DeadLetter(r *Rejected) Record {
	d := letter{
		b: make([]byte, 0, len(e.idPrefix)+2*len(r.Topic)+len(r.Reason)+len(r.Detail)+160),
		h: make([]Header, 0, 16),
	}
	d.share("ce_specversion", specVersion)
	d.share("ce_type", deadType)
	d.share("ce_source", e.source)
	d.b = append(d.b, e.idPrefix...)
	d.b = append(d.b, r.Topic...)
	d.b = append(d.b, '/')
	d.b = strconv.AppendInt(d.b, int64(r.Partition), 10)
	d.b = append(d.b, '@')
	d.b = strconv.AppendInt(d.b, r.Offset, 10)
	d.own("ce_id")
	if at := state.Instant(r.Timestamp); at >= 0 && at <= lastRFC3339 {
		d.b = AppendTime(d.b, at)
		d.own("ce_time")
	}
	d.share("content-type", anyContent)
	d.text(ReasonHeader, r.Reason)
	d.text(DetailHeader, r.Detail)
	d.text(TopicHeader, r.Topic)
	d.number(PartitionHeader, int64(r.Partition))
	d.number(OffsetHeader, r.Offset)
	if r.LastOffset > r.Offset {
		d.number(LastOffsetHeader, r.LastOffset)
	}
	d.number(TimestampHeader, r.Timestamp)
	key, value := r.Key, r.Value
	if len(value) > MaxDeadBytes {
		d.number(TruncatedHeader, int64(len(value)))
		value = value[:MaxDeadBytes:MaxDeadBytes]
	}
	if len(key) > MaxDeadBytes {
		d.number(TruncatedKeyHeader, int64(len(key)))
		key = key[:MaxDeadBytes:MaxDeadBytes]
	}
	return Record{Topic: e.deadTopic, Key: key, Value: value, Headers: d.h}
}

// letter is the headers of a dead letter under construction, with one buffer for their values.
type letter struct {
	b    []byte
	done int // of b, in headers
	h    []Header
}

func (d *letter) share(name string, value []byte) { d.h = append(d.h, Header{name, value}) }

// own makes a header of what was appended to the buffer since the last one.
func (d *letter) own(name string) {
	d.share(name, d.b[d.done:len(d.b):len(d.b)])
	d.done = len(d.b)
}

func (d *letter) text(name, value string) {
	d.b = append(d.b, value...)
	d.own(name)
}

func (d *letter) number(name string, value int64) {
	d.b = strconv.AppendInt(d.b, value, 10)
	d.own(name)
}
