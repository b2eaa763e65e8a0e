package oracle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// customer is one customer's facts and standing.
type customer struct {
	plan *plan
	id   string
	facts
	emit func(Output)

	known       bool // has an evaluatedAt
	evaluatedAt int64

	segment  string // the published one, "" for null
	since    int64
	been     map[string]bool
	last     score // of the last evaluation
	level    int
	hasRef   bool
	ref      int64 // millionths
	changes  int64 // segment changes announced
	warnings int64 // churn events announced
}

// Play returns everything that must come out of a log: events by customer, dead
// letters, and the last profile of each customer.  The order of the log's
// records does not matter; their topics, partitions and offsets do.
func Play(cfg Config, log []Record) ([]Output, error) {
	p, err := newPlan(cfg)
	if err != nil {
		return nil, err
	}
	log = slices.Clone(log)
	slices.SortStableFunc(log, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	var events, dead, profiles []Output
	customers := map[string]*customer{}
	customerOf := func(id string) *customer {
		if c := customers[id]; c != nil {
			return c
		}
		return &customer{plan: p, id: id, facts: newFacts(), been: map[string]bool{}, level: noBand,
			last: p.scoreAt(nil, 0), emit: func(o Output) { events = append(events, o) }}
	}
	for _, r := range log {
		var reason string
		switch r.Topic {
		case cfg.Inputs.Purchases:
			var v purchase
			if v, reason = p.readPurchase(r); reason == "" {
				c := customerOf(v.customer)
				if reason = c.purchase(v); reason == "" {
					customers[v.customer] = c
				}
			}
		case cfg.Inputs.Interactions:
			var v interaction
			if v, reason = p.readInteraction(r); reason == "" {
				c := customerOf(v.customer)
				c.addInteraction(v)
				customers[v.customer] = c
			}
		default:
			return nil, fmt.Errorf("oracle: topic %q is not an input", r.Topic)
		}
		if reason != "" {
			dead = append(dead, deadLetter(r, reason))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(customers)) {
		c := customers[id]
		if c.known && p.end > c.evaluatedAt {
			c.silence(p.end)
		}
		profiles = append(profiles, c.profile())
	}
	slices.SortStableFunc(events, func(a, b Output) int { return cmp.Compare(string(a.Key), string(b.Key)) })
	return slices.Concat(events, dead, profiles), nil
}

// purchase is 1.4 with check 13; it returns the reason of a dead letter.
func (c *customer) purchase(v purchase) string {
	now := v.instant
	if c.known {
		now = max(now, c.evaluatedAt)
	}
	if now-v.at > c.plan.window {
		return "too_late"
	}
	if c.known && v.instant > c.evaluatedAt {
		c.silence(v.instant)
	}
	c.known, c.evaluatedAt = true, now
	cause := c.add(v)
	c.evaluate(c.sales(c.plan), now, cause, v.backfill)
	return ""
}

// silence plays (evaluatedAt, until] (section 6).
func (c *customer) silence(until int64) {
	sales := c.sales(c.plan)
	due := append(c.plan.rulesDue(sales, c.evaluatedAt), c.plan.churnDue(sales, c.evaluatedAt, until)...)
	slices.Sort(due)
	for _, t := range slices.Compact(due) {
		if t <= until {
			c.evaluate(sales, t, "timer", false)
		}
	}
	c.evaluatedAt = until
	c.settle(c.plan, until)
}

// evaluate is section 7.
func (c *customer) evaluate(sales []sale, t int64, cause string, backfill bool) {
	p, s := c.plan, c.plan.scoreAt(sales, t)
	mode := "live"
	if backfill || p.liveFrom != nil && t < *p.liveFrom {
		mode = "backfill"
	}
	announced := mode == "live" || p.Backfill == "emit"

	level := noBand
	if s.n > 0 {
		level = p.bandLevel(s.probability, c.level)
	}
	if s.segment != c.segment && !(c.segment == "" && s.segment == "prospect") {
		if announced {
			c.changes++
			c.emit(c.segmentChange(sales, s, t, cause, mode, level))
		}
		c.segment, c.since = s.segment, t
		c.been[s.segment] = true
	}
	jumped := s.n > 0 && c.hasRef && max(s.probability-c.ref, c.ref-s.probability) >= p.jump
	if level != c.level || jumped {
		if announced {
			c.warnings++
			c.emit(c.churnEvent(sales, s, t, cause, mode, level))
		}
		c.level, c.hasRef, c.ref = level, s.n > 0, s.probability
	}
	c.last = s
}

func (c *customer) event(topic, letter string, sequence, t int64, value map[string]any) Output {
	id := fmt.Sprintf("%s:%d:%s:%s%d", c.plan.App, c.plan.Epoch, c.id, letter, sequence)
	value["customer_id"] = c.id
	value["sequence"] = number(sequence)
	return Output{Topic: topic, Key: []byte(c.id), Headers: map[string]string{"ce_id": id, "ce_time": timeText(t)}, Value: value}
}

// segmentChange describes the change from the published segment to that of s.
func (c *customer) segmentChange(sales []sale, s score, t int64, cause, mode string, level int) Output {
	direction := "initial"
	var from, lifecycleFrom, days, churn any
	if c.segment != "" {
		from = map[string]any{"segment": c.segment, "since": timeText(c.since),
			"r": number(int64(c.last.r)), "f": number(int64(c.last.f)), "m": number(int64(c.last.m))}
		lifecycleFrom = c.last.lifecycle
		days = number((t - c.since) / day)
		direction = []string{"down", "lateral", "up"}[cmp.Compare(ranks[s.segment], ranks[c.segment])+1]
	}
	if s.n > 0 {
		churn = map[string]any{"probability": millionths(s.probability), "band": bandNames[level]}
	}
	return c.event(SegmentChanges, "s", c.changes, t, map[string]any{
		"from": from,
		"to":   map[string]any{"segment": s.segment, "r": number(int64(s.r)), "f": number(int64(s.f)), "m": number(int64(s.m))},
		"transition": map[string]any{"direction": direction, "cause": cause,
			"first_time_in_segment": !c.been[s.segment], "days_in_previous": days},
		"lifecycle": map[string]any{"from": lifecycleFrom, "to": s.lifecycle},
		"metrics": map[string]any{
			"first_order_at": s.ifOrders(timeText(s.first)), "last_order_at": s.ifOrders(timeText(s.last)),
			"recency_days": s.ifOrders(number(s.idle / day)),
			"orders":       number(int64(s.orders)), "orders_lifetime": number(int64(s.n)),
			"net_revenue": moneyText(s.revenue, c.plan.MinorDigits), "currency": c.plan.Currency,
			"window_days": number(int64(c.plan.Rules.WindowDays)),
		},
		"next_transition": c.plan.nextTransition(sales, t),
		"churn":           churn,
		"mode":            mode,
	})
}

// churnEvent describes the change from the published band and reference to those of s.
func (c *customer) churnEvent(sales []sale, s score, t int64, cause, mode string, level int) Output {
	var probability, before any
	if s.n > 0 {
		probability = millionths(s.probability)
	}
	if c.hasRef {
		before = millionths(c.ref)
	}
	return c.event(ChurnRisk, "r", c.warnings, t, map[string]any{
		"churn": map[string]any{"probability": probability, "previous_probability": before,
			"band": bandName(level), "previous_band": bandName(c.level),
			"horizon_days": number(int64(c.plan.Churn.HorizonDays)), "method": c.plan.Churn.Method},
		"cause":                 cause,
		"days_since_last_order": s.ifOrders(number(s.idle / day)),
		"segment":               s.segment,
		"lifecycle":             s.lifecycle,
		"next_threshold":        c.plan.nextThreshold(sales, t, level),
		"mode":                  mode,
	})
}

// profile is the customer's profile at the end of the run.
func (c *customer) profile() Output {
	sales := c.sales(c.plan)
	s := c.plan.scoreAt(sales, c.evaluatedAt)
	var revenue int64
	for _, o := range sales {
		revenue += o.net
	}
	segment, since := "prospect", any(nil)
	if c.segment != "" {
		segment, since = c.segment, timeText(c.since)
	}
	var interacted any
	if c.lastInteraction != nil {
		interacted = timeText(*c.lastInteraction)
	}
	consents := map[string]any{}
	for purpose, v := range c.consents {
		consents[purpose] = v.status
	}
	return Output{Topic: Profiles, Key: []byte(c.id), Value: map[string]any{
		"customer_id": c.id, "segment_sequence": number(c.changes), "risk_sequence": number(c.warnings),
		"segment": segment, "since": since,
		"r": number(int64(s.r)), "f": number(int64(s.f)), "m": number(int64(s.m)),
		"lifecycle": s.lifecycle, "churn_band": bandName(c.level),
		"first_order_at": s.ifOrders(timeText(s.first)), "last_order_at": s.ifOrders(timeText(s.last)),
		"orders_lifetime": number(int64(s.n)), "net_revenue_lifetime": moneyText(revenue, c.plan.MinorDigits),
		"last_interaction_at": interacted, "complaint_open": c.complaintOpen(), "consent": consents,
		"next_transition": c.plan.nextTransition(sales, c.evaluatedAt),
		"next_threshold":  c.plan.nextThreshold(sales, c.evaluatedAt, c.level),
	}}
}

// ifOrders is v, or null for a customer without a counted order.
func (s score) ifOrders(v any) any {
	if s.n == 0 {
		return nil
	}
	return v
}

func bandName(level int) any {
	if level == noBand {
		return nil
	}
	return bandNames[level]
}

func deadLetter(r Record, reason string) Output {
	return Output{Topic: DeadLetters, Key: r.Key, Raw: r.Value, Headers: map[string]string{
		"asiduo-reason":    reason,
		"asiduo-topic":     r.Topic,
		"asiduo-partition": strconv.Itoa(int(r.Partition)),
		"asiduo-offset":    strconv.FormatInt(r.Offset, 10),
		"asiduo-timestamp": strconv.FormatInt(r.Timestamp, 10),
	}}
}
