package api

import (
	"errors"
	"net/http"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// stateCustomer shows what is stored about one customer.
func (s *server) stateCustomer(w http.ResponseWriter, r *http.Request) {
	id, ok := customerID(w, r, "/v1/state/customers/{id}")
	if !ok {
		return
	}
	rec, err := s.read(id)
	switch {
	case errors.Is(err, store.ErrClosed):
		notServed(w)
	case err != nil:
		s.broken(w, "read customer", err)
	case rec.unknown():
		unknown(w)
	default:
		write(w, http.StatusOK, s.stored(id, rec))
	}
}

func (s *server) stored(id string, rec record) wireState {
	out := wireState{CustomerID: id}
	if rec.customer != nil {
		out.Customer = s.storedCustomer(rec.customer)
	}
	if n := rec.interactions; n != nil {
		touch := &wireStoredTouch{
			timeText(n.LastAt, n.LastAt > 0), timeText(n.ComplaintAt, n.ComplaintAt > 0), n.Complaining,
			make([]wireConsent, len(n.Consents)), n.Truncated,
		}
		for i, c := range n.Consents {
			touch.Consents[i] = wireConsent{c.Purpose, c.Status.String(), timeText(c.At, true)}
		}
		out.Interactions = touch
	}
	return out
}

func (s *server) storedCustomer(c *state.Customer) *wireRecord {
	out := &wireRecord{
		EvaluatedAt: timeText(c.EvaluatedAt, c.Evaluated), DueAt: timeText(c.Due, c.Due != state.Never),
		Since: timeText(c.Since, c.Published != state.NoSegment), Seen: []string{},
		R: c.R, F: c.F, M: c.M, Lifecycle: c.Lifecycle.String(),
		Band: band(c.Band), Reference: probability(c.Reference),
		Sequences: wireSequences{c.SegmentSeq, c.RiskSeq}, Versions: versions(c.Versions),
		Orders:  make([]wireStoredOrder, len(c.Orders)),
		Refunds: make([]wireRefund, len(c.Refunds)), Truncated: c.Truncated,
	}
	if c.Published != state.NoSegment {
		out.Segment = new(s.segment(c.Published))
	}
	for g := state.Prospect; g < state.MaxSegments; g++ {
		if c.Seen&(1<<g) != 0 {
			out.Seen = append(out.Seen, s.segment(g))
		}
	}
	if c.Threshold.Days != 0 {
		out.Threshold = &wireStoredThreshold{c.Threshold.Days, c.Threshold.Band.String()}
	}
	for i := range c.Orders {
		o := &c.Orders[i]
		out.Orders[i] = wireStoredOrder{
			hashText(o.ID), timeText(o.OrderedAt, true), dayText(o.Day), s.money(o.Amount), s.money(o.Refunded),
			o.Status.String(), o.Test, o.Revision, timeText(o.UpdatedAt, true),
		}
	}
	for i, r := range c.Refunds {
		out.Refunds[i] = wireRefund{hashText(r.Order), hashText(r.ID), timeText(r.At, true), s.money(r.Amount)}
	}
	if t := &c.Settled; t.Orders != 0 {
		out.Settled = &wireSettled{
			t.Orders, s.money(t.Net), timeText(t.First, true), timeText(t.Last, true),
			t.Days, dayText(t.FirstDay), dayText(t.LastDay), t.Eve,
		}
	}
	return out
}
