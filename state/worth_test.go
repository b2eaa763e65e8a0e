package state

import (
	"math"
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
			w, paid := change.Worth, float64(max(change.Figures.LifetimeNet, 0))
			if w.Known != (change.Figures.Lifetime > 0) || w.Known && math.Abs(float64(w.Earned)-0.3*paid) > 0.51 && paid < 1e12 {
				t.Fatalf("%d orders for %v: %+v", change.Figures.Lifetime, paid, w)
			}
		}
		p.Churn.Value = nil
		if got := c.Worth(p, c.EvaluatedAt); got != (Worth{}) {
			t.Fatalf("without a model %+v", got)
		}
	})
}

// What is told is the value of somebody who is alive, weighed by the probability that the customer is, and the rest of it.
func TestWorthOfOne(t *testing.T) {
	p, day := defaults(), 20_000*Day
	m, v := model.MBGNBD{R: 0.525, Alpha: 43.3, A: 0.891, B: 1.614}, model.Value{Spend: model.GammaGamma{P: 6, Q: 3.7, Gamma: 1500}, Horizon: 1095, Rate: 0.1, Margin: 0.3}
	p.Churn.Method, p.Churn.MBGNBD, p.Churn.Value = ByMBGNBD, m, &v
	c := newCustomer()
	mustTake(t, c, p, order(1, day, 2000), order(2, day+10*Day, 4000), order(3, day+30*Day, 3000))
	got := c.Worth(p, day+90*Day)
	whole, alive := v.Alive(m, 2, 30, 60, 3000), m.Alive(2, 30, 60)
	want := Worth{Money(math.Round(whole * alive)), Money(math.Round(whole * (1 - alive))), 2700, true}
	if got != want || got.Now == got.AtRisk {
		t.Errorf("%+v, want %+v: %v, alive with %v", got, want, whole, alive)
	}
}
