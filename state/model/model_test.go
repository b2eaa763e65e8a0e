package model

import (
	"encoding/csv"
	"math"
	"os"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

const tolerance = 1e-9

func near(want, got float64) bool { return math.Abs(want-got) <= tolerance*math.Abs(want) }

func TestNoOrderGolden(t *testing.T) {
	f, err := os.Open("testdata/mbgnbd_no_order.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil || len(rows) < 40 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		var v [9]float64
		for i := range v {
			if v[i], err = strconv.ParseFloat(row[i], 64); err != nil {
				t.Fatal(err)
			}
		}
		m := MBGNBD{R: v[0], Alpha: v[1], A: v[2], B: v[3]}
		h, x, tx, age := v[4], v[5], v[6], v[7]
		if got := m.NoOrder(x, tx, age-tx, h); !near(v[8], got) {
			t.Errorf("%+v x=%v tx=%v T=%v h=%v: %.17g, want %.17g", m, x, tx, age, h, got, v[8])
		}
		// The unit of time is free.
		days := MBGNBD{R: m.R, Alpha: 7 * m.Alpha, A: m.A, B: m.B}
		if got := days.NoOrder(x, 7*tx, 7*(age-tx), 7*h); !near(v[8], got) {
			t.Errorf("in days: %.17g, want %.17g", got, v[8])
		}
	}
}

// The score of silence is one half when the silence is twice the gap, and a sixteenth of its exponent at half the gap.
func TestRhythmGolden(t *testing.T) {
	for _, test := range []struct{ shop, x, tx, e, want float64 }{
		{30, 0, 0, 0, 0},
		{30, 0, 0, 60, 0.5},
		{30, 0, 0, 30, 1 - math.Pow(2, -0.25)},
		{30, 0, 0, 120, 1 - math.Pow(2, -4)},
		{30, 2, 20, 40, 0.5}, // gap (60 + 20) / 4 = 20
		{30, 8, 40, 20, 0.5}, // gap (60 + 40) / 10 = 10
		{1, 998, 98, 0.2, 0.5},
	} {
		if got := (Rhythm{test.shop}).Silence(test.x, test.tx, test.e); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// draw makes parameters far beyond what any fit gives, also degenerate ones.
func draw(t *rapid.T) (m MBGNBD, x, tx, e, h float64) {
	positive := func(label string) float64 { return math.Exp(rapid.Float64Range(-12, 17).Draw(t, label)) }
	m = MBGNBD{positive("r"), positive("alpha"), positive("a"), positive("b")}
	x = float64(rapid.IntRange(0, 100_000).Draw(t, "x"))
	if x > 0 {
		tx = float64(rapid.IntRange(0, 40_000).Draw(t, "tx"))
	}
	return m, x, tx, float64(rapid.IntRange(0, 3650).Draw(t, "e")), float64(rapid.IntRange(1, 3650).Draw(t, "h"))
}

func TestNoOrderIsAProbabilityThatNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, x, tx, e, h := draw(t)
		p, later := m.NoOrder(x, tx, e, h), m.NoOrder(x, tx, e+1, h)
		if !(p >= 0 && p <= 1) {
			t.Fatalf("%+v x=%v tx=%v e=%v h=%v: %v", m, x, tx, e, h, p)
		}
		// In millionths, which is what is compared, rounding of the last bit must not show.
		if math.Floor(later*1e6+0.5) < math.Floor(p*1e6+0.5) && p-later > 1e-15 {
			t.Fatalf("%+v x=%v tx=%v h=%v: %v on day %v, %v a day later", m, x, tx, h, p, e, later)
		}
		if longer := m.NoOrder(x, tx, e, h+1); longer > p+1e-15 {
			t.Fatalf("%+v x=%v tx=%v e=%v: %v in %v days, %v in one more", m, x, tx, e, p, h, longer)
		}
	})
}

func TestSilenceIsAScoreThatNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, x, tx, e, _ := draw(t)
		r := Rhythm{m.Alpha}
		s, later := r.Silence(x, tx, e), r.Silence(x, tx, e+1)
		if !(s >= 0 && s <= 1) || later < s {
			t.Fatalf("%+v x=%v tx=%v e=%v: %v, a day later %v", r, x, tx, e, s, later)
		}
	})
}

// FuzzNoOrder holds that it is a probability for all numbers and, in the domain, what the likelihood says that was written down apart from
// it: how much less likely the history becomes when nothing comes for h more. That has as many digits as the sums in it leave.
func FuzzNoOrder(f *testing.F) {
	f.Add(0.525, 43.3, 0.891, 1.614, uint32(0), uint32(0), uint16(0), uint16(90))
	f.Add(1e-5, 1e-5, 1e7, 1e-5, uint32(1000), uint32(1), uint16(3650), uint16(1))
	f.Fuzz(func(t *testing.T, r, alpha, a, b float64, orders, last uint32, silent, ahead uint16) {
		for _, v := range []float64{r, alpha, a, b} {
			if !(v >= 1e-9 && v <= 1e9) {
				t.Skip("not a parameter")
			}
		}
		m, x, tx, e, h := MBGNBD{r, alpha, a, b}, float64(orders), float64(last), float64(silent), float64(ahead)
		p := m.NoOrder(x, tx, e, h)
		if !(p >= 0 && p <= 1) {
			t.Fatalf("%v", p)
		}
		if !IsShape(r) || !IsScale(alpha) || !IsShape(a) || !IsShape(b) || x > 1e5 || tx > 1e6 {
			return
		}
		if ratio := math.Exp(m.LogLikelihood(x, tx, e+h) - m.LogLikelihood(x, tx, e)); !(math.Abs(p-ratio) < 1e-6) {
			t.Fatalf("%+v x=%v tx=%v e=%v h=%v: %v, the likelihoods say %v", m, x, tx, e, h, p, ratio)
		}
	})
}

var sink float64

func BenchmarkNoOrder(b *testing.B) {
	m := MBGNBD{R: 0.525, Alpha: 43.3, A: 0.891, B: 1.614}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		sink = m.NoOrder(float64(i&7), 30, float64(i&1023), 90)
	}
}

func TestNoOrderDoesNotAllocate(t *testing.T) {
	m := MBGNBD{R: 0.525, Alpha: 43.3, A: 0.891, B: 1.614}
	if n := testing.AllocsPerRun(100, func() { sink = m.NoOrder(3, 30, 60, 90) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Quantiles of the gap, computed elsewhere with 60 digits: the silence at which a customer is overdue by q.
func TestOverdue(t *testing.T) {
	m := MBGNBD{R: 0.5534, Alpha: 10.5802, A: 1, B: 1}
	for _, c := range []struct{ q, e float64 }{{.5, 5.394681068}, {.9, 20.85030001}, {.95, 29.0167939}, {.99, 52.41358345}} {
		if got := m.Overdue(5, 30, c.e); math.Abs(got-c.q) > 1e-9 {
			t.Errorf("overdue after %v days is %.12f, want %v", c.e, got, c.q)
		}
	}
	same := MBGNBD{R: 2, Alpha: 60, A: 1, B: 1}
	rapid.Check(t, func(t *rapid.T) {
		x, tx := float64(rapid.IntRange(0, 500).Draw(t, "x")), float64(rapid.IntRange(0, 5000).Draw(t, "tx"))
		before := -1.0
		for e := 0.0; e < 4000; e += 100 {
			p := m.Overdue(x, tx, e)
			if !(p >= before && p >= 0 && p <= 1) || e == 0 && p != 0 {
				t.Fatalf("overdue after %v days is %v, before %v", e, p, before)
			}
			if h := (Rhythm{ShopGap: 30}).Overdue(x, tx, e); h != same.Overdue(x, tx, e) {
				t.Fatalf("the heuristic says %v, the gamma distribution with two gaps of the shop %v", h, same.Overdue(x, tx, e))
			}
			before = p
		}
	})
}
