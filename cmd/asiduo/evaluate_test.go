package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/asiduo/asiduo/state/model/fit"
	"github.com/asiduo/asiduo/state/model/holdout"
)

// proof runs the lines of the README's section "Prove it" in a directory of its own, with the data where the README has them.
func proof(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Prove it\n")
	section, _, _ = strings.Cut(section, "\n## ")
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(section)
	if block == nil {
		t.Fatal("README.md has no lines to prove it by")
	}
	data, err := filepath.Abs("data")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("cmd/asiduo", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(data, "cmd/asiduo/data"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(block[1]), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q", lines)
	}
	for _, line := range lines {
		words := strings.Fields(line)
		if words[0] != "./asiduo" {
			t.Fatalf("%q", line)
		}
		if got := command(t, words[1:]...); got.code != exitGood {
			t.Fatalf("%s: %d %s", line, got.code, got.err)
		}
	}
}

// TestProveIt runs what the README says and compares with published figures: parameters within 1e-3, totals within .1 %,
// other figures within .001.
func TestProveIt(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	proof(t)
	text, err := os.ReadFile("model.json")
	if err != nil {
		t.Fatal(err)
	}
	f, err := fit.ParseFile(text)
	if err != nil {
		t.Fatal(err)
	}
	checkPublishedFit(t, f)
	var e Evaluation
	if text, err = os.ReadFile("figures.json"); err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Rolling) != 1 || e.Rolling[0].Customers != 2357 || e.Rolling[0].Active != 684 || e.Rolling[0].Orders != 1882 || math.Abs(e.Rolling[0].Revenue-70976.39) > 0.01 {
		t.Fatalf("%+v", e.Rolling)
	}
	by := map[string]*holdout.Method{}
	for _, m := range e.Rolling[0].Methods {
		by[m.Name] = m
	}
	checkPublishedModels(t, by)
	checkPublishedBaselines(t, by)
	checkReadme(t, string(page), by)
	checkPage(t, "evaluation.html")
	checkPublishedReport(t, "customers.json")
}

func checkPublishedFit(t *testing.T, f *fit.File) {
	t.Helper()
	if f.Churn.Method != fit.MBGNBD || f.Churn.Status != fit.Good || f.Data.Orders != 4960 || f.Data.Customers != 2357 || len(f.Data.SHA256) != 64 {
		t.Errorf("%+v", f)
	}
	weeks := map[string]float64{"alpha": 7, "beta": 7}
	for kind, want := range map[fit.Kind]map[string]float64{
		fit.MBGNBD:    {"r": .524843, "alpha": 6.183086, "a": .891360, "b": 1.614002},
		fit.BGNBD:     {"r": .2425945, "alpha": 4.4136017, "a": .7929219, "b": 2.4259064},
		fit.ParetoNBD: {"r": .553277, "alpha": 10.57768, "s": .606240, "beta": 11.66874},
		fit.NBD:       {"r": .384766, "alpha": 12.07202},
	} {
		for _, m := range f.Compared {
			for name, value := range m.Params {
				if m.Method == kind && math.Abs(value/max(1, weeks[name])-want[name]) > 1e-3*want[name] {
					t.Errorf("%s: %s %v, want %v", kind, name, value/max(1, weeks[name]), want[name])
				}
			}
		}
	}
	for name, want := range map[string]float64{"p": 6.249571, "q": 3.744225, "gamma": 15.443523} {
		if got := f.Spending.Params[name]; math.Abs(got-want) > 1e-3*want {
			t.Errorf("spending: %s %v, want %v", name, got, want)
		}
	}
	if math.Abs(f.Heuristic.ShopGapDays-45.97) > 0.01 {
		t.Errorf("shop gap %v", f.Heuristic.ShopGapDays)
	}
}

