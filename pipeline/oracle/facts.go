package oracle

import (
	"cmp"
	"slices"
)

// consentStatuses are in the order in which one beats another at the same instant (4.7).
var consentStatuses = []string{"granted", "denied", "revoked"}

type refundKey struct{ order, refund string }

type consent struct {
	at     int64
	status string
}

// facts is what is known of a customer (section 4).
type facts struct {
	orders  map[string]purchase
	refunds map[refundKey]purchase
	settled []sale

	consents        map[string]consent
	lastInteraction *int64
	complaint       *int64
	resolved        *int64
}

// sale is what a counted order contributes to every score.
type sale struct {
	at  int64
	net int64
	day int64 // calendar day in the tenant's zone
}

func newFacts() facts {
	return facts{orders: map[string]purchase{}, refunds: map[refundKey]purchase{}, consents: map[string]consent{}}
}

// beats compares two versions of an order (4.2).
func beats(a, b purchase) bool {
	test := func(v purchase) int {
		if v.test {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(a.revision, b.revision),
		cmp.Compare(a.updated, b.updated),
		cmp.Compare(a.status, b.status),
		cmp.Compare(a.refunded, b.refunded),
		cmp.Compare(a.amount, b.amount),
		cmp.Compare(a.at, b.at),
		cmp.Compare(test(a), test(b)),
	) > 0
}

// add takes a purchase into the facts and returns the cause of the evaluation (section 7).
func (f *facts) add(v purchase) string {
	if v.refund {
		key := refundKey{v.order, v.refundID}
		old, known := f.refunds[key]
		if !known || cmp.Or(cmp.Compare(v.at, old.at), cmp.Compare(v.amount, old.amount)) > 0 {
			f.refunds[key] = v
		}
		return "refund"
	}
	old, known := f.orders[v.order]
	if !known || beats(v, old) {
		f.orders[v.order] = v
	}
	if known {
		return "order_update"
	}
	return "order"
}

// addInteraction takes an interaction into the facts (4.7).
func (f *facts) addInteraction(v interaction) {
	later := func(at *int64) *int64 {
		if at == nil || v.at > *at {
			return &v.at
		}
		return at
	}
	f.lastInteraction = later(f.lastInteraction)
	switch v.kind {
	case "complaint":
		f.complaint = later(f.complaint)
	case "complaint_resolved":
		f.resolved = later(f.resolved)
	case "consent":
		old, known := f.consents[v.purpose]
		wins := cmp.Or(
			cmp.Compare(v.at, old.at),
			cmp.Compare(slices.Index(consentStatuses, v.status), slices.Index(consentStatuses, old.status)),
		) > 0
		if !known || wins {
			f.consents[v.purpose] = consent{v.at, v.status}
		}
	}
}

// complaintOpen says whether the latest of complaints and resolutions is a complaint.
func (f *facts) complaintOpen() bool {
	return f.complaint != nil && (f.resolved == nil || *f.complaint >= *f.resolved)
}

// counted returns what an order contributes, false if it does not count (4.4, 4.5).
func (f *facts) counted(p *plan, v purchase) (sale, bool) {
	var byRecords int64
	for key, refund := range f.refunds {
		if key.order == v.order {
			byRecords += refund.amount
		}
	}
	net := v.amount - max(v.refunded, byRecords)
	switch statuses[v.status] {
	case "paid", "completed", "partially_refunded":
		return sale{v.at, net, calendarDay(v.at, p.zone)}, !v.test && net > 0
	}
	return sale{}, false
}

// settle freezes or drops the orders that have left the window, and forgets the
// refunds that waited too long (4.6).
func (f *facts) settle(p *plan, now int64) {
	for id, v := range f.orders {
		if now <= v.at+p.window {
			continue
		}
		if s, ok := f.counted(p, v); ok {
			f.settled = append(f.settled, s)
		}
		delete(f.orders, id)
		for key := range f.refunds {
			if key.order == id {
				delete(f.refunds, key)
			}
		}
	}
	for key, refund := range f.refunds {
		if _, known := f.orders[key.order]; !known && now > refund.at+p.window {
			delete(f.refunds, key)
		}
	}
}

// sales returns all counted orders ever, by instant.
func (f *facts) sales(p *plan) []sale {
	all := slices.Clone(f.settled)
	for _, v := range f.orders {
		if s, ok := f.counted(p, v); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b sale) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.net, b.net))
	})
	return all
}
