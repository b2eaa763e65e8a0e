package model

import "testing"

// customers are typical histories, in days, of the shop whose parameters the benchmarks use.
var customers = [8]struct{ x, tx, e float64 }{
	{0, 0, 30}, {0, 0, 272}, {1, 12, 260}, {2, 213, 59}, {5, 210, 10}, {10, 245, 40}, {26, 216, 1}, {3, 60, 400},
}

// shop are the models with the parameters of the CDNOW sample, in days.
var shop = []struct {
	name string
	Model
}{
	{"mbg_nbd", MBGNBD{R: 0.525, Alpha: 43.281, A: 0.891, B: 1.614}},
	{"bg_nbd", BGNBD{R: 0.243, Alpha: 30.898, A: 0.793, B: 2.426}},
	{"pareto_nbd", ParetoNBD{R: 0.553, Alpha: 74.04, S: 0.606, Beta: 81.68}},
	{"nbd", NBD{R: 0.385, Alpha: 84.5}},
}

var operations = []struct {
	name string
	do   func(m Model, x, tx, e float64) float64
}{
	{"LogLikelihood", func(m Model, x, tx, e float64) float64 { return m.LogLikelihood(x, tx, e) }},
	{"Alive", func(m Model, x, tx, e float64) float64 { return m.Alive(x, tx, e) }},
	{"NoOrder", func(m Model, x, tx, e float64) float64 { return m.NoOrder(x, tx, e, 90) }},
	{"Orders", func(m Model, x, tx, e float64) float64 { return m.Orders(x, tx, e, 365) }},
	{"NewOrders", func(m Model, _, _, _ float64) float64 { return m.NewOrders(365) }},
	{"Residual", func(m Model, x, tx, e float64) float64 { return m.Residual(x, tx, e, 0.000383) }},
	{"AliveUntil", func(m Model, x, tx, _ float64) float64 { return m.AliveUntil(x, tx, 0.5) }},
	{"NoOrderFrom", func(m Model, x, tx, _ float64) float64 { return m.NoOrderFrom(x, tx, 90, 0.9) }},
}

func BenchmarkModel(b *testing.B) {
	for _, m := range shop {
		for _, op := range operations {
			b.Run(m.name+"/"+op.name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					c := customers[i&7]
					sink = op.do(m.Model, c.x, c.tx, c.e)
				}
			})
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	for _, m := range shop {
		for _, op := range operations {
			if n := testing.AllocsPerRun(20, func() {
				for _, c := range customers {
					sink = op.do(m.Model, c.x, c.tx, c.e)
				}
			}); n != 0 {
				t.Errorf("%s %s: %v allocations", m.name, op.name, n)
			}
		}
	}
}