func within(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func checkPublishedModels(t *testing.T, by map[string]*holdout.Method) {
	t.Helper()
	for name, want := range map[string]struct {
		orders, mae, rmse, correlation, mean, auc, byOrders, brier, loss, ece, lift, capture, revenue, valuable, cut, end, mape, weekly float64
	}{
		"bg_nbd":     {1653.4, .7855, 1.6080, .6256, .2618, .7569, .7725, .1612, .5056, .0528, 2.803, .281, 59932, .502, 2501.5, 4165.7, .0252, .194},
		"mbg_nbd":    {1576.7, .7648, 1.6072, .6273, .2400, .7601, .7728, .1614, .5053, .0551, 2.803, .281, 57128, .503, 2483.0, 4054.6, .0400, .196},
		"pareto_nbd": {1665.5, .7545, 1.6028, .6302, .2220, .7712, .7787, .1619, .5084, .0682, 2.789, .279, 60449, .504, 2532.8, 4275.4, .0133, .194},
	} {
		m := by[name]
		within(t, name+" orders", m.Orders.Predicted, want.orders, .001*want.orders)
		within(t, name+" MAE", m.Orders.MAE, want.mae, .001)
		within(t, name+" RMSE", m.Orders.RMSE, want.rmse, .001)
		within(t, name+" correlation", m.Orders.Correlation, want.correlation, .001)
		within(t, name+" mean", m.Probabilities.Mean, want.mean, .001)
		within(t, name+" AUC", m.Ranking.AUC, want.auc, .001)
		within(t, name+" AUC by orders", m.ByOrders.AUC, want.byOrders, .001)
		within(t, name+" Brier", m.Probabilities.Brier, want.brier, .001)
		within(t, name+" log loss", m.Probabilities.LogLoss, want.loss, .001)
		within(t, name+" ECE", m.Probabilities.ECE, want.ece, .001)
		within(t, name+" lift", m.Ranking.Lift, want.lift, .001)
		within(t, name+" capture", m.Ranking.Capture, want.capture, .001)
		within(t, name+" revenue", m.Revenue.Predicted, want.revenue, .001*want.revenue)
		within(t, name+" revenue in the best tenth", m.Revenue.Capture, want.valuable, .001)
		within(t, name+" at the cut", m.Tracking.AtCut, want.cut, .001*want.cut)
		within(t, name+" at the end", m.Tracking.AtEnd, want.end, .001*want.end)
		within(t, name+" error of the sum", m.Tracking.MAPE, want.mape, .001)
		within(t, name+" error of a week", m.Tracking.WeekMAPE, want.weekly, .001)
		if m.Tracking.CameAtCut != 2457 || m.Tracking.CameAtEnd != 4339 {
			t.Errorf("%s: %v, %v came", name, m.Tracking.CameAtCut, m.Tracking.CameAtEnd)
		}
		// A map won for one of them, and it helps there without costing the ranking.
		if (m.Calibrated != nil) != (name == "pareto_nbd") {
			t.Errorf("%s recalibrated: %+v", name, m.Calibrated)
		}
	}
	for name, want := range map[string]holdout.Alive{"bg_nbd": {AUC: .3158, Brier: .6083}, "mbg_nbd": {AUC: .6866, Brier: .2057}, "pareto_nbd": {AUC: .7262, Brier: .1938}} {
		within(t, name+" AUC of P(alive)", by[name].Alive.AUC, want.AUC, .001)
		within(t, name+" Brier of P(alive)", by[name].Alive.Brier, want.Brier, .001)
	}
	within(t, "calibration error of nbd recalibrated", by["nbd"].Calibrated.ECE, .0252, .001)
	within(t, "AUC of nbd recalibrated", by["nbd"].CalibratedAUC, by["nbd"].Ranking.AUC, .002)
	m := by["pareto_nbd"]
	within(t, "calibration error of pareto_nbd recalibrated", m.Calibrated.ECE, .0428, .001)
	if m.Calibrated.Brier >= m.Probabilities.Brier || m.Calibrated.LogLoss >= m.Probabilities.LogLoss || math.Abs(m.CalibratedAUC-m.Ranking.AUC) > 0.002 {
		t.Errorf("pareto_nbd recalibrated: %+v, AUC %v", m.Calibrated, m.CalibratedAUC)
	}
	predicted := []float64{.069, .077, .081, .087, .092, .098, .133, .302, .511, .773}
	observed := []float64{.123, .131, .123, .136, .148, .178, .271, .443, .545, .809}
	for i, b := range by["pareto_nbd"].Probabilities.Bins {
		within(t, "pareto_nbd decile predicted", b.Predicted, predicted[i], .001)
		within(t, "pareto_nbd decile observed", b.Observed, observed[i], .001)
	}
}

func checkPublishedBaselines(t *testing.T, by map[string]*holdout.Method) {
	t.Helper()
	within(t, "x/T orders", by["x_per_t"].Orders.Predicted, 2930, 2.9)
	within(t, "x/T MAE", by["x_per_t"].Orders.MAE, 1.0237, .001)
	within(t, "x/T RMSE", by["x_per_t"].Orders.RMSE, 2.2119, .001)
	within(t, "all zero MAE", by["all_zero"].Orders.MAE, .7985, .001)
	within(t, "base rate Brier", by["base_rate"].Probabilities.Brier, .2060, .001)
	within(t, "base rate log loss", by["base_rate"].Probabilities.LogLoss, .6023, .001)
	within(t, "recency AUC", by["recency"].Ranking.AUC, .7714, .001)
	within(t, "frequency AUC", by["frequency"].Ranking.AUC, .7576, .001)
	within(t, "frequency then recency AUC", by["frequency_then_recency"].Ranking.AUC, .7787, .001)
	within(t, "recency lift", by["recency"].Ranking.Lift, 2.610, .0015) // published with ties broken by rounding
	within(t, "frequency lift", by["frequency"].Ranking.Lift, 2.561, .001)
	if by["hiatus"] == nil {
		t.Error("no hiatus")
	}
}

// checkPage makes sure that a page needs nothing from elsewhere and shows what it should.
func checkPage(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, from := range []string{"http://", "https://", "<script", "<link", "<img", "@import", "url(", "ZgotmplZ", "NaN"} {
		if strings.Contains(page, from) {
			t.Errorf("the page has %q", from)
		}
	}
	for what, n := range map[string]int{"<svg": 5, "<circle": 60, "<polyline": 5, "recalibrated": 4} {
		if got := strings.Count(page, what); got < n {
			t.Errorf("the page has %d times %q, less than %d", got, what, n)
		}
	}
}

// Models can come from a file of parameters or from another log, and cuts can roll.
func TestEvaluateElsewhere(t *testing.T) {
	sample := "data/CDNOW_sample.txt.gz"
	file := filepath.Join(t.TempDir(), "model.json")
	log := []string{"--preset", "cdnow", "--input", sample, "--births", "known", "--free-orders", "--model", "mbg_nbd"}
	if got := command(t, append([]string{"fit", "--output", file}, log...)...); got.code != exitGood {
		t.Fatal(got.err)
	}
	base := append([]string{"evaluate"}, log...)
	base = append(base, "--json", "-", "--until", "1998-03-31", "--horizon", "91d")
	given := evaluated(t, append(base, "--fit-on", file)...)
	if len(given.Rolling[0].Fits) != 1 || given.FitOn != file || given.Rolling[0].Methods[0].What != "from "+file {
		t.Errorf("%+v", given.Rolling[0].Fits)
	}
	rolling := evaluated(t, append(base, "--origins", "3", "--step", "61d")...)
	if n := len(rolling.Rolling); n != 3 || rolling.Rolling[2].Until != "1998-03-31" || rolling.Rolling[1].Until != "1998-01-29" || len(rolling.Average) != 8 {
		t.Errorf("%d cuts, mean %+v", n, rolling.Average)
	}
	other := evaluated(t, append(base, "--fit-on", sample)...)
	if a := other.Rolling[0].Fits[0].Params["a"]; math.Abs(a-rolling.Rolling[2].Fits[0].Params["a"]) < 1e-3 {
		t.Errorf("fitted to the whole log, a is %v", a)
	}
}

func evaluated(t *testing.T, args ...string) (e Evaluation) {
	t.Helper()
	got := command(t, args...)
	if got.code != exitGood {
		t.Fatalf("%v: %d %s", args, got.code, got.err)
	}
	if err := json.Unmarshal([]byte(got.out), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// Nothing after the cut is used to foresee: what comes later may be anything.
func TestEvaluateDoesNotPeek(t *testing.T) {
	var before, after strings.Builder
	for i := range 600 {
		id := string(rune('A'+i%26)) + string(rune('0'+i/26%10)) + string(rune('a'+i/260))
		for k := range 1 + i%4 {
			line := id + ",2025-" + []string{"01", "02", "03", "04"}[k] + "-" + []string{"01", "11", "21", "26"}[(i*7+k)%4] + ",10.00\n"
			before.WriteString(line)
		}
	}
	after.WriteString("X9z,2025-12-30,5.00\nA0a,2025-09-01,7777.00\nB0a,2025-10-01,1.00\n")
	header := "customer_id,ordered_at,amount\n"
	calm := written(t, "calm.csv", header+before.String()+"A0a,2025-12-30,1.00\n")
	wild := written(t, "wild.csv", header+before.String()+after.String())
	args := []string{"evaluate", "--currency", "EUR", "--until", "2025-04-30", "--horizon", "100d", "--births", "known", "--model", "mbg_nbd", "--json", "-", "--input"}
	a, b := evaluated(t, append(args, calm)...), evaluated(t, append(args, wild)...)
	for i := range a.Rolling[0].Methods {
		x, y := a.Rolling[0].Methods[i], b.Rolling[0].Methods[i]
		if x.Orders != nil && x.Orders.Predicted != y.Orders.Predicted || x.Revenue != nil && x.Revenue.Predicted != y.Revenue.Predicted ||
			x.Calibrated != nil && x.Calibrated.Mean != y.Calibrated.Mean || x.What != y.What {
			t.Errorf("%s: %+v, and with another future %+v", x.Name, x.Orders, y.Orders)
		}
	}
}

func TestFitAndEvaluateRefuse(t *testing.T) {
	good := written(t, "good.csv", "customer_id,ordered_at,amount\na,2025-01-01,1.00\na,2025-01-05,1.00\nb,2025-02-01,2.00\n")
	bad := written(t, "bad.csv", "customer_id,ordered_at,amount\na,2025-01-01,1.00\na,yesterday,1.00\n")
	once := written(t, "once.csv", "customer_id,ordered_at,amount\na,2025-01-01,1.00\nb,2025-01-05,1.00\n")
	parameters := written(t, "model.json", `{"format": 7}`)
	eur := []string{"--currency", "EUR"}
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"fit", exitUsage, "give one of --input FILE, --snapshot DIR and --topic"},
		{"fit --topic", exitUsage, "--topic needs the configuration: -c FILE"},
		{"fit --topic --input x", exitUsage, "give one of"},
		{"fit --snapshot x --until 2025-01-01", exitUsage, "--until does not go with --snapshot"},
		{"fit --snapshot " + t.TempDir(), exitFailed, "no published snapshot below"},
		{"fit --model magic --input " + good, exitUsage, `--model "magic" is none of auto, mbg_nbd, bg_nbd, pareto_nbd, nbd`},
		{"fit --births maybe --input " + good, exitUsage, `--births "maybe" is neither known nor unknown`},
		{"fit --until soon --input " + good, exitUsage, `--until "soon" is not a date such as 2026-05-31`},
		{"fit --until 2024-01-01 --input " + good, exitFailed, "no customer has a counted order up to 2024-01-01"},
		{"fit --zone Mars --input " + good, exitUsage, "--zone: unknown time zone Mars"},
		{"fit --column x=y --input " + good, exitFailed, `no field "x" can be filled`},
		{"fit --input " + bad, exitFailed, `bad.csv:3: column ordered_at: "yesterday" is not a time`},
		{"fit --births known --input " + once, exitFailed, "none with a second day of orders"},
		{"fit --input nowhere.csv", exitFailed, "nowhere.csv"},
		{"evaluate --until 2025-01-05", exitUsage, `required flag(s) "input" not set`},
		{"evaluate --until 2025-01-05 --horizon 9 --input " + good, exitUsage, `--horizon "9" is not a number of days such as 90d`},
		{"evaluate --until 2025-01-05 --origins 0 --input " + good, exitUsage, "--origins must lie between 1 and 100, found 0"},
		{"evaluate --until 2025-01-05 --model auto --input " + good, exitUsage, "--model auto is for fit"},
		{"evaluate --until 2025-01-05 --horizon 90d --input " + good, exitUsage, "the log ends on 2025-02-01: after 2025-01-05 there are 27 days, --horizon is 90"},
		{"evaluate --until 2025-01-05 --horizon 9d --fit-on " + parameters + " --input " + good, exitUsage, "format 7 of a file of parameters; this program knows 1"},
	} {
		got := command(t, append(strings.Fields(test.args), eur...)...)
		if got.code != test.code || !strings.Contains(got.err, test.want) {
			t.Errorf("%s: %d %q, want %d %q", test.args, got.code, got.err, test.code, test.want)
		}
	}
}
