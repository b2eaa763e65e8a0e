package main

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/asiduo/asiduo/state/model/fit"
)

// TestValueOfAShop takes the spending of a shop in the pipeline's currency through fit and publish into a process that runs. What it says
// a customer is worth is what the published formulas give of the parameters in the file, in the unit of the file.
func TestValueOfAShop(t *testing.T) {
	csv := written(t, "shop.csv", smallShop(800))
	w := newTown(t)
	s := w.run("log:", "value: {horizon_days: 730, annual_rate: 0.08, margin: 0.35}\nlog:")
	s.ready(townShards)
	now := time.Now().Add(-time.Hour)
	for i, ago := range []int{200, 150, 100} {
		w.buy("ana", fmt.Sprint("o", i), now.AddDate(0, 0, -ago))
	}
	file := filepath.Join(t.TempDir(), "model.json")
	learn := append([]string{"fit", "-c", s.file, "--input", csv, "--births", "known", "--model", "mbg_nbd", "--output", file}, smallColumns...)
	if got := command(t, learn...); got.code != exitGood {
		t.Fatalf("%+v", got)
	}
	f, err := readFit(file)
	if err != nil {
		t.Fatal(err)
	}
	if f.Churn.Status != fit.Good || f.SpendingAll == nil || f.SpendingAll.Status != fit.Good || f.SpendingAll.Currency != "EUR" {
		t.Fatalf("%+v, spending %+v", f.Churn, f.SpendingAll)
	}
	got := command(t, "model", "publish", "-c", s.file, "--from", file, "--yes", "--force")
	if want := "customer value over 730 days, discounted by 0.08 a year, margin 0.35\n"; got.code != exitGood || !strings.Contains(got.out, want) {
		t.Fatalf("no %q in %+v", want, got)
	}
	var told struct {
		Value *struct{ CLV, Earned, Currency string } `json:"value"`
	}
	eventually(t, "the customer has a value", func() bool {
		_, body, _ := s.ask("GET", s.api, "/v1/customers/ana")
		return json.Unmarshal([]byte(body), &told) == nil && told.Value != nil
	})
	p, g := f.Churn.Params, f.SpendingAll.Params
	amount := (g["gamma"] + 3*12.5) * g["p"] / (g["p"]*3 + g["q"] - 1)
	want := 0.35 * amount * alive(p, 2, 100, 200) * discounted(p, 2, 200, 730, math.Log(1.08)/365.25)
	var clv float64
	if _, err := fmt.Sscan(told.Value.CLV, &clv); err != nil || math.Abs(clv-want) > 0.005+want*2e-4 || want < 1 {
		t.Errorf("clv %s, by hand %.4f: %v", told.Value.CLV, want, err)
	}
	if told.Value.Earned != "13.13" || told.Value.Currency != "EUR" { // .35 of 3 x 12.50, half up
		t.Errorf("%+v", told.Value)
	}
}

// alive is the probability that a customer of MBG/NBD with x repeat orders within tx days still buys after t days (Batislam, Denizel &
// Filiztekin 2007).
func alive(p map[string]float64, x, tx, t float64) float64 {
	return 1 / (1 + p["a"]/(p["b"]+x)*math.Pow((p["alpha"]+t)/(p["alpha"]+tx), p["r"]+x))
}

// discounted are the orders within h days of a customer who still buys, each discounted to its day. Orders come at a rate of
// Gamma(r + x, alpha + t), after each the customer leaves with a chance q of Beta(a, b + x + 1), so at u days they come at E[rate exp(-rate q u)].
// Both integrals are sums over midpoints; that over q is evenly in q^a.
func discounted(p map[string]float64, x, t, h, rate float64) (sum float64) {
	const steps = 1000
	a, b, shape, scale := p["a"], p["b"]+x+1, p["r"]+x, p["alpha"]+t
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	norm := math.Exp(lab-la-lb) / a / steps
	for i := range steps {
		q := math.Pow((float64(i)+0.5)/steps, 1/a)
		weight := norm * math.Pow(1-q, b-1)
		for j := range steps {
			u := h * (float64(j) + 0.5) / steps
			sum += weight * math.Exp(-rate*u) * shape / scale * math.Pow(scale/(scale+q*u), shape+1) * h / steps
		}
	}
	return sum
}
