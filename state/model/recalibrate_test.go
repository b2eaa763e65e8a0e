package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// For each of the million probabilities that can be published: the greater the raw one, the greater the corrected, or equal.
func TestMapIsMonotone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	maps := []Map{{Method: "platt", A: 3, B: 0.05}, {Method: "platt", A: -0.3, B: 1.1}, {Method: "platt", A: -100, B: 900}, {Method: "platt", B: 0.001}}
	for _, n := range []int{1, 2, 7, 300} {
		m := Map{Method: "isotonic"}
		for range n {
			m.P, m.Q = append(m.P, r.Float64()), append(m.Q, r.Float64())
		}
		slices.Sort(m.P)
		slices.Sort(m.Q)
		maps = append(maps, m)
	}
	for _, m := range maps {
		if err := m.Check(); err != nil {
			t.Errorf("%s: %v", m.Method, err)
		}
		was := -1.0
		for i := range 1_000_001 {
			q := math.Floor(float64(m.Apply(float64(i)/1e6)*1e6) + 0.5)
			if q < was || q < 0 || q > 1e6 {
				t.Fatalf("%+v: %d becomes %v, the one before %v", m, i, q, was)
			}
			was = q
		}
	}
}

func TestMapCheck(t *testing.T) {
	platt, isotonic := "a calibration map by Platt needs a slope b between 0.001 and 1000", "an isotonic calibration map needs as many p as q, both ascending from 0 to 1"
	for _, c := range []struct {
		m    Map
		want string
	}{
		{Map{Method: "platt"}, platt}, {Map{Method: "platt", B: -1}, platt}, {Map{Method: "platt", A: math.NaN(), B: 1}, platt},
		{Map{Method: "isotonic"}, isotonic}, {Map{Method: "isotonic", P: []float64{0.1}, Q: []float64{0.1, 0.2}}, isotonic},
		{Map{Method: "isotonic", P: []float64{0.2, 0.2}, Q: []float64{0.1, 0.2}}, isotonic}, {Map{Method: "isotonic", P: []float64{0.1, 0.2}, Q: []float64{0.2, 0.1}}, isotonic},
		{Map{Method: "none"}, "a calibration map is platt or isotonic, found none"},
	} {
		if err := c.m.Check(); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.m, err, c.want)
		}
	}
}
