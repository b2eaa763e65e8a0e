package parameters

import (
	"reflect"
	"testing"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
)

// FuzzModel publishes whatever numbers make a model and what M is cut by: they are refused, or mean the same when they are written
// and read again, and a customer is scored under them: chances are chances, and silence comes to an end.
func FuzzModel(f *testing.F) {
	f.Add(uint8(1), 30.0, 0.0, 0.0, 0.0, uint16(90), int64(330_000), int64(660_000), int64(30_000), int64(150_000), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, int64(100), int64(200))
	f.Add(uint8(2), .525, 43.3, .891, 1.614, uint16(90), int64(330_000), int64(660_000), int64(30_000), int64(150_000), 6.25, 3.74, 1544.0, .1, -.1, 1.1, int64(0), int64(0))
	f.Add(uint8(2), 1e300, 1e-300, 1e300, 1e-300, uint16(9999), int64(1), int64(1_000_000), int64(1), int64(1), 1e-300, 1.0000001, 1e300, 10.0, 999.0, .001, int64(1), int64(1<<62))
	f.Add(uint8(2), 1e-300, 1e300, 1e-300, 1e300, uint16(1), int64(1), int64(2), int64(0), int64(1), 1e300, 1e300, 1e-300, 0.0, -999.0, 999.0, int64(0), int64(0))
	f.Fuzz(func(t *testing.T, method uint8, r, alpha, a, b float64, horizon uint16, low, high, hysteresis, jump int64, p, q, gamma, rate, shift, slope float64, first, last int64) {
		m := Model{
			Method: []string{"none", "heuristic", "mbg_nbd"}[method%3], Horizon: int(horizon), Bands: [2]state.Millionths{state.Millionths(low), state.Millionths(high)},
			Hysteresis: state.Millionths(hysteresis), Jump: state.Millionths(jump), Params: ModelParams{R: r, Alpha: alpha, A: a, B: b, ShopGapDays: r},
		}
		if p != 0 {
			m.Value = &Value{P: p, Q: q, Gamma: gamma, Horizon: 12 * int(horizon), AnnualRate: rate, Margin: .3}
		}
		if slope != 0 {
			m.Calibration = &model.Map{Method: "platt", A: shift, B: slope, Days: int(horizon)}
		}
		s, err := (&Set{Epoch: Epoch{Epoch: 1}}).WithRules(rules(Fixed, state.Money(first), state.Money(first), state.Money(last), state.Money(last)), 1)
		if err != nil {
			return
		}
		if s, err = s.WithModel(m, 2); err != nil {
			return
		}
		parameters, err := s.Parameters(s.Newest)
		if err != nil {
			t.Fatalf("%+v is taken, and refused: %v", m, err)
		}
		part, err := s.Extract(s.Newest)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", m, err)
		}
		read, err := ReadExtract(part)
		if err != nil {
			t.Fatalf("%s is written, and refused: %v", part, err)
		}
		if again, err := read.Parameters(s.Newest); err != nil || !reflect.DeepEqual(parameters, again) {
			t.Fatalf("%+v means %+v, read again %+v: %v", m, parameters, again, err)
		}
		score(t, parameters)
	})
}

// score plays four orders and ten years of silence.
func score(t *testing.T, p *state.Parameters) {
	p.Limits = state.Limits{Orders: 10, Refunds: 10, Purposes: 10}
	always := state.Telling{LiveFrom: 1}
	c := &state.Customer{}
	c.Reset()
	var out []state.Change
	check := func() {
		for i := range out {
			ch := &out[i]
			if ch.Chance != state.None && (ch.Chance < 0 || ch.Chance > state.One || ch.Raw < 0 || ch.Raw > state.One || ch.Overdue > state.One || ch.Percentile > 100) {
				t.Fatalf("%+v under %+v", ch, p)
			}
			if ch.Worth.Known && (ch.Worth.Now < 0 || ch.Worth.AtRisk < 0) {
				t.Fatalf("worth %+v under %+v", ch.Worth, p)
			}
		}
		out = out[:0]
	}
	for i, day := range []state.Instant{20_000, 20_007, 20_050, 20_400} {
		at := day * state.Day
		o := state.Fact{At: at, Order: state.Order{ID: uint64(i + 1), OrderedAt: at, UpdatedAt: at, Amount: 1500, Status: state.Completed, Day: int32(day)}}
		out = c.Advance(p, at, always, out)
		if c.Refuse(p, &o) == "" {
			out = c.Apply(p, &o, always, out)
		}
		check()
	}
	const days = 10 * 365
	end := c.EvaluatedAt + days*state.Day
	most := 100 + min(days, int(state.One/max(p.Churn.Jump, 1))) // a jump is an event, one a day if it is that small
	for steps := 0; c.Due <= end; steps++ {
		at := c.Due
		if out = c.Advance(p, at, always, out); c.Due <= at || steps > most {
			t.Fatalf("step %d of silence, at %d, leads to %d under %+v", steps, at, c.Due, p)
		}
		check()
	}
	_, _ = c.Profile(p), c.Worth(p, end)
}
