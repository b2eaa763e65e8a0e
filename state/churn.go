package state

import (
	"math"
	"sort"
)

// Band is the level of churn risk.
type Band int8

// The bands, ascending.
const (
	NoBand Band = iota - 1
	Low
	Medium
	High
)

var bandNames = [...]string{"low", "medium", "high"}

// String is the band's name, empty for NoBand.
func (b Band) String() string {
	if b == NoBand {
		return ""
	}
	return bandNames[b]
}

// Bands are the names of all bands, lowest first.
func Bands() []string { return bandNames[:] }

// lastChurnDay is the day of silence after which the probability stays as it is.
const lastChurnDay = 3650

// on is the probability of no order within the horizon after e days of silence.
func (c *Churn) on(t *tally, e int) Millionths {
	x, tx := float64(t.occasions.Days-1), float64(t.occasions.LastDay-t.occasions.FirstDay)
	var p float64
	if c.Method == ByMBGNBD {
		p = c.MBGNBD.NoOrder(x, tx, float64(e), float64(c.Horizon))
	} else {
		p = c.Rhythm.Silence(x, tx, float64(e))
	}
	return Millionths(math.Floor(float64(p*1e6) + 0.5))
}

// silentDays are whole days since the last order, at most lastChurnDay.
func (t *tally) silentDays(now Instant) int { return int(min((now-t.last)/Day, lastChurnDay)) }

// chance is the probability at the instant now; None if there is no model or no order.
func (t *tally) chance(p *Parameters, now Instant) Millionths {
	if t.orders == 0 || p.Churn.Method == NoChurn {
		return None
	}
	return p.Churn.on(t, t.silentDays(now))
}

// band is the level of probability p for a customer who was on level was: a band is entered at its boundary and left
// only below boundary minus hysteresis.
func (c *Churn) band(was Band, p Millionths) Band {
	if p == None {
		return NoBand
	}
	level := Low
	for k, bound := range c.Bands {
		if was >= Band(k+1) {
			bound -= c.Hysteresis
		}
		if p >= bound {
			level++
		}
	}
	return level
}

// jumped says whether p is far enough from the reference to be told.
func (c *Churn) jumped(reference, p Millionths) bool {
	return reference != None && p != None && max(p-reference, reference-p) >= c.Jump
}

// firstDay is the first whole day of silence after day e, up to day last, on which the probability has reached bound;
// 0 if there is none. The probability never falls in silence.
func (c *Churn) firstDay(t *tally, e, last int, bound Millionths) int {
	if last <= e || c.on(t, last) < bound {
		return 0
	}
	return e + 1 + sort.Search(last-e-1, func(i int) bool { return c.on(t, e+1+i) >= bound })
}

// threshold is the first day after now on which silence moves the band.
func (t *tally) threshold(p *Parameters, now Instant, band Band) Threshold {
	if band == NoBand || band == High {
		return Threshold{}
	}
	day := p.Churn.firstDay(t, t.silentDays(now), lastChurnDay, p.Churn.Bands[band])
	if day == 0 {
		return Threshold{}
	}
	return Threshold{day, p.Churn.band(band, p.Churn.on(t, day))}
}

// churnDue is the first instant after now, not after until, at which silence moves the band or the probability jumps;
// Never if there is none. The last whole day before until is looked at first: mostly nothing happens by then, and
// nothing has to be solved for.
func (t *tally) churnDue(p *Parameters, now, until Instant, is *Standing) Instant {
	if is.Band == NoBand {
		return Never
	}
	e, last := t.silentDays(now), lastChurnDay
	if until != Never {
		last = min(last, t.silentDays(until))
	}
	day := is.Threshold.Days
	if day > last {
		day = 0
	}
	if day > 0 {
		last = day - 1
	}
	if bound := is.Reference + p.Churn.Jump; bound <= One {
		if d := p.Churn.firstDay(t, e, last, bound); d > 0 {
			day = d
		}
	}
	if day == 0 {
		return Never
	}
	return t.last + Instant(day)*Day
}
