package state

import (
	"bufio"
	"compress/gzip"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/asiduo/asiduo/state/model"
)

// cdnow are the orders of each customer of the CDNOW sample, in the order of the file.
func cdnow(t testing.TB) map[string][]Fact {
	t.Helper()
	f, err := os.Open("../cmd/asiduo/data/CDNOW_sample.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]Fact{}
	id := uint64(0)
	for lines := bufio.NewScanner(z); lines.Scan(); {
		w := strings.Fields(lines.Text())
		day, err := time.Parse("20060102", w[2])
		if err != nil {
			t.Fatal(err)
		}
		paid, err := strconv.ParseFloat(w[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		id++
		all[w[1]] = append(all[w[1]], order(id, Instant(day.UnixMilli())+Day/2, Money(math.Round(paid*100))))
	}
	return all
}

// TestCrossings: of every customer of the CDNOW sample, from his last order on, the instants at which silence moves the
// band of the churn model or makes the probability jump are those at which a scan hour by hour sees it first.
func TestCrossings(t *testing.T) {
	p := defaults()
	p.Churn.MBGNBD = model.MBGNBD{R: .524843, Alpha: 43.281602, A: .891360, B: 1.614002}
	type history struct {
		x, tx     int
		reference Millionths
		band      Band
	}
	known := map[history]bool{}
	customers, crossings := 0, 0
	for id, facts := range cdnow(t) {
		slices.SortStableFunc(facts, func(a, b Fact) int { return int(a.At - b.At) })
		c := &Customer{}
		for i := range facts {
			c.Advance(p, facts[i].At, always, nil)
			c.Apply(p, &facts[i], always, nil)
		}
		customers++
		if c.Band == NoBand { // nothing was paid
			continue
		}
		days := 0
		last := Instant(-1)
		for i := range facts {
			if facts[i].Order.Amount > 0 && facts[i].At != last {
				days, last = days+1, facts[i].At
			}
		}
		first := facts[slices.IndexFunc(facts, func(f Fact) bool { return f.Order.Amount > 0 })].At
		x, tx := days-1, int((last-first)/Day)
		if h := (history{x, tx, c.Reference, c.Band}); known[h] {
			continue // silence looks the same
		} else {
			known[h] = true
		}

		const most = 400
		type crossing struct {
			at   Instant
			band Band
			p    Millionths
		}
		var want, got []crossing
		band, reference := c.Band, c.Reference
		for at := c.EvaluatedAt + Day/24; at <= last+most*Day; at += Day / 24 {
			idle := float64((at - last) / Day)
			chance := Millionths(math.Floor(p.Churn.MBGNBD.NoOrder(float64(x), float64(tx), idle, 90)*1e6 + 0.5))
			is := Low
			for k, bound := range []Millionths{330_000, 660_000} {
				if chance >= bound || band > Low+Band(k) && chance >= bound-30_000 {
					is = Low + Band(k) + 1
				}
			}
			if is != band || chance-reference >= 150_000 || reference-chance >= 150_000 {
				want = append(want, crossing{at, is, chance})
				band, reference = is, chance
			}
		}
		for _, ch := range c.Advance(p, last+most*Day, always, nil) {
			if ch.Kind == RiskChange {
				got = append(got, crossing{ch.At, ch.Is.Band, ch.Chance})
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("customer %s with %d repeat orders over %d days:\n%+v, an hourly scan sees\n%+v", id, x, tx, got, want)
		}
		crossings += len(want)
	}
	t.Logf("%d customers, %d histories, %d crossings", customers, len(known), crossings)
	if customers != 2357 || crossings < 1000 {
		t.Errorf("%d customers, %d crossings", customers, crossings)
	}
}
