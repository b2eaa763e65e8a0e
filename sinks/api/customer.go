package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// ownerTimeout bounds the search for who serves a customer.
const ownerTimeout = 2 * time.Second

// record is all that is known about a customer.
type record struct {
	customer     *state.Customer     // nil: no order or refund has been seen
	interactions *state.Interactions // nil: none
	params       *state.Parameters   // that the customer stands under
}

func (r *record) unknown() bool { return r.customer == nil && r.interactions == nil }

// customer shows one customer.
func (s *server) customer(w http.ResponseWriter, r *http.Request) {
	id, ok := customerID(w, r, "/v1/customers/{id}")
	if !ok {
		return
	}
	rec, err := s.read(id)
	switch {
	case errors.Is(err, store.ErrClosed):
		s.elsewhere(w, r, id)
	case err != nil:
		s.broken(w, "read customer", err)
	case rec.unknown():
		unknown(w)
	default:
		write(w, http.StatusOK, s.show(id, rec))
	}
}

func unknown(w http.ResponseWriter) {
	fail(w, http.StatusNotFound, "unknown_customer", "Nothing is known about this customer.")
}

func notServed(w http.ResponseWriter) {
	unavailable(w, "not_served", "This is not served here at the moment.")
}

// read takes what one view knows about a customer.
func (s *server) read(id string) (rec record, err error) {
	v, err := s.o.View(id)
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if rec.params = v.Params; rec.params == nil {
		rec.params = s.o.Params()
	}
	var c state.Customer
	var n state.Interactions
	if known, err := v.Customer(id, &c); err != nil {
		return rec, err
	} else if known {
		rec.customer = &c
	}
	if known, err := v.Interactions(id, &n); err != nil {
		return rec, err
	} else if known {
		rec.interactions = &n
	}
	return rec, nil
}

// elsewhere sends the client to the process that serves the customer, if there is one.
func (s *server) elsewhere(w http.ResponseWriter, r *http.Request, id string) {
	if s.o.Owner == nil {
		notServed(w)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), ownerTimeout)
	defer cancel()
	base, err := s.o.Owner(ctx, id)
	if err != nil && r.Context().Err() == nil {
		s.o.Log.Warn("find the owner of a customer", "err", err)
	}
	u, bad := url.Parse(base)
	// A token that came over TLS must not go on without it. While shards move, who asks us may be told that it is us.
	plain := r.TLS != nil && bad == nil && u.Scheme == "http"
	if err != nil || plain || bad != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Host == r.Host {
		notServed(w)
		return
	}
	location := strings.TrimRight(base, "/") + r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		location += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// nobody is the profile of a customer of whom no order or refund has been seen.
var nobody = state.Profile{
	Standing:    state.Standing{Band: state.NoBand, Reference: state.None},
	Next:        state.Transition{At: state.Never},
	ThresholdAt: state.Never,
}

// show is what is told about a customer.
func (s *server) show(id string, rec record) wireCustomer {
	p, c := nobody, rec.customer
	now, clock := s.o.Now()
	var evaluated, due *string
	risk := state.Risk{Chance: state.None}
	if c != nil {
		now, clock = max(now, c.EvaluatedAt), true
		p, risk = c.Profile(rec.params), c.Risk(rec.params, now)
		evaluated, due = timeText(c.EvaluatedAt, c.Evaluated), timeText(c.Due, c.Due != state.Never)
	}
	out := wireCustomer{
		CustomerID: id,
		Segment:    s.segment(p.Published), Since: timeText(p.Since, p.Published != state.NoSegment),
		R: p.R, F: p.F, M: p.M, Lifecycle: p.Lifecycle.String(),
		Churn:        s.churn(rec.params, &p, &risk),
		Metrics:      s.figures(rec.params, &p.Figures, now),
		Orders:       []wireOrder{},
		Refunds:      []wireRefund{},
		Interactions: interactions(rec.interactions),
		Sequences:    wireSequences{p.SegmentSeq, p.RiskSeq},
		EvaluatedAt:  evaluated, AsOf: timeText(now, clock), DueAt: due,
		Truncated: rec.interactions != nil && rec.interactions.Truncated,
	}
	if p.Next.At != state.Never {
		out.NextTransition = &wireTransition{s.segment(p.Next.Segment), timeText(p.Next.At, true)}
	}
	if c != nil {
		out.Orders, out.Refunds = s.ledger(&c.Ledger)
		out.Versions = versions(p.Versions)
		if w := c.Worth(rec.params, now); w.Known {
			out.Value = &wireValue{s.money(w.Now), s.money(w.AtRisk), s.money(w.Earned), s.o.Currency, int(rec.params.Churn.Value.Horizon)}
		}
		out.Truncated = out.Truncated || c.Truncated
	}
	return out
}

