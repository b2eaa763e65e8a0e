package state

import (
	"slices"
	"testing"

	"github.com/asiduo/asiduo/state/model"
)

// BenchmarkPlay is what an order costs by the method of churn: all customers of the CDNOW sample, in each of their orders decoded,
// advanced through silence, scored and encoded again, and at the end a year of silence. What churn costs is the difference to none.
func BenchmarkPlay(b *testing.B) {
	all := cdnow(b)
	orders := 0
	for _, facts := range all {
		slices.SortStableFunc(facts, func(a, b Fact) int { return int(a.At - b.At) })
		orders += len(facts)
	}
	fitted := model.MBGNBD{R: 0.525, Alpha: 43.281, A: 0.891, B: 1.614}
	valued := Churn{Method: ByMBGNBD, MBGNBD: fitted, Map: &model.Map{Method: "platt", A: -.1, B: 1.1, Days: 90},
		Value: &model.Value{Spend: model.GammaGamma{P: 6.25, Q: 3.74, Gamma: 1544}, Horizon: 1095, Rate: .1, Margin: .3}}
	for _, x := range []struct {
		name  string
		churn Churn
	}{
		{"none", Churn{Method: NoChurn}}, {"heuristic", Churn{Method: ByRhythm, Rhythm: model.Rhythm{ShopGap: 45}}},
		{"mbg_nbd", Churn{Method: ByMBGNBD, MBGNBD: fitted}}, {"mbg_nbd, calibrated, value", valued},
	} {
		b.Run(x.name, func(b *testing.B) {
			p := defaults()
			x.churn.Horizon, x.churn.Bands, x.churn.Hysteresis, x.churn.Jump = p.Churn.Horizon, p.Churn.Bands, p.Churn.Hysteresis, p.Churn.Jump
			p.Churn = x.churn
			c, out, stored, told := newCustomer(), []Change{}, []byte{}, 0
			b.ReportAllocs()
			for b.Loop() {
				for _, facts := range all {
					c.Reset()
					for i := range facts {
						out = c.Advance(p, facts[i].At, always, out[:0])
						out = c.Apply(p, &facts[i], always, out)
						told += len(out)
						stored = c.AppendTo(stored[:0])
						if err := c.Decode(stored); err != nil {
							b.Fatal(err)
						}
					}
					out = c.Advance(p, c.EvaluatedAt+365*Day, always, out[:0])
					told += len(out)
				}
			}
			n := float64(b.N) * float64(orders)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/order")
			b.ReportMetric(float64(told)/n, "told/order")
		})
	}
}
