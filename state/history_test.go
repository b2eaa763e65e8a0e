package state

import (
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/state/model"
)

// start is 2024-01-15T00:00:00Z, where the histories of the tests begin.
const start Instant = 1_705_276_800_000

// always is the telling under which everything is news.
var always = Telling{}

// defaults are the parameters of the default configuration, with amounts in cents.
func defaults() *Parameters {
	rules, err := NewRuleSet("rfm11", RFM11())
	if err != nil {
		panic(err)
	}
	return &Parameters{
		Recency:   [4]Instant{30 * Day, 90 * Day, 180 * Day, 365 * Day},
		Frequency: [4]int{2, 3, 5, 10},
		Money:     [4]Money{5_000, 10_000, 20_000, 40_000},
		Window:    730 * Day,
		Rules:     rules,
		Churn: Churn{
			Method: ByMBGNBD, MBGNBD: model.MBGNBD{R: 0.525, Alpha: 43.3, A: 0.891, B: 1.614}, Rhythm: model.Rhythm{ShopGap: 30},
			Horizon: 90, Bands: [2]Millionths{330_000, 660_000}, Hysteresis: 30_000, Jump: 150_000,
		},
		Limits: Limits{Orders: 512, Refunds: 512, Purposes: 32},
	}
}

// uniform draws one of 0..most from single bits: the ranges of rapid favour small numbers so much that what comes late
// would hardly occur.
func uniform(t *rapid.T, label string, most int) int {
	n := 0
	for range bits.Len(uint(most)) {
		n *= 2
		if rapid.Bool().Draw(t, label) {
			n++
		}
	}
	return n % (most + 1)
}

// drawParameters makes cuts that lie close to each other, so that short histories meet all of them.
func drawParameters(t *rapid.T) *Parameters {
	p := defaults()
	cut := Instant(0)
	for i := range p.Recency {
		cut += Instant(1+uniform(t, "recency", 15)) * Day
		p.Recency[i] = cut
	}
	p.Window = cut + Instant(1+uniform(t, "window", 31))*Day
	for i := range p.Frequency {
		p.Frequency[i] = 2 + i*(1+uniform(t, "frequency", 1))
	}
	c := &p.Churn
	c.Method = ChurnMethod([]int{1, 2, 1, 2, 0}[uniform(t, "method", 4)])
	c.MBGNBD.Alpha = float64(1 + uniform(t, "alpha", 63))
	c.MBGNBD.R = float64(1+uniform(t, "r", 31)) / 10
	c.Rhythm.ShopGap = float64(1 + uniform(t, "gap", 31))
	c.Horizon = []int{90, 1, 30}[uniform(t, "horizon", 2)]
	low := Millionths(150_000 + 10_000*uniform(t, "low", 40))
	c.Bands = [2]Millionths{low, low + Millionths(10_000*(1+uniform(t, "high", 35)))}
	c.Hysteresis = Millionths(10_000 * uniform(t, "hysteresis", 10))
	c.Jump = Millionths(20_000 * (1 + uniform(t, "jump", 20)))
	switch uniform(t, "calibration", 3) {
	case 1:
		c.Map = &model.Map{Method: "platt", A: float64(uniform(t, "a", 31)-15) / 10, B: float64(1+uniform(t, "b", 15)) / 8}
	case 2: // with a flat piece: what differs in the raw probability does not in the calibrated one
		flat := float64(1+uniform(t, "flat", 7)) / 10
		c.Map = &model.Map{Method: "isotonic", P: []float64{0.05, 0.2, 0.5, 0.9}, Q: []float64{0.01, flat, flat, 0.95}}
	}
	return p
}

// neutral is a fact that counts for nothing: it makes an evaluation at an instant and changes no score.
func neutral(at Instant) Fact {
	return Fact{At: at, Order: Order{ID: 1 << 60, OrderedAt: at, UpdatedAt: at, Amount: 1, Status: Pending, Day: int32(at / Day)}}
}

// writer makes facts that lie on and around the boundaries of what it wrote before.
type writer struct {
	p      *Parameters
	clock  Instant
	last   Instant
	placed []Instant
	zone   Instant
}

