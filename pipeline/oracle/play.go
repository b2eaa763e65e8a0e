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
	adoptedAt   int64 // silence up to here is over: it was played before the last adoption

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

// Play returns everything that must come out of a log if nobody looks at a customer
// before all of the log has been read: events by customer, dead letters, and the last
// profile of each customer.  The order of the log's records does not matter; their
// topics, partitions and offsets do.
func Play(cfg Config, log []Record) ([]Output, error) {
	log = slices.Clone(log)
	slices.SortStableFunc(log, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	out, _, err := Replay(cfg, log, nil)
	return out, err
}

// Look is what a run has done with a customer: after the records before Next, and before
// all others, it had been evaluated at At.
type Look struct {
	Customer string
	At       int64
	Next     map[string]map[int32]int64 // the next offset to read, by topic and partition
	Adopted  *Adoption                  // if this is no look but an adoption at At
}

// Adoption is the change of a customer's rules, cuts or churn model to those of another configuration, which must be equal
// in everything else, the window included; or with the cause "live" that of live_from alone, which is no evaluation.
type Adoption struct {
	Config   Config
	Cause    string // rules, cuts, model or live
	Announce bool
}

func (l Look) covers(r Record) bool { return r.Offset < l.Next[r.Topic][r.Partition] }

// Replay returns what must come out of a log of a run that has looked at customers while
// records came, and which of the looks were silence: the customer's records alone do not
// explain them.  The records of a customer and topic must be in the order in which they
// were read, and so must the looks.
func Replay(cfg Config, log []Record, looks []Look) (out []Output, silences []Look, err error) {
	p, err := newPlan(cfg)
	if err != nil {
		return nil, nil, err
	}
	run := replay{plan: p, customers: map[string]*customer{}, plans: map[string]*plan{}, waiting: map[string][]Look{}}
	for _, l := range looks {
		run.waiting[l.Customer] = append(run.waiting[l.Customer], l)
	}
	var dead []Output
	for _, r := range log {
		reason, err := run.take(r)
		if err != nil {
			return nil, nil, err
		}
		if reason != "" {
			dead = append(dead, deadLetter(r, reason))
		}
	}
	for id := range run.waiting {
		if err := run.look(id, func(Look) bool { return true }); err != nil {
			return nil, nil, err
		}
	}
	profiles := p.trail(run.customers)
	slices.SortStableFunc(run.events, func(a, b Output) int { return cmp.Compare(string(a.Key), string(b.Key)) })
	return slices.Concat(run.events, dead, profiles), run.silences, nil
}

// replay is a run as far as the log has been read.
type replay struct {
	plan      *plan
	customers map[string]*customer
	plans     map[string]*plan // those adopted before a customer is known
	waiting   map[string][]Look
	silences  []Look
	events    []Output
}

// customer is one who may not be known yet.
func (r *replay) customer(id string) *customer {
	if c := r.customers[id]; c != nil {
		return c
	}
	return &customer{plan: cmp.Or(r.plans[id], r.plan), id: id, facts: newFacts(), been: map[string]bool{}, level: noBand,
		last: r.plan.scoreAt(nil, 0), emit: func(o Output) { r.events = append(r.events, o) }}
}

// take reads one record, and returns the reason of a dead letter.
func (r *replay) take(record Record) (reason string, err error) {
	switch record.Topic {
	case r.plan.Inputs.Purchases:
		var v purchase
		if v, reason = r.plan.readPurchase(record); reason != "" {
			return reason, nil
		}
		if err := r.look(v.customer, func(l Look) bool { return !l.covers(record) }); err != nil {
			return "", err
		}
		c := r.customer(v.customer)
		if reason = c.purchase(v); reason == "" {
			r.customers[v.customer] = c
		}
	case r.plan.Inputs.Interactions:
		var v interaction
		if v, reason = r.plan.readInteraction(record); reason == "" {
			c := r.customer(v.customer)
			c.addInteraction(v)
			r.customers[v.customer] = c
		}
	default:
		return "", fmt.Errorf("oracle: topic %q is not an input", record.Topic)
	}
	return reason, nil
}

// look does with a customer what is due of what waits for him.
func (r *replay) look(id string, due func(Look) bool) (err error) {
	for c := r.customers[id]; len(r.waiting[id]) > 0 && due(r.waiting[id][0]); r.waiting[id] = r.waiting[id][1:] {
		l := r.waiting[id][0]
		switch {
		case l.Adopted != nil:
			if r.plans[id], err = newPlan(l.Adopted.Config); err != nil {
				return err
			}
			if c != nil {
				c.adopt(r.plans[id], l.At, l.Adopted)
			}
		case c == nil || !c.known:
			return fmt.Errorf("oracle: %q was looked at before it was known", id)
		case l.At < c.evaluatedAt:
			return fmt.Errorf("oracle: %q was evaluated at %s, though its records go as far as %s", id, timeText(l.At), timeText(c.evaluatedAt))
		case l.At > c.evaluatedAt:
			c.silence(l.At)
			r.silences = append(r.silences, l)
		}
	}
	return nil
}

// trail plays trailing silence, and returns where everybody is then.
func (p *plan) trail(customers map[string]*customer) (profiles []Output) {
	for _, id := range slices.Sorted(maps.Keys(customers)) {
		c := customers[id]
		if c.known && p.end > c.evaluatedAt {
			c.silence(p.end)
		}
		profiles = append(profiles, c.profile())
	}
	return profiles
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
	c.adoptedAt = 0
	return ""
}

// silence plays (evaluatedAt, until] (section 6).
func (c *customer) silence(until int64) {
	c.play(until)
	c.evaluatedAt = until
	c.settle(c.plan, until)
}

// play evaluates the customer at all instants of silence up to one.
func (c *customer) play(until int64) {
	sales, after := c.sales(c.plan), max(c.evaluatedAt, c.adoptedAt)
	due := append(c.plan.rulesDue(sales, after), c.plan.churnDue(sales, after, until)...)
	slices.Sort(due)
	for _, t := range slices.Compact(due) {
		if t <= until {
			c.evaluate(sales, t, "timer", false)
		}
	}
}

// adopt plays silence under the former plan and evaluates the customer once under the new one. That is no look: what
// comes late afterwards is evaluated as if there had been no adoption.
func (c *customer) adopt(p *plan, at int64, a *Adoption) {
	if c.known && a.Cause != "live" {
		at = max(at, c.evaluatedAt)
		c.play(at)
		c.plan, c.adoptedAt = p, at
		c.evaluate(c.sales(p), at, a.Cause, !a.Announce)
	}
	c.plan = p
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
	var probability, before, overdue, drivers any
	if s.n > 0 {
		probability = millionths(s.probability)
		overdue = millionths(c.plan.overdue(sales, min(s.idle/day, lastChurnDay)))
		first, fresh := c.plan.churnProbability(sales[:1], 0), c.plan.churnProbability(sales, 0)
		drivers = map[string]any{"base": millionths(first), "rhythm": millionths(fresh - first), "silence": millionths(s.probability - fresh)}
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
		"overdue":               overdue,
		"drivers":               drivers,
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
