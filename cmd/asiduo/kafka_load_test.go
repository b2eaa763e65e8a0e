//go:build kafka

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/oracle"
)

// scale is how much of a load there is.
type scale struct {
	live, quiet int           // customers
	span        time.Duration // quiet customers become due within it
	close       bool          // orders of quiet customers come close to their due instants, before and after
}

var smallScale = scale{live: 240, quiet: 160, span: 40 * time.Second}

// load is what happens to the customers of a world. The live ones buy, return and complain now; what they did in the
// past ended half a day away from any whole number of days ago, so that silence changes nothing about them during the
// test, and what comes out does not depend on when it was looked at. The quiet ones only have a past, and become due
// during the test.
type load struct {
	scale
	name   string
	rng    *rand.Rand
	in     oracle.Inputs
	began  time.Time
	people []*buyer
	n      int
}

// buyer is what the load remembers of a customer.
type buyer struct {
	id     string
	orders []string
	at     map[string]time.Time
	last   []byte // value of the last record
	topic  string // of it
	due    time.Time
}

// newLoad makes a load; the names of its orders begin with name, so that two loads can share their customers.
func newLoad(name string, in oracle.Inputs, sc scale, seed uint64, now time.Time) *load {
	l := &load{scale: sc, name: name, rng: rand.New(rand.NewPCG(7, seed)), in: in, began: now.Truncate(time.Millisecond)}
	for i := range l.live + l.quiet {
		p := &buyer{id: fmt.Sprintf("kunde-%d-ü", i), at: map[string]time.Time{}}
		if quiet := i - l.live; quiet >= 0 { // the more of them there are, the closer they follow each other
			p.due = l.began.Add(time.Second + l.span*time.Duration(quiet)/time.Duration(l.quiet)).Truncate(time.Millisecond)
		}
		l.people = append(l.people, p)
	}
	return l
}

// lastDue is when the last quiet customer has become due and the grace is over.
func (l *load) lastDue() time.Time { return l.began.Add(l.span + 5*time.Second) }

// past are the records of the past, in the order of time.
func (l *load) past() (list []*kgo.Record) {
	const day = 24 * time.Hour
	for i, p := range l.people {
		last := l.began.Add(-time.Duration(1+l.rng.IntN(300))*day - 12*time.Hour + time.Duration(l.rng.IntN(10*3600)-5*3600)*time.Second)
		if i >= l.live {
			last = p.due.Add(-time.Duration([]int{30, 90, 180}[i%3]) * day)
		} else if i%4 == 0 {
			continue // new customers
		}
		for n := l.rng.IntN(6); n >= 0; n-- {
			list = append(list, l.order(p, last.Add(-time.Duration(n*9)*day), last.Add(-time.Duration(n*9)*day)))
		}
	}
	slices.SortStableFunc(list, func(a, b *kgo.Record) int { return a.Timestamp.Compare(b.Timestamp) })
	return list
}

// closeTo is a quiet customer who becomes due a few seconds before or after an instant; nil if there is none.
func (l *load) closeTo(now time.Time) *buyer {
	at := now.Add(-3*time.Second + time.Duration(l.rng.Int64N(int64(6*time.Second))))
	quiet := l.people[l.live:]
	i, _ := slices.BinarySearchFunc(quiet, at, func(p *buyer, at time.Time) int { return p.due.Compare(at) })
	if i == len(quiet) || quiet[i].due.Sub(at).Abs() > 3*time.Second {
		return nil
	}
	return quiet[i]
}

// next is what happens now to one of the live customers, or to one who is about to become due.
func (l *load) next(now time.Time) []*kgo.Record {
	now = now.Truncate(time.Millisecond)
	p := l.people[l.rng.IntN(l.live)]
	if l.close && l.rng.IntN(50) == 0 {
		if quiet := l.closeTo(now); quiet != nil {
			p = quiet
		}
	}
	switch what := l.rng.IntN(100); {
	case what < 50 || len(p.orders) == 0:
		return []*kgo.Record{l.order(p, now, now.Add(-time.Duration(l.rng.IntN(600))*time.Second))}
	case what < 56: // an order that comes late; not a whole number of days
		return []*kgo.Record{l.order(p, now, now.Add(-time.Duration(l.rng.IntN(40))*24*time.Hour-5*time.Hour))}
	case what < 68:
		return []*kgo.Record{l.correction(p, now)}
	case what < 78:
		return []*kgo.Record{l.refund(p, now)}
	case what < 83: // delivered again, at once or later
		again := l.record(p, p.topic, now, p.last)
		return []*kgo.Record{again, l.record(p, p.topic, now, p.last)}
	case what < 93:
		return []*kgo.Record{l.interaction(p, now)}
	}
	return []*kgo.Record{l.malformed(p, now)}
}

