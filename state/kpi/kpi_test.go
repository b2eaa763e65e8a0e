package kpi

import (
	"reflect"
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
		r := Of(all, 0, until, 90)
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

// Who is counted in which order cannot be seen; and where days before another day are not known but the first, what begins before it
// is left out of the tables and the rest is as it was.
func TestOrderAndMissingDays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, until := draw(t)
		want := Of(all, 0, until, 90)
		got := Of(rapid.Permutation(all).Draw(t, "order"), 0, until, 90)
		if got.Repeat != want.Repeat || *got.WinBack != *want.WinBack || !slices.Equal(got.Retention, want.Retention) || !slices.Equal(got.Concentration, want.Concentration) {
			t.Fatalf("%+v, in another order %+v", want, got)
		}
		since := rapid.Int32Range(all[0].First, until+1).Draw(t, "since")
		blurred := slices.Clone(all)
		for i := range blurred {
			blurred[i].Days = blur(blurred[i].Days, since)
		}
		less := Of(blurred, since, until, 90)
		if whole := Of(all, since, until, 90); !reflect.DeepEqual(less, whole) {
			t.Fatalf("%+v, all days known %+v", less, whole)
		}
		monthly, quarterly := len(want.Cohorts)-len(less.Cohorts), len(want.Retention)-len(less.Retention)
		if !reflect.DeepEqual(append([]CohortMonth{}, less.Cohorts...), append([]CohortMonth{}, want.Cohorts[monthly:]...)) || !slices.Equal(less.Retention, want.Retention[quarterly:]) {
			t.Fatalf("%+v, since %d %+v", want, since, less)
		}
		if monthly > 0 && want.Cohorts[monthly-1].Month > dayText(since - 1)[:7] || len(less.Cohorts) > 0 && less.Cohorts[0].Month <= dayText(since - 1)[:7] {
			t.Fatalf("since %s: %+v of %+v", dayText(since), less.Cohorts, want.Cohorts)
		}
		if less.Repeat != want.Repeat || less.Orders != want.Orders || less.Interval != want.Interval || less.Tenure != want.Tenure || less.Basket != want.Basket {
			t.Fatalf("%+v, without days %+v", want, less)
		}
	})
}

func dayText(day int32) string { return time.Unix(int64(day)*86400, 0).UTC().Format(time.DateOnly) }

// blur spreads the days before another evenly from the first of them to the last.
func blur(days []int32, since int32) []int32 {
	days = slices.Clone(days)
	n, _ := slices.BinarySearch(days, since)
	for k := 1; k < n-1; k++ {
		days[k] = days[0] + (days[n-1]-days[0])*int32(k)/int32(n-1)
	}
	return days
}

// The figures are those of looking at every pair of orders, and at customers one by one from the best.
func TestFigures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, until := draw(t)
		away := rapid.Int32Range(1, 200).Draw(t, "away")
		since := rapid.Int32Range(0, 1).Draw(t, "all") * rapid.Int32Range(all[0].First, until+1).Draw(t, "since")
		r := Of(all, since, until, away)
		var tenure, back, lapsed, pairs, seen float64
		for _, c := range all {
			tenure += float64(until - c.First)
			for k, d := range c.Days {
				next := until
				if k+1 < len(c.Days) {
					next = c.Days[k+1]
					pairs++
				}
				if d >= since && k+1 < len(c.Days) {
					seen++
				}
				if next-d > away && d >= since {
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
		if (r.MedianGap == nil) != (seen == 0) {
			t.Fatalf("median %v of %v intervals", r.MedianGap, seen)
		}
		if r.MedianGap != nil { // no more than half lie on either side
			var below, above float64
			for _, c := range all {
				for k := 1; k < len(c.Days); k++ {
					if c.Days[k-1] < since {
						continue
					}
					switch gap := float64(c.Days[k] - c.Days[k-1]); {
					case gap < *r.MedianGap:
						below++
					case gap > *r.MedianGap:
						above++
					}
				}
			}
			if below > seen/2 || above > seen/2 {
				t.Fatalf("median %v: %v below and %v above of %v", *r.MedianGap, below, above, seen)
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
