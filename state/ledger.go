package state

import (
	"cmp"
	"slices"
)

// Ledger is a customer's orders inside the window and the folded totals of what is older. It is a join: the same facts
// in any order and number make the same ledger at the same instant.
type Ledger struct {
	Orders    []Order  // by (OrderedAt, ID)
	Refunds   []Refund // by (Order, ID); of known orders, and waiting for unknown ones
	Settled   Settled
	Truncated bool // a limit refused something
}

// Settled are the counted orders that are too old to be corrected (semantics 4.6).
type Settled struct {
	Orders      int64
	Net         Money
	First, Last Instant
	Occasions
}

// Occasions are the distinct calendar days of a customer's orders. Days follow time, except where a zone's clock is set
// back across midnight: then the day before the last may come once more.
type Occasions struct {
	Days              int64
	FirstDay, LastDay int32
	Eve               bool // the day before LastDay is one of them
}

// add counts the day of an order; orders come in the order of their time.
func (o *Occasions) add(day int32) {
	switch {
	case o.Days == 0:
		*o = Occasions{Days: 1, FirstDay: day, LastDay: day}
	case day > o.LastDay:
		o.Days, o.LastDay, o.Eve = o.Days+1, day, day == o.LastDay+1
	case day < o.LastDay && !o.Eve:
		o.Days, o.FirstDay, o.Eve = o.Days+1, min(o.FirstDay, day), true
	}
}

// Refusal is the reason why a customer cannot take a fact; empty means that it can.
type Refusal string

// The refusals. All but TooLate are the names of limits.
const (
	TooLate       Refusal = "too_late"
	TooManyOrders Refusal = "orders_per_customer"
	TooManyRefund Refusal = "refunds_per_customer"
	TooManyTopics Refusal = "consent_purposes"
)

// full says whether a limit refuses a new order or refund at the instant now. What will have settled by then does not
// count.
func (l *Ledger) full(limits *Limits, f *Fact, now, window Instant) Refusal {
	if f.Kind == OrderFact && len(l.Orders) >= limits.Orders && l.find(f.Order.ID) < 0 {
		old := 0
		for old < len(l.Orders) && l.Orders[old].OrderedAt+window < now {
			old++
		}
		if len(l.Orders)-old >= limits.Orders {
			return TooManyOrders
		}
	}
	if f.Kind == RefundFact && len(l.Refunds) >= limits.Refunds {
		// Which refunds are forgotten by then is settled on a copy: this is the rare case.
		then := Ledger{Orders: slices.Clone(l.Orders), Refunds: slices.Clone(l.Refunds)}
		then.settle(now, window)
		if _, known := then.findRefund(f.Refund); !known && len(then.Refunds) >= limits.Refunds {
			return TooManyRefund
		}
	}
	return ""
}

func (l *Ledger) find(id uint64) int {
	for i := range l.Orders {
		if l.Orders[i].ID == id {
			return i
		}
	}
	return -1
}

func (l *Ledger) findRefund(r Refund) (int, bool) {
	return slices.BinarySearchFunc(l.Refunds, r, compareRefunds)
}

func compareRefunds(a, b Refund) int {
	return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.ID, b.ID))
}

// addOrder keeps the greatest version of an order and says whether the order was known.
func (l *Ledger) addOrder(o Order) Cause {
	cause := OrderCause
	if i := l.find(o.ID); i >= 0 {
		cause = OrderUpdate
		if compareVersions(&o, &l.Orders[i]) <= 0 {
			return cause
		}
		l.Orders = slices.Delete(l.Orders, i, i+1)
	}
	i, _ := slices.BinarySearchFunc(l.Orders, o, func(a, b Order) int {
		return cmp.Or(cmp.Compare(a.OrderedAt, b.OrderedAt), cmp.Compare(a.ID, b.ID))
	})
	l.Orders = slices.Insert(l.Orders, i, o)
	return cause
}

// addRefund keeps the greatest version of a refund record.
func (l *Ledger) addRefund(r Refund) {
	i, known := l.findRefund(r)
	switch {
	case !known:
		l.Refunds = slices.Insert(l.Refunds, i, r)
	case cmp.Or(cmp.Compare(r.At, l.Refunds[i].At), cmp.Compare(r.Amount, l.Refunds[i].Amount)) > 0:
		l.Refunds[i] = r
	}
}

