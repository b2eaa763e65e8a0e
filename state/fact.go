package state

import "cmp"

// Status is the state of an order. The values are its rank: of two otherwise equal versions the later status wins.
type Status uint8

// The statuses in their order of precedence.
const (
	Pending Status = iota
	Paid
	Completed
	PartiallyRefunded
	Refunded
	Cancelled
	Voided
)

var statusNames = [...]string{"pending", "paid", "completed", "partially_refunded", "refunded", "cancelled", "voided"}

func (s Status) String() string { return statusNames[s] }

// ParseStatus is the inverse of String.
func ParseStatus(s string) (Status, bool) {
	for i, name := range statusNames {
		if name == s {
			return Status(i), true
		}
	}
	return 0, false
}

// Order is one version of one order of a customer, converted to the pipeline's currency and clamped.
type Order struct {
	ID        uint64 // hash of the order id; identity is per customer
	Revision  int64
	UpdatedAt Instant
	Status    Status
	Refunded  Money // what the shop says it has paid back
	Amount    Money
	OrderedAt Instant
	Test      bool
	Day       int32 // calendar day of OrderedAt in the tenant's zone, days since 1970-01-01
}

// compareVersions is the total order of two versions of one order; the greater one wins (semantics 4.2).
func compareVersions(a, b *Order) int {
	return cmp.Or(
		cmp.Compare(a.Revision, b.Revision),
		cmp.Compare(a.UpdatedAt, b.UpdatedAt),
		cmp.Compare(a.Status, b.Status),
		cmp.Compare(a.Refunded, b.Refunded),
		cmp.Compare(a.Amount, b.Amount),
		cmp.Compare(a.OrderedAt, b.OrderedAt),
		cmp.Compare(bit(a.Test), bit(b.Test)),
	)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Refund is a refund record of an order, which need not be known yet.
type Refund struct {
	Order  uint64 // hash of the order id
	ID     uint64 // hash of the refund id
	At     Instant
	Amount Money
}

// ConsentStatus is what a customer said about a purpose. At equal times the more careful answer wins, so the values
// are in that order.
type ConsentStatus uint8

// The consent statuses in their order of precedence.
const (
	Granted ConsentStatus = iota
	Denied
	Revoked
)

var consentNames = [...]string{"granted", "denied", "revoked"}

func (s ConsentStatus) String() string { return consentNames[s] }

// ParseConsent is the inverse of String.
func ParseConsent(s string) (ConsentStatus, bool) {
	for i, name := range consentNames {
		if name == s {
			return ConsentStatus(i), true
		}
	}
	return 0, false
}

// Interaction is anything else that a customer did or that was done to them.
type Interaction struct {
	At        Instant
	Complaint ComplaintKind
	Purpose   string // of a consent, else empty
	Consent   ConsentStatus
}

// ComplaintKind says whether an interaction opens or closes a complaint.
type ComplaintKind uint8

// The kinds of complaint interactions.
const (
	NoComplaint ComplaintKind = iota
	Resolved
	Complained
)

// Kind is what a fact is about.
type Kind uint8

// The kinds of facts.
const (
	OrderFact Kind = iota
	RefundFact
	InteractionFact
)

// Fact is what one input record says about one customer, decoded and checked. Only the member that Kind names is
// meaningful.
type Fact struct {
	Kind        Kind
	Customer    string
	At          Instant // the record's instant (semantics 1.2); interactions have none
	Backfill    bool    // loaded history: its own evaluation is not news
	Order       Order
	Refund      Refund
	Interaction Interaction
}

// placed is the time that decides whether a fact is too late.
func (f *Fact) placed() Instant {
	if f.Kind == RefundFact {
		return f.Refund.At
	}
	return f.Order.OrderedAt
}
