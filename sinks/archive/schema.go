package archive

import (
	"github.com/parquet-go/parquet-go"

	"github.com/asiduo/asiduo/state"
)

// precision of the DECIMAL columns: the most that INT64 holds, which every reader knows.
const precision = 18

// maxMoney is the greatest amount of that precision. State stops at somewhat more; a sum up there means nothing.
const maxMoney = 999_999_999_999_999_999

// Columns of the records as they are stored, not advanced to the instant of the snapshot: what an import needs.
const (
	customerRecord     = "customer_record"
	interactionsRecord = "interactions_record"
)

// column is one column of the files: what it is, and how it comes from a row; a null Value means not known.
type column struct {
	name string
	node parquet.Node
	of   func(*row) parquet.Value
}

// Encodings are chosen here, and are those that readers have had for long: what takes few values is a dictionary,
// instants are differences, which makes the file a fifth smaller, and the rest is plain.
var (
	instant = parquet.Encoded(parquet.Timestamp(parquet.Millisecond), &parquet.DeltaBinaryPacked)
	word    = parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	text    = parquet.Encoded(parquet.String(), &parquet.Plain)
	small   = parquet.Encoded(parquet.Int(32), &parquet.RLEDictionary)
	count   = parquet.Encoded(parquet.Int(64), &parquet.RLEDictionary)
	date    = parquet.Encoded(parquet.Date(), &parquet.DeltaBinaryPacked)
	chance  = parquet.Encoded(parquet.Leaf(parquet.DoubleType), &parquet.RLEDictionary)
	raw     = parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.Plain)
	yes     = parquet.Leaf(parquet.BooleanType)
)