// refunded is the sum of an order's refund records, which lie together.
func (l *Ledger) refunded(order uint64) (sum Money) {
	i, _ := l.findRefund(Refund{Order: order})
	for ; i < len(l.Refunds) && l.Refunds[i].Order == order; i++ {
		sum = min(sum+l.Refunds[i].Amount, MaxMoney) // more than any amount already
	}
	return sum
}

// Net is what an order of the ledger brought if it counts, else 0.
func (l *Ledger) Net(o *Order) Money { return l.net(o) }

// net is what an order brought if it counts, else 0 (semantics 4.4, 4.5).
func (l *Ledger) net(o *Order) Money {
	if o.Test || (o.Status != Paid && o.Status != Completed && o.Status != PartiallyRefunded) {
		return 0
	}
	back := o.Refunded
	if len(l.Refunds) > 0 {
		back = max(back, l.refunded(o.ID))
	}
	return max(o.Amount-back, 0)
}

// settle folds the orders that leave the window before the instant t, and forgets what waited too long.
func (l *Ledger) settle(t, window Instant) {
	old := 0
	for ; old < len(l.Orders) && l.Orders[old].OrderedAt+window < t; old++ {
		o := &l.Orders[old]
		if net := l.net(o); net > 0 {
			l.Settled.add(o, net)
		}
	}
	gone := l.Orders[:old]
	l.Refunds = slices.DeleteFunc(l.Refunds, func(r Refund) bool {
		if slices.ContainsFunc(gone, func(o Order) bool { return o.ID == r.Order }) {
			return true
		}
		return r.At+window < t && l.find(r.Order) < 0
	})
	l.Orders = slices.Delete(l.Orders, 0, old)
}

// add folds one order; orders come in the order of their time.
func (s *Settled) add(o *Order, net Money) {
	if s.Orders == 0 {
		s.First = o.OrderedAt
	}
	s.Occasions.add(o.Day)
	s.Orders++
	s.Last = o.OrderedAt
	if s.Net += net; s.Net < 0 { // after 9,223 orders of the greatest amount
		s.Net = 1<<63 - 1
	}
}

// order is what a tally keeps of a counted order in the window.
type counted struct {
	at  Instant
	net Money
}

// tally is what scores need of a ledger.
type tally struct {
	orders      int64 // counted ever
	first, last Instant
	lifetime    Money
	occasions   Occasions
	comeback    Instant   // the last order after a gap of a comeback; 0 if there is none
	window      []counted // in time order; at the instant of the evaluation all of them are inside
	revenue     Money     // of the window
}

// fill makes t the tally of l.
func (t *tally) fill(l *Ledger, p *Parameters) {
	s := &l.Settled
	*t = tally{
		orders: s.Orders, first: s.First, last: s.Last, lifetime: s.Net, occasions: s.Occasions, window: t.window[:0],
	}
	gap := p.Recency[2]
	for i := range l.Orders {
		o := &l.Orders[i]
		net := l.net(o)
		if net == 0 {
			continue
		}
		if t.orders == 0 {
			t.first = o.OrderedAt
		} else if o.OrderedAt-t.last > gap {
			t.comeback = o.OrderedAt
		}
		t.occasions.add(o.Day)
		t.orders++
		t.last = o.OrderedAt
		t.revenue += net
		t.window = append(t.window, counted{o.OrderedAt, net})
	}
	if t.lifetime += t.revenue; t.lifetime < 0 {
		t.lifetime = 1<<63 - 1
	}
}

// Add takes an order or refund without limits or evaluation: for those who want the facts alone.
func (l *Ledger) Add(f *Fact) {
	switch f.Kind {
	case OrderFact:
		l.addOrder(f.Order)
	case RefundFact:
		l.addRefund(f.Refund)
	}
}

// Occasions are the distinct calendar days of all counted orders, the settled ones included.
func (l *Ledger) Occasions() Occasions {
	days := l.Settled.Occasions
	for i := range l.Orders {
		if o := &l.Orders[i]; l.net(o) > 0 {
			days.add(o.Day)
		}
	}
	return days
}
