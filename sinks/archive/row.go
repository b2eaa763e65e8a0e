package archive

import (
	"encoding/json"
	"fmt"

	"github.com/parquet-go/parquet-go"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// row is one customer as the columns see it.
type row struct {
	state.Profile // at asOf
	id            parquet.Value
	asOf          state.Instant
	evaluated     bool // else only interactions are known, or nothing that was ever evaluated
	evaluatedAt   state.Instant
	published     state.Segment // as stored, like evaluatedAt
	chance        state.Millionths
	worth         state.Worth
	inLedger      int
	settled       state.Settled
	occasions     state.Occasions

	lastInteraction state.Instant
	complaining     bool
	consent         parquet.Value
	truncated       bool

	customer, interactions parquet.Value // as stored

	words *words
	bytes []byte // behind the values of this row and of those before it in its batch
	quiet []state.Change
}

// nobody is the profile of a customer of whom no order or refund has been seen.
var nobody = state.Profile{
	Standing:    state.Standing{Band: state.NoBand, Reference: state.None},
	Next:        state.Transition{At: state.Never},
	ThresholdAt: state.Never,
}

// silent announces nothing, so that no sequence moves.
var silent = state.Telling{LiveFrom: state.Never}

// take makes r the row of a customer at the instant asOf, or at the stored evaluation if that was later. It advances
// the customer it is given, which is a decoded copy.
func (r *row) take(from store.Row, p *state.Parameters, asOf state.Instant) error {
	*r = row{Profile: nobody, asOf: asOf, chance: state.None, words: r.words, bytes: r.bytes, quiet: r.quiet[:0]}
	r.id = r.string(from.ID)
	r.customer, r.interactions = r.record(from.CustomerRecord), r.record(from.InteractionsRecord)
	if n := from.Interactions; n != nil {
		r.lastInteraction, r.complaining, r.truncated = n.LastAt, n.Complaining, n.Truncated
		if err := r.takeConsents(n.Consents); err != nil {
			return err
		}
	}
	c := from.Customer
	if c == nil {
		return nil
	}
	r.truncated = r.truncated || c.Truncated
	if c.Evaluated {
		if c.Published != state.NoSegment && r.words.segments[c.Published].IsNull() {
			return fmt.Errorf("a customer is in segment %d, which the rule set %s has no name for: %w", c.Published, p.Rules.Name, state.ErrCorrupt)
		}
		r.evaluated, r.evaluatedAt, r.published = true, c.EvaluatedAt, c.Published
		r.asOf = max(asOf, c.EvaluatedAt)
		r.quiet = c.Advance(p, r.asOf, silent, r.quiet)
		// Silence ends at its last step, after which orders may have left the window without moving a score, and other
		// parameters may have come. One more look, at the instant itself, makes the figures those of this instant.
		if c.Versions != p.Versions || (len(c.Orders) > 0 && c.Orders[0].OrderedAt+p.Window < r.asOf) {
			c.Due = r.asOf
			r.quiet = c.Advance(p, r.asOf, silent, r.quiet)
		}
		r.Profile, r.chance, r.worth = c.Profile(p), c.Chance(p, r.asOf), c.Worth(p, r.asOf)
	}
	r.inLedger, r.settled, r.occasions = len(c.Orders), c.Settled, c.Occasions()
	return nil
}

// value is null where what a customer will bring in is not known.
func (r *row) value(m state.Money) parquet.Value {
	if !r.worth.Known {
		return parquet.Value{}
	}
	return amount(m)
}

// takeConsents makes the consents a JSON object of purpose and status; null if nothing was ever said.
func (r *row) takeConsents(consents []state.Consent) error {
	if len(consents) == 0 {
		return nil
	}
	from := len(r.bytes)
	for i := range consents {
		purpose, err := json.Marshal(consents[i].Purpose)
		if err != nil {
			return err
		}
		r.bytes = append(r.bytes, "{,"[min(i, 1)])
		r.bytes = append(r.bytes, purpose...)
		r.bytes = append(r.bytes, `:"`...)
		r.bytes = append(r.bytes, consents[i].Status.String()...)
		r.bytes = append(r.bytes, '"')
	}
	r.bytes = append(r.bytes, '}')
	r.consent = parquet.ByteArrayValue(r.bytes[from:len(r.bytes):len(r.bytes)])
	return nil
}

// string is a value of s that lives as long as the batch: when bytes grow, the old array stays for its values.
func (r *row) string(s string) parquet.Value {
	from := len(r.bytes)
	r.bytes = append(r.bytes, s...)
	return parquet.ByteArrayValue(r.bytes[from:len(r.bytes):len(r.bytes)])
}

// record is a value of the bytes of a record; null if there is none.
func (r *row) record(b []byte) parquet.Value {
	if len(b) == 0 {
		return parquet.Value{}
	}
	from := len(r.bytes)
	r.bytes = append(r.bytes, b...)
	return parquet.ByteArrayValue(r.bytes[from:len(r.bytes):len(r.bytes)])
}

func (r *row) bought() bool { return r.Figures.Lifetime > 0 }

func (r *row) recencyDays() parquet.Value {
	if !r.bought() {
		return parquet.Value{}
	}
	return parquet.Int32Value(int32((r.asOf - r.Figures.Last) / state.Day))
}

func (r *row) nextSegment() parquet.Value {
	if r.Next.At == state.Never {
		return parquet.Value{}
	}
	return r.words.segments[r.Next.Segment]
}

func (r *row) nextBand() parquet.Value {
	if r.ThresholdAt == state.Never {
		return parquet.Value{}
	}
	return r.words.band(r.Threshold.Band)
}

func (r *row) version(v uint32) parquet.Value {
	if !r.evaluated {
		return parquet.Value{}
	}
	return parquet.Int64Value(int64(v))
}

// words are the values of all names, made once.
type words struct {
	segments   []parquet.Value // by segment; that of NoSegment is null
	lifecycles []parquet.Value
	bands      []parquet.Value
}

func newWords(rules *state.RuleSet) *words {
	w := &words{segments: make([]parquet.Value, state.MaxSegments)}
	for _, g := range rules.Codes() {
		w.segments[g.Code] = wordValue(g.Name)
	}
	for _, name := range state.Lifecycles() {
		w.lifecycles = append(w.lifecycles, wordValue(name))
	}
	for _, name := range state.Bands() {
		w.bands = append(w.bands, wordValue(name))
	}
	return w
}

func wordValue(s string) parquet.Value { return parquet.ByteArrayValue([]byte(s)) }

func (w *words) band(b state.Band) parquet.Value {
	if b == state.NoBand {
		return parquet.Value{}
	}
	return w.bands[b]
}

// orderDays is the number of distinct calendar days with counted orders, and day one of them; null without any.
func (r *row) orderDays() parquet.Value {
	if r.occasions.Days == 0 {
		return parquet.Value{}
	}
	return parquet.Int64Value(r.occasions.Days)
}

func (r *row) day(day int32) parquet.Value {
	if r.occasions.Days == 0 {
		return parquet.Value{}
	}
	return parquet.Int32Value(day)
}