func (l *load) record(p *buyer, topic string, at time.Time, value []byte) *kgo.Record {
	p.last, p.topic = value, topic
	return &kgo.Record{Topic: topic, Key: []byte(p.id), Value: value, Timestamp: at}
}

func (l *load) object(members map[string]any) []byte {
	text, _ := json.Marshal(members) // it always can be
	return text
}

func clockText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

func (l *load) amount() string { return fmt.Sprintf("%d.%02d", l.rng.IntN(180), l.rng.IntN(100)) }

func (l *load) order(p *buyer, at, ordered time.Time) *kgo.Record {
	l.n++
	id := fmt.Sprintf("%s/%s%d", p.id, l.name, l.n)
	p.orders = append(p.orders, id)
	p.at[id] = ordered
	return l.record(p, l.in.Purchases, at, l.object(map[string]any{
		"order_id": id, "customer_id": p.id, "ordered_at": clockText(ordered), "amount": l.amount(), "currency": "EUR",
	}))
}

func (l *load) correction(p *buyer, at time.Time) *kgo.Record {
	id := p.orders[l.rng.IntN(len(p.orders))]
	return l.record(p, l.in.Purchases, at, l.object(map[string]any{
		"order_id": id, "customer_id": p.id, "ordered_at": clockText(p.at[id]), "amount": l.amount(), "currency": "EUR",
		"status":   []string{"completed", "paid", "cancelled", "refunded", "pending", "partially_refunded"}[l.rng.IntN(6)],
		"revision": l.rng.IntN(4), "updated_at": clockText(at), "refunded": "0.50", "test": l.rng.IntN(10) == 0,
	}))
}

func (l *load) refund(p *buyer, at time.Time) *kgo.Record {
	id := p.orders[l.rng.IntN(len(p.orders))]
	return l.record(p, l.in.Purchases, at, l.object(map[string]any{
		"type": "refund", "order_id": id, "customer_id": p.id, "refund_id": fmt.Sprint("r", l.rng.IntN(3)),
		"refunded_at": clockText(at), "amount": l.amount(), "currency": "EUR",
	}))
}

func (l *load) interaction(p *buyer, at time.Time) *kgo.Record {
	l.n++
	return l.record(p, l.in.Interactions, at, l.object(map[string]any{
		"id": fmt.Sprint("i", l.name, l.n), "customer_id": p.id, "at": clockText(at),
		"type":       []string{"visit", "consent", "complaint", "complaint_resolved"}[l.rng.IntN(4)],
		"properties": map[string]string{"purpose": "email", "status": []string{"granted", "denied", "revoked"}[l.rng.IntN(3)]},
	}))
}

// malformed records must not disturb anybody and come out as dead letters, each once.
func (l *load) malformed(p *buyer, at time.Time) *kgo.Record {
	order := map[string]any{
		"order_id": fmt.Sprint("bad", l.name, l.n), "customer_id": p.id, "ordered_at": clockText(at), "amount": l.amount(), "currency": "EUR",
	}
	r := &kgo.Record{Topic: l.in.Purchases, Key: []byte(p.id), Timestamp: at}
	switch l.rng.IntN(8) {
	case 0:
		r.Value = []byte("not json \xff")
	case 1:
		return r // null
	case 2:
		r.Topic, r.Value = l.in.Interactions, []byte(`{"id":"x"}`)
		return r
	case 3:
		r.Key = nil
	case 4:
		order["customer_id"] = "somebody else"
	case 5:
		order["ordered_at"] = clockText(at.Add(25 * time.Hour))
	case 6:
		order["currency"] = "NOK"
	case 7:
		order["ordered_at"] = clockText(at.Add(-731 * 24 * time.Hour))
	}
	if r.Value == nil {
		r.Value = l.object(order)
	}
	return r
}