// segment is a segment's name; the newest rules know all names. Who never had a counted order is a prospect.
func (s *server) segment(g state.Segment) string {
	return s.o.Params().Rules.SegmentName(max(g, state.Prospect))
}

// churn is nil if there is no probability.
func (s *server) churn(by *state.Parameters, p *state.Profile, risk *state.Risk) *wireChurn {
	if risk.Chance == state.None {
		return nil
	}
	c := &wireChurn{
		Probability: probability(risk.Chance), Overdue: probability(risk.Overdue), Band: band(p.Band), Reference: probability(p.Reference),
		Method: by.Churn.Method.String(), HorizonDays: by.Churn.Horizon, Confidence: by.Churn.Confidence,
		Drivers: wireDrivers{decimal(risk.Drivers.Base), decimal(risk.Drivers.Rhythm), decimal(risk.Drivers.Silence)},
	}
	if by.Churn.Map != nil {
		c.Raw = probability(risk.Raw)
	}
	if risk.Percentile >= 0 {
		c.Percentile = &risk.Percentile
	}
	if p.ThresholdAt != state.Never {
		c.NextThreshold = &wireThreshold{p.Threshold.Band.String(), timeText(p.ThresholdAt, true)}
	}
	return c
}

func band(b state.Band) *string {
	if b == state.NoBand {
		return nil
	}
	return new(b.String())
}

func (s *server) figures(by *state.Parameters, f *state.Figures, now state.Instant) wireMetrics {
	bought := f.Lifetime > 0
	m := wireMetrics{
		FirstOrderAt: timeText(f.First, bought), LastOrderAt: timeText(f.Last, bought),
		Orders: f.Orders, Lifetime: f.Lifetime,
		Net: s.money(f.Net), NetLifetime: s.money(f.LifetimeNet), Currency: s.o.Currency,
		WindowDays: int64(by.Window / state.Day),
	}
	if bought {
		m.RecencyDays = new(int64((now - f.Last) / state.Day))
	}
	return m
}

// ledger lists the orders, newest first, and the refunds that wait for theirs.
func (s *server) ledger(l *state.Ledger) ([]wireOrder, []wireRefund) {
	back := map[uint64]state.Money{} // by order, of the records
	for _, r := range l.Refunds {
		back[r.Order] = min(back[r.Order]+r.Amount, state.MaxMoney)
	}
	orders, waiting := make([]wireOrder, 0, len(l.Orders)), []wireRefund{}
	known := make(map[uint64]bool, len(l.Orders))
	for i := len(l.Orders) - 1; i >= 0; i-- {
		o := &l.Orders[i]
		known[o.ID] = true
		line := wireOrder{
			Order: hashText(o.ID), OrderedAt: timeText(o.OrderedAt, true), Amount: s.money(o.Amount),
			Status: o.Status.String(), Test: o.Test, Refunded: s.money(max(o.Refunded, back[o.ID])),
		}
		if net := l.Net(o); net > 0 {
			line.Net, line.Counted = new(s.money(net)), true
		}
		orders = append(orders, line)
	}
	for _, r := range l.Refunds {
		if !known[r.Order] {
			waiting = append(waiting, wireRefund{hashText(r.Order), hashText(r.ID), timeText(r.At, true), s.money(r.Amount)})
		}
	}
	return orders, waiting
}

func (s *server) money(m state.Money) string { return moneyText(m, s.o.Digits) }

func interactions(n *state.Interactions) wireInteractions {
	if n == nil {
		return wireInteractions{Consent: map[string]string{}}
	}
	out := wireInteractions{timeText(n.LastAt, n.LastAt > 0), n.Complaining, make(map[string]string, len(n.Consents))}
	for _, c := range n.Consents {
		out.Consent[c.Purpose] = c.Status.String()
	}
	return out
}

func versions(v state.Versions) *wireVersions { return &wireVersions{v.Rules, v.Cuts, v.Model} }
