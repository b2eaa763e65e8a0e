package oracle

import (
	"encoding/json"
	"math/bits"
	"strconv"
	"time"

	"pgregory.net/rapid"
)

// step is one record of a generated log, as integers so that it shrinks well: all
// zeros is a plain order a day after the customer's last record.
type step struct {
	what           int // of 128: order, refund, interaction, repetition, fault
	who            int
	id             int // of the order
	advance, k     int // how the timestamp follows from the log so far
	jitter         int // milliseconds off a boundary
	age, j, offset int // how the record's own time follows from the timestamp
	amount, form   int
	status         int
	revision       int
	updated        int
	refunded       int
	refundID       int
	currency       int
	kind           int // of the interaction
	flags          int // test order, backfill header
	fault, second  int
}

var coin = rapid.Bool()

// uniform draws one of 0..most from single bits, because rapid's own ranges
// favour small numbers so much that kinds late in a list would hardly occur.
func uniform(t *rapid.T, label string, most int) int {
	n := 0
	for range bits.Len(uint(most)) {
		n *= 2
		if coin.Draw(t, label) {
			n++
		}
	}
	return n % (most + 1)
}

func drawStep(t *rapid.T) step {
	n := func(label string, most int) int { return uniform(t, label, most) }
	jitter := func(label string) int { return []int{0, 1, -1, 2}[uniform(t, label, 3)] }
	s := step{
		what: n("what", 127), who: n("who", 5), id: n("id", 11),
		advance: n("advance", 15), k: n("k", 63), jitter: jitter("jitter"),
		age: n("age", 15), j: n("j", 63), offset: jitter("offset"),
		amount: n("amount", 7), form: n("form", 3), refunded: n("refunded", 15), currency: n("currency", 15),
		flags: n("flags", 31),
	}
	switch {
	case s.what < shareOrders || s.what >= shareRepeats:
		s.status, s.revision, s.updated = n("status", 15), n("revision", 3), n("updated", 7)
		s.fault, s.second = n("fault", len(faults)-1), n("second fault", 4*len(faults))
	case s.what < shareRefunds:
		s.refundID = n("refund", 2)
	case s.what < shareInteractions:
		s.kind = n("kind", 7)
	}
	return s
}

// Upper ends, of 128, of the kinds of steps; what is left are faults.
const (
	shareOrders       = 70
	shareRefunds      = 88
	shareInteractions = 103
	shareRepeats      = 114
)

// Logs generates logs of few customers whose records lie on and around the
// boundaries of cfg, with repetitions, disorder and malformed records.
func Logs(cfg Config) *rapid.Generator[[]Record] {
	return rapid.Custom(func(t *rapid.T) []Record {
		customers := rapid.IntRange(1, len(customerIDs)).Draw(t, "customers")
		atLeast := rapid.SampledFrom([]int{1, 8, 24, 48}).Draw(t, "at least")
		steps := rapid.SliceOfN(rapid.Custom(drawStep), atLeast, 60).Draw(t, "steps")
		p, err := newPlan(cfg)
		if err != nil {
			t.Fatalf("%v", err)
		}
		w := writer{plan: p, people: make([]person, customers), offsets: map[place]int64{}}
		for i := range w.people {
			w.people[i] = person{id: customerIDs[i], clock: firstInstant, orders: map[string]known{}}
		}
		for _, s := range steps {
			w.write(s)
		}
		return w.log
	})
}

var customerIDs = []string{"ana", "bob", "cy:s1", "d d", "ümit", "日本"}

type place struct {
	topic     string
	partition int32
}

// known is what the writer remembers of an order, to revise and refund it.
type known struct{ at, amount int64 }

// person is what the writer remembers of a customer, to aim at its boundaries.
type person struct {
	id     string
	clock  int64 // the latest timestamp
	last   int64 // the latest ordered_at
	placed []int64
	ids    []string
	orders map[string]known
}

// writer turns steps into records.
type writer struct {
	plan    *plan
	people  []person
	offsets map[place]int64
	log     []Record
}

