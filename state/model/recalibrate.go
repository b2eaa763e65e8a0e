package model

import (
	"errors"
	"math"
	"slices"
)

// Map corrects probabilities to order by what came of earlier ones (Platt 1999; isotonic: Zadrozny & Elkan 2002). It never turns
// their order around.
type Map struct {
	Method string    `json:"method"`            // none, platt or isotonic
	A      float64   `json:"a,omitempty"`       // platt: logit q = a + b logit p
	B      float64   `json:"b,omitempty"`       //
	P      []float64 `json:"p,omitempty"`       // isotonic: q at these p, in between on a straight line
	Q      []float64 `json:"q,omitempty"`       //
	Learnt int       `json:"pairs"`             // from so many pairs of a probability and what happened
	Days   int       `json:"horizon,omitempty"` // over so many days
}

// Apply is the corrected probability. Products are rounded explicitly so that every machine gives the same float64.
func (m *Map) Apply(p float64) float64 {
	switch m.Method {
	case "platt":
		return 1 / (1 + math.Exp(-m.A-float64(m.B*Logit(p))))
	case "isotonic":
		i, exact := slices.BinarySearch(m.P, p)
		switch {
		case exact:
			return m.Q[i]
		case i == 0:
			return m.Q[0]
		case i == len(m.P):
			return m.Q[i-1]
		}
		share := (p - m.P[i-1]) / (m.P[i] - m.P[i-1])
		return min(m.Q[i-1]+float64(share*(m.Q[i]-m.Q[i-1])), m.Q[i])
	}
	return p
}

// ApplyAll is Apply of each.
func (m *Map) ApplyAll(p []float64) []float64 {
	q := make([]float64, len(p))
	for i, v := range p {
		q[i] = m.Apply(v)
	}
	return q
}

// Logit is ln(p / (1 - p)); probabilities of 0 and 1 are taken for nearly so.
func Logit(p float64) float64 {
	p = min(max(p, 1e-9), 1-1e-9)
	return math.Log(p / (1 - p))
}

// Check says what is wrong with a map that was read.
func (m *Map) Check() error {
	within := func(list []float64) bool {
		return slices.IsSorted(list) && len(list) > 0 && list[0] >= 0 && list[len(list)-1] <= 1
	}
	switch m.Method {
	case "platt":
		if !(m.B >= 1e-3 && m.B <= 1e3 && math.Abs(m.A) <= 1e3) {
			return errors.New("a calibration map by Platt needs a slope b between 0.001 and 1000")
		}
	case "isotonic":
		if len(m.P) != len(m.Q) || !within(m.P) || !within(m.Q) || len(slices.Compact(slices.Clone(m.P))) != len(m.P) {
			return errors.New("an isotonic calibration map needs as many p as q, both ascending from 0 to 1")
		}
	default:
		return errors.New("a calibration map is platt or isotonic, found " + m.Method)
	}
	return nil
}
