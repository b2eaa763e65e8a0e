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

// Risk is what is told of churn. Probabilities are None without a model or an order.
type Risk struct {
	Chance     Millionths // of no order within the horizon, as it is published
	Raw        Millionths // the same as the method gives it, before calibration
	Percentile int        // of Raw among customers with about as many orders, see Churn.Percentile; -1 without a table
	Overdue    Millionths // that his next order would have come by now, if he still buys
	Drivers    Drivers
}

// Drivers are what a chance is made of; they sum to it exactly. All are 0 where the chance is None.
type Drivers struct {
	Base    Millionths // the chance of anybody who has just placed a first order
	Rhythm  Millionths // what the customer's orders change about it, as it was right after the last; may be below 0
	Silence Millionths // what the days since then have added
}

// Worth is the margin that a customer brings in by Churn.Value: what is to come is discounted, and within its horizon.
type Worth struct {
	Now    Money // to come, as far as is known
	AtRisk Money // what would come more if it was certain that he still buys
	Earned Money // so far, not discounted
	Known  bool
}

// lastChurnDay is the day of silence after which the probability stays as it is.
const lastChurnDay = 3650

// on is the probability of no order within the horizon after e days of silence: what is published, and what bands, jumps and
// thresholds are judged on.
func (c *Churn) on(t *tally, e int) Millionths { return c.calibrated(c.raw(t, e)) }

// calibrated is what the map makes of the method's own probability. It keeps the order, so that a probability still never
// falls in silence.
func (c *Churn) calibrated(p Millionths) Millionths {
	if c.Map == nil || p == None {
		return p
	}
	return InMillionths(1 - c.Map.Apply(1-float64(p)/1e6))
}

// raw is the method's own probability after e days of silence.
func (c *Churn) raw(t *tally, e int) Millionths {
	x, tx := t.history()
	return c.of(x, tx, e)
}

func (c *Churn) of(x, tx float64, e int) Millionths {
	if c.Method == ByMBGNBD {
		return InMillionths(c.MBGNBD.NoOrder(x, tx, float64(e), float64(c.Horizon)))
	}
	return InMillionths(c.Rhythm.Silence(x, tx, float64(e)))
}

// drivers are those of a chance.
func (c *Churn) drivers(t *tally, chance Millionths) Drivers {
	if chance == None {
		return Drivers{}
	}
	base, fresh := c.calibrated(c.of(0, 0, 0)), c.on(t, 0)
	return Drivers{base, fresh - base, chance - fresh}
}

// overdue is how far beyond the customer's own rhythm the silence is; None if there is no model or no order.
func (t *tally) overdue(p *Parameters, now Instant) Millionths {
	if t.orders == 0 || p.Churn.Method == NoChurn {
		return None
	}
	x, tx := t.history()
	e := float64(t.silentDays(now))
	if p.Churn.Method == ByMBGNBD {
		return InMillionths(p.Churn.MBGNBD.Overdue(x, tx, e))
	}
	return InMillionths(p.Churn.Rhythm.Overdue(x, tx, e))
}

// history is what the models know of a customer with orders: repeat days x, and days tx from the first to the last.
func (t *tally) history() (x, tx float64) {
	return float64(t.occasions.Days - 1), float64(t.occasions.LastDay - t.occasions.FirstDay)
}

// risk is what is told of a chance as the method gives it.
func (t *tally) risk(p *Parameters, raw Millionths, now Instant) Risk {
	chance := p.Churn.calibrated(raw)
	return Risk{chance, raw, p.Churn.Percentile(raw, t.occasions.Days), t.overdue(p, now), p.Churn.drivers(t, chance)}
}

// worth is what the customer will bring in; not known without a model of spending, or an order.
func (t *tally) worth(p *Parameters, now Instant) Worth {
	if p.Churn.Value == nil || t.orders == 0 {
		return Worth{}
	}
	x, tx := t.history()
	e := float64(t.silentDays(now))
	whole := p.Churn.Value.Alive(p.Churn.MBGNBD, x, tx, e, float64(max(t.lifetime, 0))/(x+1))
	alive := p.Churn.MBGNBD.Alive(x, tx, e)
	amount := func(v float64) Money { return Money(min(math.Floor(v+0.5), float64(MaxMoney))) }
	earned := amount(float64(p.Churn.Value.Margin * float64(max(t.lifetime, 0))))
	return Worth{amount(float64(whole * alive)), amount(float64(whole * (1 - alive))), earned, true}
}

// silentDays are whole days since the last order, at most lastChurnDay.
func (t *tally) silentDays(now Instant) int { return int(min((now-t.last)/Day, lastChurnDay)) }

// chance is the probability at the instant now; None if there is no model or no order.
func (t *tally) chance(p *Parameters, now Instant) Millionths {
	return p.Churn.calibrated(t.raw(p, now))
}

// raw is the chance as the method gives it, before calibration.
func (t *tally) raw(p *Parameters, now Instant) Millionths {
	if t.orders == 0 || p.Churn.Method == NoChurn {
		return None
	}
	return p.Churn.raw(t, t.silentDays(now))
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