// columns are all columns in their order, with money of so many digits after the point. At the end is where new ones
// go; they have to be optional.
func columns(digits int) []column {
	money := parquet.Encoded(parquet.Decimal(digits, precision, parquet.Int64Type), &parquet.Plain)
	return []column{
		{"customer_id", text, func(r *row) parquet.Value { return r.id }},
		{"as_of", parquet.Encoded(instant, &parquet.RLEDictionary), func(r *row) parquet.Value { return at(r.asOf) }},
		{"evaluated_at", parquet.Optional(instant), func(r *row) parquet.Value { return when(r.evaluatedAt, r.evaluated) }},
		{"segment", word, func(r *row) parquet.Value { return r.words.segments[max(r.Published, state.Prospect)] }},
		{"published_segment", parquet.Optional(word), func(r *row) parquet.Value { return r.words.segments[r.published] }},
		{"since", parquet.Optional(instant), func(r *row) parquet.Value { return when(r.Since, r.Published != state.NoSegment) }},
		{"r", small, func(r *row) parquet.Value { return parquet.Int32Value(int32(r.R)) }},
		{"f", small, func(r *row) parquet.Value { return parquet.Int32Value(int32(r.F)) }},
		{"m", small, func(r *row) parquet.Value { return parquet.Int32Value(int32(r.M)) }},
		{"lifecycle", word, func(r *row) parquet.Value { return r.words.lifecycles[r.Lifecycle] }},
		{"churn_probability", parquet.Optional(chance), func(r *row) parquet.Value { return probability(r.chance) }},
		{"churn_band", parquet.Optional(word), func(r *row) parquet.Value { return r.words.band(r.Band) }},
		{"churn_reference", parquet.Optional(chance), func(r *row) parquet.Value { return probability(r.Reference) }},
		{"next_transition_segment", parquet.Optional(word), func(r *row) parquet.Value { return r.nextSegment() }},
		{"next_transition_at", parquet.Optional(instant), func(r *row) parquet.Value { return when(r.Next.At, r.Next.At != state.Never) }},
		{"next_threshold_band", parquet.Optional(word), func(r *row) parquet.Value { return r.nextBand() }},
		{"next_threshold_at", parquet.Optional(instant), func(r *row) parquet.Value { return when(r.ThresholdAt, r.ThresholdAt != state.Never) }},
		{"first_order_at", parquet.Optional(instant), func(r *row) parquet.Value { return when(r.Figures.First, r.bought()) }},
		{"last_order_at", parquet.Optional(instant), func(r *row) parquet.Value { return when(r.Figures.Last, r.bought()) }},
		{"recency_days", parquet.Optional(small), func(r *row) parquet.Value { return r.recencyDays() }},
		{"orders", count, func(r *row) parquet.Value { return parquet.Int64Value(int64(r.Figures.Orders)) }},
		{"orders_lifetime", count, func(r *row) parquet.Value { return parquet.Int64Value(r.Figures.Lifetime) }},
		{"net_revenue", money, func(r *row) parquet.Value { return amount(r.Figures.Net) }},
		{"net_revenue_lifetime", money, func(r *row) parquet.Value { return amount(r.Figures.LifetimeNet) }},
		{"segment_sequence", count, func(r *row) parquet.Value { return parquet.Int64Value(int64(r.SegmentSeq)) }},
		{"risk_sequence", count, func(r *row) parquet.Value { return parquet.Int64Value(int64(r.RiskSeq)) }},
		{"last_interaction_at", parquet.Optional(instant), func(r *row) parquet.Value { return when(r.lastInteraction, r.lastInteraction > 0) }},
		{"complaint_open", yes, func(r *row) parquet.Value { return parquet.BooleanValue(r.complaining) }},
		{"consent", parquet.Optional(word), func(r *row) parquet.Value { return r.consent }},
		{"truncated", yes, func(r *row) parquet.Value { return parquet.BooleanValue(r.truncated) }},
		{"rules_version", parquet.Optional(count), func(r *row) parquet.Value { return r.version(r.Versions.Rules) }},
		{"cuts_version", parquet.Optional(count), func(r *row) parquet.Value { return r.version(r.Versions.Cuts) }},
		{"model_version", parquet.Optional(count), func(r *row) parquet.Value { return r.version(r.Versions.Model) }},
		{"orders_in_ledger", small, func(r *row) parquet.Value { return parquet.Int32Value(int32(r.inLedger)) }},
		{"settled_orders", count, func(r *row) parquet.Value { return parquet.Int64Value(r.settled.Orders) }},
		{"settled_net_revenue", money, func(r *row) parquet.Value { return amount(r.settled.Net) }},
		{"order_days", parquet.Optional(count), func(r *row) parquet.Value { return r.orderDays() }},
		{"first_order_day", parquet.Optional(date), func(r *row) parquet.Value { return r.day(r.occasions.FirstDay) }},
		{"last_order_day", parquet.Optional(date), func(r *row) parquet.Value { return r.day(r.occasions.LastDay) }},
		{customerRecord, parquet.Optional(raw), func(r *row) parquet.Value { return r.customer }},
		{interactionsRecord, parquet.Optional(raw), func(r *row) parquet.Value { return r.interactions }},
		{"clv", parquet.Optional(money), func(r *row) parquet.Value { return r.value(r.worth.Now) }},
		{"value_at_risk", parquet.Optional(money), func(r *row) parquet.Value { return r.value(r.worth.AtRisk) }},
	}
}

func at(t state.Instant) parquet.Value { return parquet.Int64Value(int64(t)) }

func when(t state.Instant, known bool) parquet.Value {
	if !known {
		return parquet.Value{}
	}
	return at(t)
}

func amount(m state.Money) parquet.Value { return parquet.Int64Value(min(int64(m), maxMoney)) }

func probability(p state.Millionths) parquet.Value {
	if p == state.None {
		return parquet.Value{}
	}
	return parquet.DoubleValue(float64(p) / float64(state.One))
}

// ordered is a group whose fields have the order of names; that of a parquet.Group is alphabetical.
type ordered struct {
	parquet.Group
	names []string
}

func (o ordered) Fields() []parquet.Field {
	byName := make(map[string]parquet.Field, len(o.names))
	for _, f := range o.Group.Fields() {
		byName[f.Name()] = f
	}
	fields := make([]parquet.Field, len(o.names))
	for i, name := range o.names {
		fields[i] = byName[name]
	}
	return fields
}

func schemaOf(columns []column) *parquet.Schema {
	root := ordered{Group: parquet.Group{}}
	for _, c := range columns {
		root.Group[c.name] = c.node
		root.names = append(root.names, c.name)
	}
	return parquet.NewSchema("customer", root)
}