func (w *writer) write(s step) {
	if s.what >= shareInteractions && s.what < shareRepeats {
		w.repeat(s)
		return
	}
	who := &w.people[s.who%len(w.people)]
	ts := max(w.timestamp(who, s), firstInstant-30*day)
	if ts < who.clock && s.advance != 6 && s.form > 0 {
		ts = who.clock // most of the boundaries already passed make ties instead of disorder
	}
	who.clock = max(who.clock, ts)
	d := draft{plan: w.plan, topic: w.plan.Inputs.Purchases, timestamp: ts, key: []byte(who.id), customer: who.id}
	d.at = w.ownTime(who, s, ts)
	switch {
	case s.what >= shareRefunds && s.what < shareInteractions:
		d.topic = w.plan.Inputs.Interactions
		w.interaction(&d, s)
	case s.what >= shareOrders && s.what < shareRefunds || s.what >= shareRepeats && s.kindOfFault() == 1:
		w.refund(&d, who, s)
	case s.what >= shareRepeats && s.kindOfFault() == 2:
		d.topic = w.plan.Inputs.Interactions
		w.interaction(&d, s)
	default:
		w.order(&d, who, s)
	}
	if s.what >= shareRepeats {
		faults[s.fault](&d)
		if s.second < len(faults) {
			faults[s.second](&d)
		}
	}
	r := Record{Topic: d.topic, Timestamp: ts, Key: d.key, Value: d.value()}
	if s.flags%8 == 5 {
		r.Headers = map[string]string{"asiduo-mode": []string{"backfill", "live", "backfill", "backfill"}[s.flags/8]}
	}
	w.append(r)
}

// kindOfFault spreads faults over orders (0), refunds (1) and interactions (2).
func (s step) kindOfFault() int { return max(0, s.amount-5) }

// append gives the record its partition and offset.
func (w *writer) append(r Record) {
	r.Partition = partitionOf(r.Key, w.plan.Partitions)
	at := place{r.Topic, r.Partition}
	r.Offset = w.offsets[at]
	w.offsets[at]++
	w.log = append(w.log, r)
}

// repeat writes an earlier record again, with its own or with a later timestamp.
func (w *writer) repeat(s step) {
	if len(w.log) == 0 {
		return
	}
	r := w.log[len(w.log)-1-s.k%len(w.log)]
	if s.form == 3 {
		r.Timestamp += int64(s.j) * day
	}
	w.append(r)
}

// timestamp aims the record's Kafka timestamp at a boundary of the customer.
func (w *writer) timestamp(who *person, s step) int64 {
	p, jitter, k := w.plan, int64(s.jitter), int64(s.k)
	switch s.advance {
	case 1:
		return who.clock
	case 2:
		return who.clock + k
	case 3:
		return who.last + p.recency[k%4] + jitter
	case 4:
		if len(who.placed) > 0 {
			return who.placed[k%int64(len(who.placed))] + p.window + jitter
		}
	case 5:
		return who.last + k*day + jitter
	case 6:
		return who.clock - k*day/8
	case 7:
		return clockChange(p.zone, who.clock, 1) + jitter
	case 8:
		return midnight(p.zone, who.clock+day) + jitter
	case 9:
		if p.liveFrom != nil && s.k%2 == 0 {
			return *p.liveFrom + jitter
		}
		return p.end + jitter
	case 10:
		return who.clock + k*10*day + jitter
	}
	return who.clock + (k%10+1)*day
}

// ownTime aims the time inside the record at a boundary, seen from its timestamp.
func (w *writer) ownTime(who *person, s step, ts int64) int64 {
	p, jitter, j := w.plan, int64(s.offset), int64(s.j)
	future := p.Limits.FutureHours * 3_600_000
	at := ts
	switch s.age {
	case 1, 2:
		at = ts - j*60_000
	case 3:
		at = ts - p.recency[j%4] + jitter
	case 4:
		at = ts - p.window + jitter
	case 5:
		at = ts + min(j*60_000, future)
	case 6:
		at = ts - j*day
	case 7:
		if old, there := who.orders[orderID(s)]; there {
			at = old.at
		}
	case 8:
		at = clockChange(p.zone, ts, -1) + jitter
	case 9:
		at = midnight(p.zone, ts) + jitter
	case 10:
		at = ts + future + jitter - 1
	}
	return max(at, 0)
}

