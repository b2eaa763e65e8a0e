package oracle

import (
	"math"
	"slices"
)

// lastChurnDay is the day after which the churn probability stays (5.6, 5.7).
const lastChurnDay = 3650

// noBand is the band level of a customer without a churn probability.
const noBand = -1

var bandNames = []string{"low", "medium", "high"}

var ranks = map[string]int{
	"champions": 9, "loyal": 8, "potential_loyalist": 7, "new": 6, "promising": 5, "needs_attention": 4,
	"about_to_sleep": 3, "at_risk": 2, "hibernating": 1, "cant_lose": 1, "lost": 0, "prospect": 0,
}

// score is everything of section 5 at one instant, the band aside.
type score struct {
	n           int // counted orders ever
	first, last int64
	idle        int64
	orders      int   // F
	revenue     int64 // M
	r, f, m     int
	segment     string
	lifecycle   string
	probability int64 // millionths; meaningless if n is 0
}

// scoreAt computes the score from all counted orders, which are ordered by instant.
func (p *plan) scoreAt(sales []sale, now int64) score {
	if len(sales) == 0 {
		return score{segment: "prospect", lifecycle: "prospect"}
	}
	s := score{n: len(sales), first: sales[0].at, last: sales[len(sales)-1].at}
	s.idle = now - s.last
	s.r = 5
	for _, c := range p.recency {
		if s.idle > c {
			s.r--
		}
	}
	for _, o := range sales {
		if now-o.at <= p.window {
			s.orders++
			s.revenue += o.net
		}
	}
	if s.orders > 0 {
		s.f, s.m = 1, 1
		for _, cut := range p.Rules.Frequency {
			if cut <= s.orders {
				s.f++
			}
		}
		for _, cut := range p.moneyCuts {
			if cut <= s.revenue {
				s.m++
			}
		}
	}
	s.segment = segmentOf(s)
	s.lifecycle = p.lifecycleOf(s, sales, now)
	s.probability = p.churnProbability(sales, min(s.idle/day, lastChurnDay))
	return s
}

// segmentOf is the table of 5.4, for customers with a counted order.
func segmentOf(s score) string {
	r, f, m := s.r, s.f, s.m
	switch {
	case s.orders == 0:
		return "lost"
	case r >= 4 && f >= 4 && m >= 4:
		return "champions"
	case r >= 4 && f >= 3:
		return "loyal"
	case r >= 4 && f == 2:
		return "potential_loyalist"
	case r == 5:
		return "new"
	case r == 4:
		return "promising"
	case r == 3 && f >= 3:
		return "needs_attention"
	case r == 3:
		return "about_to_sleep"
	case r == 2 && (f >= 3 || f == 2 && m >= 4):
		return "at_risk"
	case r == 2:
		return "hibernating"
	case f >= 4 && m >= 4:
		return "cant_lose"
	}
	return "lost"
}

// lifecycleOf is the table of 5.5, for customers with a counted order.
func (p *plan) lifecycleOf(s score, sales []sale, now int64) string {
	wonBack := false
	for i := 1; i < len(sales); i++ {
		if sales[i].at-sales[i-1].at > p.recency[2] && now-sales[i].at <= p.recency[1] {
			wonBack = true
		}
	}
	switch {
	case s.idle > p.recency[3]:
		return "lost"
	case s.idle > p.recency[2]:
		return "dormant"
	case s.idle > p.recency[1]:
		return "at_risk"
	case wonBack:
		return "won_back"
	case s.n == 1:
		return "trier"
	case s.f <= 2:
		return "recent"
	case s.f == 3:
		return "regular"
	}
	return "loyal"
}

// rhythm is what the models know of sales: days with sales after the first, and the days from the first to the last.
func rhythm(sales []sale) (x, tx float64) {
	for i := 1; i < len(sales); i++ {
		if sales[i].day != sales[i-1].day {
			x++
		}
	}
	return x, float64(sales[len(sales)-1].day - sales[0].day)
}

