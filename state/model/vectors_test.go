package model

import (
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// functions are the functions of a file of vectors: parameters and inputs in the order of testdata/README.md.
var functions = map[string]func(m Model, in []float64) float64{
	"ll":                 func(m Model, in []float64) float64 { return m.LogLikelihood(in[0], in[1], in[2]-in[1]) },
	"palive":             func(m Model, in []float64) float64 { return m.Alive(in[0], in[1], in[2]-in[1]) },
	"p_no_purchase":      func(m Model, in []float64) float64 { return m.NoOrder(in[1], in[2], in[3]-in[2], in[0]) },
	"expected_purchases": func(m Model, in []float64) float64 { return m.Orders(in[1], in[2], in[3]-in[2], in[0]) },
	"expected_new":       func(m Model, in []float64) float64 { return m.NewOrders(in[0]) },
	"dert":               func(m Model, in []float64) float64 { return m.Residual(in[1], in[2], in[3]-in[2], in[0]) },
	"t_palive":           func(m Model, in []float64) float64 { return in[2] + m.AliveUntil(in[1], in[2], in[0]) },
	"t_no_purchase": func(m Model, in []float64) float64 {
		return max(in[4], in[3]+m.NoOrderFrom(in[2], in[3], in[1], in[0]))
	},
}

// shapes are the numbers of inputs of a function.
var shapes = map[string]int{
	"ll": 3, "palive": 3, "p_no_purchase": 4, "expected_purchases": 4, "expected_new": 1, "dert": 4, "t_palive": 3, "t_no_purchase": 5,
}

// modelOf makes a model of the prefix of a function's name.
func modelOf(prefix string, p []float64) Model {
	switch {
	case prefix == "bg" && len(p) == 4:
		return BGNBD{p[0], p[1], p[2], p[3]}
	case prefix == "mbg" && len(p) == 4:
		return MBGNBD{p[0], p[1], p[2], p[3]}
	case prefix == "pnbd" && len(p) == 4:
		return ParetoNBD{p[0], p[1], p[2], p[3]}
	case prefix == "nbd" && len(p) == 2:
		return NBD{p[0], p[1]}
	}
	return nil
}

// evaluate computes one vector.
func evaluate(fn string, p, in []float64) (float64, bool) {
	if len(p) == 3 && len(in) == 2 {
		switch g := (GammaGamma{p[0], p[1], p[2]}); fn {
		case "gg_ll":
			return g.LogLikelihood(in[0], in[1]), true
		case "gg_expected_spend":
			return g.Spend(in[0], in[1]), true
		}
	}
	for _, prefix := range []string{"bg", "mbg", "pnbd", "nbd"} {
		if len(fn) > len(prefix) && fn[:len(prefix)+1] == prefix+"_" {
			name := fn[len(prefix)+1:]
			if m, n := modelOf(prefix, p), shapes[name]; m != nil && n > 0 && n == len(in) {
				return functions[name](m, in), true
			}
		}
	}
	return 0, false
}

// TestVectors holds the models against values computed in 60-digit arithmetic from the closed forms of the papers, and by
// numerical integration without them, 1e-9 relative, crossings 1e-7. ASIDUO_VECTORS=FILE tests another file of the same format.
func TestVectors(t *testing.T) {
	if file := os.Getenv("ASIDUO_VECTORS"); file != "" {
		holdVectors(t, file, 1)
		return
	}
	holdVectors(t, "testdata/vectors.csv", 917)
	holdVectors(t, "testdata/quadrature.csv", 96)
}

func holdVectors(t *testing.T, file string, least int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comment, r.FieldsPerRecord = '#', 4
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	worst, n := map[string]float64{}, 0
	for _, row := range rows {
		if row[0] == "fn" {
			continue
		}
		n++
		var p, in []float64
		var want float64
		for i, to := range []any{&p, &in, &want} {
			if err := json.Unmarshal([]byte(row[i+1]), to); err != nil {
				t.Fatalf("%q: %v", row, err)
			}
		}
		got, known := evaluate(row[0], p, in)
		if !known {
			t.Errorf("%q: no such function with so many parameters and inputs", row)
			continue
		}
		limit := 1e-9
		if k := len(row[0]) - len("t_palive"); k > 0 && row[0][k:] == "t_palive" || len(row[0]) > 13 && row[0][len(row[0])-13:] == "t_no_purchase" {
			limit = 1e-7
		}
		off := math.Abs(got - want)
		worst[row[0]] = max(worst[row[0]], off/max(math.Abs(want), 1e-300))
		if !(off <= limit*math.Abs(want)) && !(off < 1e-300) {
			t.Errorf("%s %v %v: %.17g, want %.17g", row[0], p, in, got, want)
		}
	}
	if n < least {
		t.Errorf("%s: %d vectors, want at least %d", file, n, least)
	}
	t.Logf("%s: %d vectors; worst relative errors: %v", file, n, worst)
}
