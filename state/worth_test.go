package state

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/state/model"
)

// What a customer will bring in falls in silence, is told with every change, and is nothing without a model or an order.
func TestWorth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		p.Churn.Method, p.Churn.MBGNBD = ByMBGNBD, model.MBGNBD{R: 0.525, Alpha: 43.3, A: 0.891, B: 1.614}
		p.Churn.Value = &model.Value{Spend: model.GammaGamma{P: 6, Q: 3.7, Gamma: 1500}, Horizon: 1095, Rate: 0.1, Margin: 0.3}
		c, told := play(p, drawFacts(t, p, 16), always)
		was := c.Worth(p, c.EvaluatedAt)
		if was.Known != (c.tally.orders > 0) || was.Now < 0 || was.AtRisk < 0 || !was.Known && was != (Worth{}) {
			t.Fatalf("%d orders: %+v", c.tally.orders, was)
		}
		start := c.EvaluatedAt
		for days := range Instant(40) {
			is := c.Worth(p, start+days*50*Day)
			if is.Now > was.Now {
				t.Fatalf("after %d days of silence %+v becomes %+v", days*50, was, is)
			}
			was = is
		}
		told = c.Advance(p, start+400*Day, always, told)
		for _, change := range told {
			if change.Worth.Known != (change.Figures.Lifetime > 0) {
				t.Fatalf("%d orders: %+v", change.Figures.Lifetime, change.Worth)
			}
		}
		p.Churn.Value = nil
		if got := c.Worth(p, c.EvaluatedAt); got != (Worth{}) {
			t.Fatalf("without a model %+v", got)
		}
	})
}