func (w *writer) order(d *draft, who *person, s step) {
	amount := w.amountOf(s)
	id := orderID(s)
	if d.at <= d.timestamp {
		if _, there := who.orders[id]; !there {
			who.ids = append(who.ids, id)
		}
		who.orders[id] = known{d.at, amount}
		who.placed = append(who.placed, d.at)
		who.last = max(who.last, d.at)
	}
	d.set("order_id", quote(id))
	d.set("customer_id", quote(who.id))
	d.setTime("ordered_at", d.at, s.form)
	d.setMoney("amount", amount, s)
	d.setCurrency(s)
	if status := s.status - 5; status >= 0 {
		d.set("status", quote([]string{"completed", "paid", "partially_refunded", "completed", "paid", "pending",
			"refunded", "cancelled", "voided", "completed", "paid"}[status]))
	}
	if s.revision > 0 {
		d.set("revision", strconv.Itoa(s.revision))
	}
	switch hours := int64(s.j) * 3_600_000; s.updated {
	case 1, 2:
		d.setTime("updated_at", d.timestamp, s.form)
	case 3:
		d.setTime("updated_at", max(0, d.timestamp-hours), s.form)
	case 4:
		d.setTime("updated_at", d.timestamp+hours/60, s.form)
	}
	switch s.refunded {
	case 13:
		d.setMoney("refunded", amount/2, s)
	case 14:
		d.setMoney("refunded", amount, s)
	case 15:
		d.setMoney("refunded", int64(s.j), s)
	}
	if s.flags == 11 || s.flags == 12 {
		d.set("test", "true")
	}
}

func (w *writer) refund(d *draft, who *person, s step) {
	amount := w.amountOf(s)
	id := orderID(s)
	if _, there := who.orders[id]; !there && len(who.ids) > 0 && s.j%8 > 0 {
		id = who.ids[s.id%len(who.ids)] // most refunds are of orders that came before
	}
	if old, there := who.orders[id]; there {
		amount = []int64{old.amount, old.amount / 2, old.amount / 2, old.amount - 1}[s.amount%4]
	}
	d.set("type", quote("refund"))
	d.set("order_id", quote(id))
	d.set("customer_id", quote(who.id))
	d.set("refund_id", quote("r"+strconv.Itoa(s.refundID)))
	d.setTime("refunded_at", d.at, s.form)
	d.setMoney("amount", max(1, amount), s)
	d.setCurrency(s)
}

func (w *writer) interaction(d *draft, s step) {
	kind := []string{"visit", "consent", "complaint", "complaint_resolved", "consent", "review", "visit", "complaint"}[s.kind]
	d.set("id", quote("i"+strconv.Itoa(s.k)))
	d.set("customer_id", quote(d.customer))
	d.set("type", quote(kind))
	d.setTime("at", d.at, s.form)
	if kind == "consent" {
		d.set("properties", `{"purpose":"`+[]string{"email", "sms"}[s.id%2]+`","status":"`+consentStatuses[s.j%3]+`"}`)
	}
}

// amountOf aims at the money cuts.
func (w *writer) amountOf(s step) int64 {
	cuts := w.plan.moneyCuts
	switch s.amount {
	case 0, 1:
		return max(0, cuts[s.j%4]+int64(s.offset))
	case 2, 3:
		return cuts[s.j%4] / 2
	case 4:
		return int64(s.j % 3)
	case 5:
		return cuts[s.j%4] - cuts[0] + 1
	}
	return int64(s.j) * 100
}

func orderID(s step) string { return "o" + strconv.Itoa(s.id) }

func quote(s string) string {
	text, _ := json.Marshal(s) // a string always can be
	return string(text)
}

// midnight is the begin of the calendar day of an instant.
func midnight(zone *time.Location, at int64) int64 {
	y, m, d := time.UnixMilli(at).In(zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, zone).UnixMilli()
}

// clockChange is the next (direction 1) or previous (-1) change of a zone's offset, or
// the instant itself in a zone without any.
func clockChange(zone *time.Location, at, direction int64) int64 {
	start, end := time.UnixMilli(at).In(zone).ZoneBounds()
	switch {
	case direction > 0 && !end.IsZero():
		return end.UnixMilli()
	case direction < 0 && !start.IsZero():
		return start.UnixMilli()
	}
	return at
}
