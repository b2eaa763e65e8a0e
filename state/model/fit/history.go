// Package fit estimates the parameters of the models of repeat buying by maximum likelihood, and says how far the
// estimates can be trusted. It is pure: histories in, parameters out.
package fit

import (
	"cmp"
	"slices"
)

// History is what a model needs to know of a customer: repeat occasions, time from the first to the last, and silence
// since, in one unit of time; and how many customers have it.
type History struct {
	X, TX, E float64
	N        int
}

// Group merges equal histories; the result is sorted. Fitting takes time for each different one.
func Group(all []History) []History {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b History) int {
		return cmp.Or(cmp.Compare(a.X, b.X), cmp.Compare(a.TX, b.TX), cmp.Compare(a.E, b.E))
	})
	grouped := sorted[:0]
	for _, h := range sorted {
		if k := len(grouped) - 1; k >= 0 && grouped[k].X == h.X && grouped[k].TX == h.TX && grouped[k].E == h.E {
			grouped[k].N += h.N
		} else {
			grouped = append(grouped, h)
		}
	}
	return grouped
}

// Summary is what there is to learn from.
type Summary struct {
	Customers int     `json:"customers"`
	Repeaters int     `json:"repeaters"` // with a repeat occasion
	Repeats   float64 `json:"repeats"`   // repeat occasions
	Span      float64 `json:"span"`      // the longest time since a first occasion
	MeanGap   float64 `json:"mean_gap"`  // between two occasions of a customer; 0 without repeats
}

// Summarize adds histories up.
func Summarize(all []History) (s Summary) {
	var between float64
	for _, h := range all {
		n := float64(h.N)
		s.Customers += h.N
		s.Repeats += n * h.X
		between += n * h.TX
		s.Span = max(s.Span, h.TX+h.E)
		if h.X > 0 {
			s.Repeaters += h.N
		}
	}
	if s.Repeats > 0 {
		s.MeanGap = between / s.Repeats
	}
	return s
}

// The least that parameters are estimated from: convention, not theory.
const (
	MinCustomers = 500
	MinRepeats   = 200
	MinSpans     = 3 // mean gaps within the span
)

// Enough says why the data are too few to trust an estimate, the empty text if they are not.
func (s Summary) Enough() string {
	switch {
	case s.Customers < MinCustomers:
		return textf("%d customers, at least %d are needed", s.Customers, MinCustomers)
	case s.Repeats < MinRepeats:
		return textf("%.0f repeat orders, at least %d are needed", s.Repeats, MinRepeats)
	case s.Span < MinSpans*s.MeanGap:
		return textf("%.0f days, at least %d mean gaps of %.0f days are needed", s.Span, MinSpans, s.MeanGap)
	}
	return ""
}
