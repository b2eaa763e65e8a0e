package kpi

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// draw makes customers with orders on some days of two years.
func draw(t *rapid.T) (all []Customer, until int32) {
	start := int32(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Unix() / 86400)
	until = start + rapid.Int32Range(0, 730).Draw(t, "until")
	for range rapid.IntRange(1, 30).Draw(t, "customers") {
		var c Customer
		for d := range rapid.MapOfN(rapid.Int32Range(start, until), rapid.Just(true), 1, 8).Draw(t, "days") {
			c.Days = append(c.Days, d)
		}
		slices.Sort(c.Days)
		c.Orders, c.First, c.Last = len(c.Days), c.Days[0], c.Days[len(c.Days)-1]
		c.Paid = float64(rapid.IntRange(0, 10_000).Draw(t, "paid"))
		all = append(all, c)
	}
	return all, until
}

func boughtIn(c Customer, is func(time.Time) bool) bool {
	return slices.ContainsFunc(c.Days, func(d int32) bool { return is(time.Unix(int64(d)*86400, 0).UTC()) })
}

// The tables are those of asking every customer about every month and quarter.
func TestTables(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, until := draw(t)
		r := Of(all, until, 90)
		end := time.Unix(int64(until+1)*86400, 0).UTC()
		cohorts, quarters := 0, 0
		for first := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); first.Before(end); first = first.AddDate(0, 1, 0) {
			in := func(m time.Time) func(time.Time) bool {
				return func(at time.Time) bool { return !at.Before(m) && at.Before(m.AddDate(0, 1, 0)) }
			}
			var born []Customer
			for _, c := range all {
				if in(first)(time.Unix(int64(c.First)*86400, 0).UTC()) {
					born = append(born, c)
				}
			}
			if len(born) == 0 {
				continue
			}
			got := r.Cohorts[cohorts]
			cohorts++
			if got.Month != first.Format("2006-01") || got.Customers != len(born) {
				t.Fatalf("cohort %+v, want %d of %s", got, len(born), first)
			}
			k := 0
			for m := first.AddDate(0, 1, 0); !m.AddDate(0, 1, 0).After(end); m = m.AddDate(0, 1, 0) {
				n := 0.0
				for _, c := range born {
					if boughtIn(c, in(m)) {
						n++
					}
				}
				if got.Bought[k].Of != n || got.Bought[k].All != float64(len(born)) {
					t.Fatalf("cohort %s, month %d: %+v, want %v", got.Month, k+1, got.Bought[k], n)
				}
				k++
			}
			if k != len(got.Bought) {
				t.Fatalf("cohort %s has %d months, want %d", got.Month, len(got.Bought), k)
			}
		}
		for first := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); !first.AddDate(0, 6, 0).After(end); first = first.AddDate(0, 3, 0) {
			in := func(q time.Time) func(time.Time) bool {
				return func(at time.Time) bool { return !at.Before(q) && at.Before(q.AddDate(0, 3, 0)) }
			}
			var before, both float64
			for _, c := range all {
				if boughtIn(c, in(first)) {
					before++
					if boughtIn(c, in(first.AddDate(0, 3, 0))) {
						both++
					}
				}
			}
			if before == 0 {
				continue
			}
			if got := r.Retention[quarters]; got.Of != both || got.All != before {
				t.Fatalf("retention %+v, want %v of %v", got, both, before)
			}
			quarters++
		}
		if cohorts != len(r.Cohorts) || quarters != len(r.Retention) {
			t.Fatalf("%d cohorts and %d quarters, want %d and %d", len(r.Cohorts), len(r.Retention), cohorts, quarters)
		}
	})
}

// Who is counted in which order cannot be seen; and a customer without days leaves the tables out and the rest as it was.
func TestOrderAndMissingDays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, until := draw(t)
		want := Of(all, until, 90)
		got := Of(rapid.Permutation(all).Draw(t, "order"), until, 90)
		if got.Repeat != want.Repeat || *got.WinBack != *want.WinBack || !slices.Equal(got.Retention, want.Retention) || !slices.Equal(got.Concentration, want.Concentration) {
			t.Fatalf("%+v, in another order %+v", want, got)
		}
		bare := slices.Clone(all)
		for i := range bare {
			bare[i].Days = nil
		}
		less := Of(bare, until, 90)
		if less.WinBack != nil || less.MedianGap != nil || less.Retention != nil || less.Cohorts != nil {
			t.Fatalf("without days: %+v", less)
		}
		if less.Repeat != want.Repeat || less.Interval != want.Interval || less.Tenure != want.Tenure || less.Basket != want.Basket {
			t.Fatalf("%+v, without days %+v", want, less)
		}
	})
}

// The figures are those of looking at every pair of orders, and at customers one by one from the best.
func TestFigures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, until := draw(t)
		away := rapid.Int32Range(1, 200).Draw(t, "away")
		r := Of(all, until, away)
		var tenure, back, lapsed, pairs float64
		for _, c := range all {
			tenure += float64(until - c.First)
			for k, d := range c.Days {
				next := until
				if k+1 < len(c.Days) {
					next = c.Days[k+1]
					pairs++
				}
				if next-d > away {
					lapsed++
					if k+1 < len(c.Days) {
						back++
					}
				}
			}
		}
		if r.Tenure.Of != tenure || r.WinBack.Of != back || r.WinBack.All != lapsed || r.Interval.All != pairs {
			t.Fatalf("%+v: tenure %v, back %v of %v, pairs %v", r, tenure, back, lapsed, pairs)
		}
		if (r.MedianGap == nil) != (pairs == 0) {
			t.Fatalf("median %v of %v intervals", r.MedianGap, pairs)
		}
		if r.MedianGap != nil { // no more than half lie on either side
			var below, above float64
			for _, c := range all {
				for k := 1; k < len(c.Days); k++ {
					switch gap := float64(c.Days[k] - c.Days[k-1]); {
					case gap < *r.MedianGap:
						below++
					case gap > *r.MedianGap:
						above++
					}
				}
			}
			if below > pairs/2 || above > pairs/2 {
				t.Fatalf("median %v: %v below and %v above of %v", *r.MedianGap, below, above, pairs)
			}
		}
		for _, s := range r.Concentration {
			left, best, paid := int(s.Top*float64(len(all))+0.5), 0.0, slices.Clone(all)
			for ; left > 0; left-- {
				top := 0
				for i := range paid {
					if paid[i].Paid > paid[top].Paid {
						top = i
					}
				}
				best += paid[top].Paid
				paid = slices.Delete(paid, top, top+1)
			}
			if s.Of != best || s.All != r.Revenue {
				t.Fatalf("best %v: %+v, want %v of %v", s.Top, s.Rate, best, r.Revenue)
			}
		}
	})
}
