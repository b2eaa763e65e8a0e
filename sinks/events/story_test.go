package events_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
)

// parameters are those of the conformance cases.
func parameters(t testing.TB) *state.Parameters {
	t.Helper()
	rules, err := state.NewRuleSet("rfm11", state.RFM11())
	if err != nil {
		t.Fatal(err)
	}
	return &state.Parameters{
		Recency:   [4]state.Instant{30 * state.Day, 90 * state.Day, 180 * state.Day, 365 * state.Day},
		Frequency: [4]int{2, 3, 5, 10},
		Money:     [4]state.Money{50_00, 100_00, 200_00, 400_00},
		Window:    730 * state.Day,
		Rules:     rules,
		Churn: state.Churn{
			Method: state.ByMBGNBD, MBGNBD: model.MBGNBD{R: 1, Alpha: 30, A: 1, B: 1}, Horizon: 90,
			Bands: [2]state.Millionths{330_000, 660_000}, Hysteresis: 30_000, Jump: 150_000,
		},
		Limits: state.Limits{Orders: 512, Refunds: 1024, Purposes: 32},
	}
}

func at(t testing.TB, text string) state.Instant {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return state.Instant(v.UnixMilli())
}

// story drives one customer through facts and keeps every record that comes of it.
type story struct {
	t       testing.TB
	p       *state.Parameters
	e       *events.Encoder
	say     state.Telling
	name    string
	c       *state.Customer
	n       *state.Interactions
	records []events.Record
}

func newStory(t testing.TB, name string) *story {
	p := parameters(t)
	return &story{t: t, p: p, e: events.New("conf", 1, p, "EUR", 2), name: name}
}

// customer is created by the first order or refund.
func (s *story) customer() *state.Customer {
	if s.c == nil {
		s.c = new(state.Customer)
		s.c.Reset()
	}
	return s.c
}

func (s *story) tell(changes []state.Change) {
	for i := range changes {
		s.records = append(s.records, s.e.Change(s.name, &changes[i], s.n))
	}
}

func (s *story) until(text string) *story {
	if s.c != nil {
		s.tell(s.c.Advance(s.p, at(s.t, text), s.say, nil))
	}
	return s
}

func (s *story) fact(f state.Fact) *story {
	c := s.customer()
	s.tell(c.Advance(s.p, f.At, s.say, nil))
	if why := c.Refuse(s.p, &f); why != "" {
		s.t.Fatalf("refused: %s", why)
	}
	s.tell(c.Apply(s.p, &f, s.say, nil))
	return s
}

// order is a version of an order that is known at once; its revision is the instant.
func (s *story) order(id uint64, known, ordered string, amount state.Money, status state.Status) *story {
	now, then := at(s.t, known), at(s.t, ordered)
	return s.fact(state.Fact{Kind: state.OrderFact, At: now, Order: state.Order{
		ID: id, Revision: int64(now), UpdatedAt: now, OrderedAt: then, Day: int32(then / state.Day),
		Amount: amount, Status: status,
	}})
}

func (s *story) bought(id uint64, when string, amount state.Money) *story {
	return s.order(id, when, when, amount, state.Completed)
}

func (s *story) refund(order, id uint64, when string, amount state.Money) *story {
	now := at(s.t, when)
	return s.fact(state.Fact{Kind: state.RefundFact, At: now, Refund: state.Refund{Order: order, ID: id, At: now, Amount: amount}})
}

func (s *story) interaction(i state.Interaction) *story {
	if s.n == nil {
		s.n = new(state.Interactions)
	}
	if why := s.n.Apply(&s.p.Limits, &i); why != "" {
		s.t.Fatalf("refused: %s", why)
	}
	return s
}

func (s *story) consent(when, purpose string, status state.ConsentStatus) *story {
	return s.interaction(state.Interaction{At: at(s.t, when), Purpose: purpose, Consent: status})
}

func (s *story) profile() *story {
	s.records = append(s.records, s.e.Profile(s.name, s.c, s.n))
	return s
}

// dump is a record as people read it.
type dump struct {
	Topic   string            `json:"topic"`
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	Value   json.RawMessage   `json:"value"`
}

func dumped(r *events.Record) dump {
	d := dump{Topic: r.Topic, Key: string(r.Key), Headers: map[string]string{}, Value: r.Value}
	for _, h := range r.Headers {
		if _, twice := d.Headers[h.Key]; twice {
			panic("header twice: " + h.Key)
		}
		d.Headers[h.Key] = string(h.Value)
	}
	return d
}

