package events_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

func TestDeadLetter(t *testing.T) {
	e := events.New("conf", 3, parameters(t), "EUR", 2)
	long := bytes.Repeat([]byte("0123456789"), 2000)
	most := long[:events.MaxDeadBytes]
	for _, c := range []struct {
		name               string
		in                 events.Rejected
		key, value         []byte
		time, cut, cutName string
		last               string
	}{
		{name: "plain", in: events.Rejected{Timestamp: 1_704_067_200_001, Key: []byte("ana"), Value: []byte("{")},
			key: []byte("ana"), value: []byte("{"), time: "2024-01-01T00:00:00.001Z"},
		{name: "nothing", in: events.Rejected{Timestamp: -1}},
		{name: "empty", in: events.Rejected{Key: []byte{}, Value: []byte{}},
			key: []byte{}, value: []byte{}, time: "1970-01-01T00:00:00.000Z"},
		{name: "batch", in: events.Rejected{Timestamp: -1, LastOffset: 1<<40 + 6}, last: "1099511627782"},
		{name: "batch of one", in: events.Rejected{Timestamp: -1, LastOffset: 1 << 40}},
		{name: "fits", in: events.Rejected{Value: most, Key: most}, key: most, value: most, time: "1970-01-01T00:00:00.000Z"},
		{name: "long", in: events.Rejected{Value: long, Key: long, Timestamp: 1 << 62}, key: most, value: most,
			cut: "20000", cutName: "20000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.Topic, c.in.Partition, c.in.Offset = "purchases", 7, 1<<40
			c.in.Reason, c.in.Detail = "undecodable", "the value ends in the middle of an object"
			r := e.DeadLetter(&c.in)
			if r.Topic != "conf.dead-letters" || !same(r.Key, c.key) || !same(r.Value, c.value) {
				t.Errorf("%s: key %.20q, value %.20q", r.Topic, r.Key, r.Value)
			}
			h := dumped(&r).Headers
			want := map[string]string{
				"ce_specversion": "1.0", "ce_type": events.DeadLetterType, "ce_source": "/asiduo/conf",
				"ce_id": "conf:3:purchases/7@1099511627776", "content-type": "application/octet-stream",
				"asiduo-reason": "undecodable", "asiduo-detail": c.in.Detail, "asiduo-topic": "purchases",
				"asiduo-partition": "7", "asiduo-offset": "1099511627776", "asiduo-last-offset": c.last,
				"ce_time": c.time, "asiduo-truncated": c.cut, "asiduo-truncated-key": c.cutName,
			}
			for name, text := range want {
				if h[name] != text {
					t.Errorf("%s is %q, want %q", name, h[name], text)
				}
			}
			schema, doc := schemaOf(t, events.DeadLetterType)
			object := map[string]any{}
			for name, text := range h {
				object[name] = text
				if doc["properties"].(map[string]any)[name] == nil {
					t.Errorf("%s is not in the schema", name)
				}
			}
			if err := schema.Validate(object); err != nil {
				t.Error(err)
			}
		})
	}
}

// same also tells null from empty.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// What is told of a customer with the longest id and consents there can be, and the longest dead letter, have no more
// than is said: the pipeline holds the topics' limits against that.
func TestMaxBytes(t *testing.T) {
	size := func(r events.Record) int {
		n := len(r.Key) + len(r.Value)
		for _, h := range r.Headers {
			n += len(h.Key) + len(h.Value) + 4
		}
		return n
	}
	long := strings.Repeat("\x01", 256)
	e := events.New(strings.Repeat("a", 100), 1<<30, parameters(t), "EUR", 2)
	n := &state.Interactions{LastAt: 1, ComplaintAt: 1, Complaining: true}
	for range 50 {
		n.Consents = append(n.Consents, state.Consent{Purpose: long, At: 1, Status: state.Revoked})
	}
	var c state.Customer
	c.Reset()
	if got, most := size(e.Profile(long, &c, n)), events.MaxEventBytes(50); got > most || got < most/2 {
		t.Errorf("a profile has %d bytes, MaxEventBytes says %d", got, most)
	}
	got := size(e.DeadLetter(&events.Rejected{
		Topic: strings.Repeat("t", 249), Partition: 1 << 30, Offset: 1 << 62, Timestamp: 1 << 62, Key: make([]byte, 1<<20), Value: make([]byte, 1<<20),
		Reason: strings.Repeat("r", 100), Detail: strings.Repeat("d", 1000),
	}))
	if got > events.MaxLetterBytes || got < events.MaxLetterBytes/2 {
		t.Errorf("a dead letter has %d bytes, MaxLetterBytes is %d", got, events.MaxLetterBytes)
	}
}