// overdue is the probability in millionths that the next gap of somebody who still buys is not longer than elapsed days:
// gaps are exponential, their rate has a gamma distribution, so the gap has that of Lomax.
func (p *plan) overdue(sales []sale, elapsed int64) int64 {
	x, tx := rhythm(sales)
	shape, scale := p.Churn.Params.R, p.Churn.Params.Alpha
	if p.Churn.Method == "heuristic" {
		shape, scale = 2, 2*p.Churn.Params.ShopGapDays
	}
	longer := math.Pow(1+float64(elapsed)/(scale+tx), -(shape + x))
	return int64(math.Floor((1-longer)*1e6 + 0.5))
}

// churnProbability is 5.7 in millionths, e days after the last order.
func (p *plan) churnProbability(sales []sale, elapsed int64) int64 {
	x, tx := rhythm(sales)
	e, h := float64(elapsed), float64(p.Churn.HorizonDays)
	var probability float64
	switch q := p.Churn.Params; p.Churn.Method {
	case "mbg_nbd":
		v := math.Log(q.A) - math.Log(q.B+x) + (q.R+x)*math.Log1p(e/(q.Alpha+tx))
		dead := 1 / (1 + math.Exp(-v))
		g := math.Exp(-(q.R + x) * math.Log1p(h/(q.Alpha+tx+e)))
		probability = dead + (1-dead)*g
	case "heuristic":
		gap := (2*q.ShopGapDays + tx) / (2 + x)
		ratio := e / gap / 2
		probability = 1 - math.Exp(-math.Ln2*(ratio*ratio))
	}
	return int64(math.Floor(probability*1e6 + 0.5))
}

// bandLevel is 5.8: the level that follows the previous one.
func (p *plan) bandLevel(probability int64, previous int) int {
	level := 0
	for i, boundary := range p.bands {
		if previous >= i+1 {
			boundary -= p.hysteresis
		}
		if probability >= boundary {
			level++
		}
	}
	return level
}

// rulesDue lists the instants after now at which silence may change r, f, m or
// the lifecycle (section 6), in order.
func (p *plan) rulesDue(sales []sale, now int64) []int64 {
	var due []int64
	for _, o := range sales {
		due = append(due, o.at+p.window+1)
		for _, c := range p.recency {
			due = append(due, o.at+c+1)
		}
	}
	due = slices.DeleteFunc(due, func(t int64) bool { return t <= now })
	slices.Sort(due)
	return slices.Compact(due)
}

// churnDue lists the instants in (now, until] at which silence may change the churn probability.
func (p *plan) churnDue(sales []sale, now, until int64) []int64 {
	var due []int64
	if len(sales) == 0 {
		return nil
	}
	last := sales[len(sales)-1].at
	for k := int64(1); k <= lastChurnDay && last+k*day <= until; k++ {
		if last+k*day > now {
			due = append(due, last+k*day)
		}
	}
	return due
}

// nextTransition is the first instant at which the segment will differ in silence.
func (p *plan) nextTransition(sales []sale, now int64) any {
	current := p.scoreAt(sales, now).segment
	for _, t := range p.rulesDue(sales, now) {
		if segment := p.scoreAt(sales, t).segment; segment != current {
			return map[string]any{"segment": segment, "at": timeText(t)}
		}
	}
	return nil
}

// nextThreshold is the first instant at which the band will differ in silence.
func (p *plan) nextThreshold(sales []sale, now int64, level int) any {
	if level == noBand || level == len(bandNames)-1 {
		return nil // p never falls in silence, so the highest band stays
	}
	for _, t := range p.churnDue(sales, now, math.MaxInt64) {
		e := (t - sales[len(sales)-1].at) / day
		if next := p.bandLevel(p.churnProbability(sales, e), level); next != level {
			return map[string]any{"band": bandNames[next], "at": timeText(t)}
		}
	}
	return nil
}
