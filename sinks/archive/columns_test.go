package archive

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// counted are the figures of a window as the rules word them, from the facts alone.
func counted(facts []state.Fact, from state.Instant) (orders int64, net state.Money) {
	back := map[uint64]state.Money{}
	for _, f := range facts {
		if f.Kind == state.RefundFact {
			back[f.Refund.Order] += f.Refund.Amount
		}
	}
	for _, f := range facts {
		if o := f.Order; f.Kind == state.OrderFact && o.Status == state.Paid && o.OrderedAt >= from && o.Amount > back[o.ID] {
			orders, net = orders+1, net+o.Amount-back[o.ID]
		}
	}
	return orders, net
}

// orderDays are the distinct days of the orders that count.
func orderDays(facts []state.Fact) (days []int32) {
	for _, f := range facts {
		if orders, _ := counted(append(refunds(facts), f), 0); f.Kind == state.OrderFact && orders > 0 && !slices.Contains(days, f.Order.Day) {
			days = append(days, f.Order.Day)
		}
	}
	return days
}

func refunds(facts []state.Fact) (list []state.Fact) {
	for _, f := range facts {
		if f.Kind == state.RefundFact {
			list = append(list, f)
		}
	}
	return list
}

// expected is a row as it should be; a nil member is null.
func expected(t *testing.T, p *population, v *store.View, id string, asOf state.Instant, params *state.Parameters) map[string]any {
	t.Helper()
	var c state.Customer
	var n state.Interactions
	known, err := v.Customer(id, &c)
	if err != nil {
		t.Fatal(err)
	}
	interacted, err := v.Interactions(id, &n)
	if err != nil {
		t.Fatal(err)
	}
	zero := int64(0)
	want := map[string]any{
		"customer_id": id, "as_of": int64(asOf), "segment": "prospect", "lifecycle": "prospect", "r": zero, "f": zero, "m": zero,
		"orders": zero, "orders_lifetime": zero, "net_revenue": zero, "net_revenue_lifetime": zero, "segment_sequence": zero,
		"risk_sequence": zero, "complaint_open": n.Complaining, "truncated": false, "orders_in_ledger": zero,
		"settled_orders": zero, "settled_net_revenue": zero,
	}
	if interacted {
		want["interactions_record"] = string(n.AppendTo(nil))
		want["last_interaction_at"] = int64(n.LastAt)
		if len(n.Consents) > 0 {
			consents := map[string]any{}
			for _, c := range n.Consents {
				consents[c.Purpose] = c.Status.String()
			}
			want["consent"] = consents
		}
	}
	if !known {
		return want
	}
	want["customer_record"] = string(c.AppendTo(nil))
	to := max(asOf, c.EvaluatedAt)
	want["as_of"], want["evaluated_at"] = int64(to), int64(c.EvaluatedAt)
	if c.Published != state.NoSegment {
		want["published_segment"] = params.Rules.SegmentName(c.Published)
	}
	segmentSeq, riskSeq := c.SegmentSeq, c.RiskSeq
	c.Advance(params, to, state.Telling{EmitBackfill: true, LiveFrom: 1}, nil)
	scored(want, &c, params, to)
	want["segment_sequence"], want["risk_sequence"] = int64(segmentSeq), int64(riskSeq)
	orders, net := counted(p.facts[id], to-params.Window)
	want["orders"], want["net_revenue"] = orders, int64(net)
	if days := orderDays(p.facts[id]); len(days) > 0 {
		want["order_days"] = int64(len(days))
		want["first_order_day"], want["last_order_day"] = int64(slices.Min(days)), int64(slices.Max(days))
	}
	orders, net = counted(p.facts[id], 0)
	want["orders_lifetime"], want["net_revenue_lifetime"] = orders, int64(net)
	inWindow := int64(0)
	for _, f := range p.facts[id] {
		if f.Kind == state.OrderFact && f.Order.OrderedAt >= to-params.Window {
			inWindow++
		}
	}
	want["orders_in_ledger"] = inWindow
	want["settled_orders"] = orders - want["orders"].(int64)
	want["settled_net_revenue"] = int64(net) - want["net_revenue"].(int64)
	return want
}

// scored is the part of a row that an advanced customer says.
func scored(want map[string]any, c *state.Customer, params *state.Parameters, to state.Instant) {
	name := params.Rules.SegmentName
	p := c.Profile(params)
	want["r"], want["f"], want["m"] = int64(p.R), int64(p.F), int64(p.M)
	want["lifecycle"] = p.Lifecycle.String()
	want["rules_version"], want["cuts_version"], want["model_version"] = int64(3), int64(2), int64(1)
	if p.Published != state.NoSegment {
		want["segment"], want["since"] = name(p.Published), int64(p.Since)
	}
	if chance := c.Chance(params, to); chance != state.None {
		want["churn_probability"] = float64(chance) / 1e6
	}
	if w := c.Worth(params, to); w.Known {
		want["clv"], want["value_at_risk"] = int64(w.Now), int64(w.AtRisk)
	}
	if p.Reference != state.None {
		want["churn_reference"] = float64(p.Reference) / 1e6
	}
	if p.Band != state.NoBand {
		want["churn_band"] = p.Band.String()
	}
	if p.Next.At != state.Never {
		want["next_transition_segment"], want["next_transition_at"] = name(p.Next.Segment), int64(p.Next.At)
	}
	if p.ThresholdAt != state.Never {
		want["next_threshold_band"], want["next_threshold_at"] = p.Threshold.Band.String(), int64(p.ThresholdAt)
	}
	if f := p.Figures; f.Lifetime > 0 {
		want["first_order_at"], want["last_order_at"] = int64(f.First), int64(f.Last)
		want["recency_days"] = int64((to - f.Last) / state.Day)
	}
}

func plain(t *testing.T, name string, v parquet.Value) any {
	t.Helper()
	switch v.Kind() {
	case parquet.Boolean:
		return v.Boolean()
	case parquet.Int32:
		return int64(v.Int32())
	case parquet.Int64:
		return v.Int64()
	case parquet.Double:
		return v.Double()
	}
	if name == "consent" {
		var m map[string]any
		if err := json.Unmarshal(v.ByteArray(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	return string(v.ByteArray())
}

func TestColumns(t *testing.T) {
	p, in := populate(t, 2000), info(t)
	seen := map[string]int{}
	for _, asOf := range []state.Instant{now, now - 400*state.Day, now + 500*state.Day} {
		dir := t.TempDir()
		part, name := p.publish(t, dir, asOf, in)
		rows := read(t, open(t, name))
		slices.Sort(p.ids)
		if int64(len(rows)) != part.Rows || len(rows) != len(p.ids) {
			t.Fatalf("%d rows, %d told; want %d", len(rows), part.Rows, len(p.ids))
		}
		v := p.view(t)
		for i, row := range rows {
			got := map[string]any{}
			for name, value := range row {
				got[name] = plain(t, name, value)
				seen[name]++
			}
			want := expected(t, p, v, p.ids[i], asOf, in.Params)
			if !reflect.DeepEqual(got, want) {
				for name := range mergeKeys(got, want) {
					if !reflect.DeepEqual(got[name], want[name]) {
						t.Errorf("as of %d, row %d: %s = %v; want %v", asOf, i, name, got[name], want[name])
					}
				}
				t.FailNow()
			}
		}
	}
	for _, c := range columns(2) {
		if seen[c.name] == 0 {
			t.Errorf("no row has a %s", c.name)
		}
	}
}

func mergeKeys(a, b map[string]any) map[string]bool {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	return keys
}
