package main

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/asiduo/asiduo/state/model/holdout"
)

var figure = regexp.MustCompile(`[0-9][0-9,]*(\.[0-9]+)?|\.[0-9]+`)

// checkReadme holds the figures of the README's table against those that its commands have given, as far as they are printed.
func checkReadme(t *testing.T, page string, by map[string]*holdout.Method) {
	t.Helper()
	_, table, _ := strings.Cut(page, "\n| 39 weeks ahead |")
	table, _, _ = strings.Cut(table, "\n\n")
	of := map[string]struct {
		rule    string // of the last column
		figures func(m *holdout.Method) []float64
	}{
		"orders (1882 came)":      {"x_per_t", func(m *holdout.Method) []float64 { return []float64{m.Orders.Predicted} }},
		"MAE, RMSE, correlation":  {"x_per_t", func(m *holdout.Method) []float64 { return []float64{m.Orders.MAE, m.Orders.RMSE, m.Orders.Correlation} }},
		"who orders: AUC":         {"frequency_then_recency", func(m *holdout.Method) []float64 { return []float64{m.Ranking.AUC} }},
		"Brier, log loss":         {"base_rate", func(m *holdout.Method) []float64 { return []float64{m.Probabilities.Brier, m.Probabilities.LogLoss} }},
		"calibration error (ECE)": {"", func(m *holdout.Method) []float64 { return []float64{m.Probabilities.ECE} }},
		"the same, recalibrated on what was known at the cut": {"", func(m *holdout.Method) []float64 {
			if m.Calibrated == nil {
				return nil
			}
			return []float64{m.Calibrated.ECE}
		}},
		"lift of the best tenth":                             {"frequency_then_recency", func(m *holdout.Method) []float64 { return []float64{m.Ranking.Lift} }},
		"revenue (70,976 came); its share in the best tenth": {"", func(m *holdout.Method) []float64 { return []float64{m.Revenue.Predicted, m.Revenue.Capture} }},
	}
	rows := strings.Split(table, "\n")[2:]
	if len(rows) != len(of) {
		t.Errorf("README.md: %d rows", len(rows))
	}
	for _, row := range rows {
		cells := strings.Split(strings.Trim(row, "| "), "|")
		for len(cells) < 5 {
			cells = append(cells, "")
		}
		name := strings.TrimSpace(cells[0])
		is, known := of[name]
		if !known {
			t.Errorf("README.md: nobody looks at %q", name)
			continue
		}
		for i, method := range []string{"mbg_nbd", "bg_nbd", "pareto_nbd", is.rule} {
			var want []float64
			if method != "" {
				want = is.figures(by[method])
			}
			if why := printed(cells[i+1], want); why != "" {
				t.Errorf("README.md, %s, %s: %s", name, method, why)
			}
		}
	}
}

// printed says why figures are not those in a cell, to the digits that it has.
func printed(cell string, want []float64) string {
	found := figure.FindAllString(cell, -1)
	if len(found) != len(want) {
		return fmt.Sprintf("%q, want %v", cell, want)
	}
	for i, text := range found {
		v, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
		_, decimals, _ := strings.Cut(text, ".")
		if err != nil || math.Abs(v-want[i]) > .501*math.Pow10(-len(decimals)) {
			return fmt.Sprintf("%q, want %v", cell, want)
		}
	}
	return ""
}