func (w *writer) draw(t *rapid.T) Fact {
	k, jitter := Instant(uniform(t, "k", 31)), Instant(uniform(t, "jitter", 3)-1)
	at := w.clock
	switch uniform(t, "advance", 7) {
	case 0:
	case 1:
		at = w.last + w.p.Recency[k%4] + jitter
	case 2:
		at = w.placed[int(k)%len(w.placed)] + w.p.Window + jitter
	case 3:
		at = w.last + k*Day + jitter
	case 4:
		at = w.clock - k*Day/4 // a correction
	case 5:
		at = w.clock + k
	default:
		at = w.clock + k*Day/2
	}
	at = max(at, start)
	w.clock = max(w.clock, at)
	f := Fact{At: at, Backfill: uniform(t, "backfill", 7) == 7}
	j, offset := Instant(uniform(t, "j", 31)), Instant(uniform(t, "offset", 3)-1)
	placed := at
	switch uniform(t, "age", 7) {
	case 0:
		placed = at - w.p.Window + offset
	case 1:
		placed = at - w.p.Recency[j%4] + offset
	case 2:
		placed = w.placed[int(j)%len(w.placed)]
	case 3, 4:
		placed = at - j*Day/2
	}
	placed = min(placed, at)
	amount := []Money{w.p.Money[j%4], w.p.Money[j%4] - 1, w.p.Money[j%4] / 2, Money(j % 3), 100 * Money(j)}[uniform(t, "amount", 4)]
	id := uint64(uniform(t, "id", 7))
	if uniform(t, "refund", 3) == 3 {
		f.Kind = RefundFact
		f.Refund = Refund{Order: id, ID: uint64(uniform(t, "refund id", 1)), At: placed, Amount: amount + 1}
		return f
	}
	f.Order = Order{
		ID: id, Revision: int64(uniform(t, "revision", 2)), UpdatedAt: []Instant{at, placed, at - k}[uniform(t, "updated", 2)],
		Status: []Status{Completed, Paid, Completed, PartiallyRefunded, Pending, Refunded, Cancelled, Voided}[uniform(t, "status", 7)],
		Amount: amount, OrderedAt: placed, Day: int32((placed + w.zone) / Day), Test: uniform(t, "test", 15) == 15,
	}
	if uniform(t, "refunded", 7) == 7 {
		f.Order.Refunded = amount / 2
	}
	w.placed = append(w.placed, placed)
	w.last = max(w.last, placed)
	return f
}

func drawFacts(t *rapid.T, p *Parameters, most int) []Fact {
	zone := []Instant{0, 9 * Day / 24, -5 * Day / 24}[uniform(t, "zone", 2)]
	w := writer{p: p, clock: start, last: start, placed: []Instant{start}, zone: zone}
	facts := make([]Fact, 1+uniform(t, "facts", most-1))
	for i := range facts {
		facts[i] = w.draw(t)
	}
	return facts
}

// take plays one record as the pipeline does, and says whether it was accepted.
func (c *Customer) take(p *Parameters, f Fact, say Telling, out []Change) ([]Change, bool) {
	if c.Refuse(p, &f) != "" {
		return out, false
	}
	out = c.Advance(p, f.At, say, out)
	return c.Apply(p, &f, say, out), true
}

func newCustomer() *Customer {
	c := new(Customer)
	c.Reset()
	return c
}

func play(p *Parameters, facts []Fact, say Telling) (*Customer, []Change) {
	c := newCustomer()
	var out []Change
	for _, f := range facts {
		out, _ = c.take(p, f, say, out)
	}
	return c, out
}

// copyOf is an independent copy, made through the codec as in the pipeline.
func copyOf(t rapid.TB, c *Customer) *Customer {
	t.Helper()
	d := new(Customer)
	if err := d.Decode(c.AppendTo(nil)); err != nil {
		t.Fatalf("decode what was encoded: %v", err)
	}
	return d
}

// ledgerBytes is the encoding of the facts alone.
func ledgerBytes(c *Customer) []byte {
	d := newCustomer()
	d.Ledger = c.Ledger
	return d.AppendTo(nil)
}

// scoresAt are the scores and the churn probability at an instant at which the customer is evaluated.
func scoresAt(c *Customer, p *Parameters) (Scores, Figures, Millionths) {
	var t tally
	t.fill(&c.Ledger, p)
	s := t.silence(p, c.EvaluatedAt)
	return s.scores(), s.figures(), t.chance(p, c.EvaluatedAt)
}

// checkEqual compares two customers by their encodings.
func checkEqual(t rapid.TB, what string, want, got *Customer) {
	t.Helper()
	if w, g := want.AppendTo(nil), got.AppendTo(nil); !slices.Equal(w, g) {
		t.Fatalf("%s\nwant %+v\n     %+v\n got %+v\n     %+v", what, want.Ledger, want.Standing, got.Ledger, got.Standing)
	}
}

func order(id uint64, at Instant, amount Money) Fact {
	return Fact{At: at, Order: Order{ID: id, OrderedAt: at, UpdatedAt: at, Amount: amount, Status: Completed, Day: int32(at / Day)}}
}

func refund(order, id uint64, at Instant, amount Money) Fact {
	return Fact{Kind: RefundFact, At: at, Refund: Refund{Order: order, ID: id, At: at, Amount: amount}}
}

// mustTake plays facts that have to be accepted.
func mustTake(t *testing.T, c *Customer, p *Parameters, facts ...Fact) (out []Change) {
	t.Helper()
	for _, f := range facts {
		var ok bool
		if out, ok = c.take(p, f, always, out); !ok {
			t.Fatalf("refused: %+v", f)
		}
	}
	return out
}