// decode reads a value; numbers stay as they are written.
func decode(t testing.TB, value []byte) map[string]any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, value)
	}
	return v
}

// silentDecay is case 01 of the conformance set: twelve orders, and one.
func silentDecay(t testing.TB) []*story {
	ana, bob := newStory(t, "ana"), newStory(t, "bob")
	for i := range 12 {
		ana.bought(uint64(i+1), events.TimeText(at(t, "2023-06-01T10:00:00Z")+state.Instant(20*i)*state.Day), 45_00)
	}
	bob.bought(1, "2023-12-01T12:00:00Z", 500_00)
	for _, s := range []*story{ana, bob} {
		s.until("2026-06-01T00:00:00Z").profile()
	}
	return []*story{ana, bob}
}

// prospects is part of case 15: an order that counts for a while, only interactions, and an order that never counts.
func prospects(t testing.TB) []*story {
	ana, bob, cyd := newStory(t, "ana"), newStory(t, "bob"), newStory(t, "cyd")
	ana.interaction(state.Interaction{At: at(t, "2024-01-01T00:00:00Z")}).
		consent("2024-01-02T00:00:00Z", "email", state.Granted).
		consent("2024-01-01T12:00:00Z", "email", state.Denied).
		consent("2024-01-04T00:00:00Z", "profiling", state.Granted).
		consent("2024-01-04T00:00:00Z", "profiling", state.Revoked).
		interaction(state.Interaction{At: at(t, "2024-01-05T00:00:00Z"), Complaint: state.Complained}).
		interaction(state.Interaction{At: at(t, "2024-01-05T00:00:00Z"), Complaint: state.Resolved}).
		order(1, "2024-01-10T00:00:00Z", "2024-01-10T00:00:00Z", 60_00, state.Pending).
		order(1, "2024-01-11T00:00:00Z", "2024-01-10T00:00:00Z", 60_00, state.Paid).
		order(1, "2024-01-14T00:00:00Z", "2024-01-10T00:00:00Z", 60_00, state.Voided).
		profile()
	bob.interaction(state.Interaction{At: at(t, "2024-01-06T00:00:00Z"), Complaint: state.Complained}).
		interaction(state.Interaction{At: at(t, "2024-01-07T00:00:00Z"), Complaint: state.Resolved}).
		interaction(state.Interaction{At: at(t, "2024-01-03T00:00:00Z")}).
		profile()
	cyd.order(1, "2024-01-12T00:00:00Z", "2024-01-12T00:00:00Z", 60_00, state.Cancelled).profile()
	return []*story{ana, bob, cyd}
}

// returns is a story with the rest: backfill, refunds, a win-back, versions, and names that need escaping.
func returns(t testing.TB) []*story {
	s := newStory(t, "eva \"v\u2028d\u2029\\\t\x01é\U0001F600")
	s.p.Versions = state.Versions{Rules: 1, Cuts: 22, Model: 333}
	s.say = state.Telling{LiveFrom: at(t, "2024-01-01T00:00:00Z"), EmitBackfill: true}
	s.bought(1, "2023-02-01T08:30:00.123Z", 80_00).profile().
		consent("2023-02-02T00:00:00Z", "e-mail", state.Granted).
		consent("2023-02-02T00:00:00Z", "a \"quoted\" purpose", state.Denied).
		interaction(state.Interaction{At: at(t, "2024-02-20T00:00:00Z"), Complaint: state.Complained}).
		until("2024-02-01T00:00:00Z").
		bought(2, "2024-02-10T09:00:00Z", 120_00).
		bought(3, "2024-02-15T09:00:00Z", 130_05).profile().
		refund(3, 1, "2024-02-19T09:00:00Z", 130_05).
		refund(2, 1, "2024-02-20T09:00:00Z", 120_00).
		order(1, "2024-02-21T00:00:00Z", "2023-02-01T08:30:00.123Z", 80_00, state.Refunded).profile().
		bought(4, "2024-02-22T10:00:00Z", 0_05).profile()
	return []*story{s}
}

func records(stories []*story) (all []events.Record) {
	for _, s := range stories {
		all = append(all, s.records...)
	}
	return all
}

func everything(t testing.TB) map[string][]events.Record {
	return map[string][]events.Record{
		"silent-decay": records(silentDecay(t)),
		"prospects":    records(prospects(t)),
		"returns":      records(returns(t)),
	}
}

func describe(r *events.Record) string {
	return fmt.Sprintf("%s %s", r.Topic, dumped(r).Headers["ce_id"])
}
