package state

import "slices"

// Interactions is what is kept of a customer's interactions. It is a join: order and repetition do not matter. The
// zero value knows nothing.
type Interactions struct {
	LastAt      Instant // latest of any
	ComplaintAt Instant // latest complaint or resolution; 0 if there was none
	Complaining bool    // that one was a complaint
	Consents    []Consent
	Truncated   bool // a limit refused something
}

// Consent is the latest word about one purpose.
type Consent struct {
	Purpose string
	At      Instant
	Status  ConsentStatus
}

// Reset forgets everything and keeps the buffers.
func (n *Interactions) Reset() { *n = Interactions{Consents: n.Consents[:0]} }

// Apply takes an interaction, unless a limit refuses it.
func (n *Interactions) Apply(limits *Limits, i *Interaction) Refusal {
	if i.Purpose != "" {
		k, known := n.find(i.Purpose)
		if !known && len(n.Consents) >= limits.Purposes {
			n.Truncated = true
			return TooManyTopics
		}
		c := Consent{i.Purpose, i.At, i.Consent}
		if !known {
			n.Consents = slices.Insert(n.Consents, k, c)
		} else if old := n.Consents[k]; c.At > old.At || (c.At == old.At && c.Status > old.Status) {
			n.Consents[k] = c
		}
	}
	n.LastAt = max(n.LastAt, i.At)
	if i.Complaint != NoComplaint && i.At >= n.ComplaintAt {
		n.Complaining = i.Complaint == Complained || (n.Complaining && i.At == n.ComplaintAt)
		n.ComplaintAt = i.At
	}
	return ""
}

func (n *Interactions) find(purpose string) (int, bool) {
	return slices.BinarySearchFunc(n.Consents, purpose, func(c Consent, p string) int {
		if c.Purpose < p {
			return -1
		}
		return bit(c.Purpose > p)
	})
}
