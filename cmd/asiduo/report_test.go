package main

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state/kpi"
)

// checkPublishedReport compares with what is known of the CDNOW sample to the end of week 78.
func checkPublishedReport(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s Summary
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	same := func(what string, r kpi.Rate, of, all, want, within float64) {
		t.Helper()
		if of > 0 && r.Of != of || all > 0 && r.All != all || math.Abs(r.Rate-want) > within {
			t.Errorf("%s: %+v, want %v of %v, %v", what, r, of, all, want)
		}
	}
	same("repeat", s.Repeat, 1139, 2357, .4832, 5e-5)
	same("basket", s.Basket, 0, 6696, 36.453, 5e-4)
	same("frequency", s.Frequency, 6696, 2357, 2.8409, 5e-5)
	same("interval", s.Interval, 0, 0, 70.86, 5e-3)
	same("active span", s.ActiveSpan, 0, 2357, 130.45, 5e-3)
	same("top 10 %", s.Concentration[0].Rate, 0, 0, .508, 5e-4)
	same("top 20 %", s.Concentration[1].Rate, 0, 0, .674, 5e-4)
	if s.WinBack == nil || s.MedianGap == nil || *s.MedianGap != 34 {
		t.Fatalf("%+v", s)
	}
	same("win-back", *s.WinBack, 488, 2330, .2094, 5e-5)
	if len(s.Retention) != 5 || len(s.Cohorts) != 3 {
		t.Fatalf("%d quarters, %d cohorts", len(s.Retention), len(s.Cohorts))
	}
	for i, want := range [][3]float64{{524, 2357, .2223}, {214, 524, .4084}, {203, 418, .4856}, {196, 404, .4851}, {169, 384, .4401}} {
		same(s.Retention[i].From, s.Retention[i].Rate, want[0], want[1], want[2], 5e-5)
	}
	for i, want := range [][]float64{
		{.1588, .1216, .0896, .0832, .0986, .0832}, {.1564, .1284, .0875, .0898, .0875, .0712}, {.1210, .1168, .1085, .0876, .0890, .0765},
	} {
		c := s.Cohorts[i]
		for k, r := range want {
			same(c.Month, c.Bought[k], 0, []float64{781, 857, 719}[i], r, 5e-5)
		}
	}
}

// TestReport: text and page of a file, the same figures of a snapshot as far as it has them, and what can be wrong.
func TestReport(t *testing.T) {
	shop, page := written(t, "shop.csv", smallShop(300)), filepath.Join(t.TempDir(), "report.html")
	args := append([]string{"report", "--input", shop, "--column", "order_id=Nr"}, smallColumns...)
	got := command(t, append(args, "--until", "2024-12-30", "--html", page)...)
	for _, part := range []string{"to the end of 2024-12-30\n300 customers", "repeat rate", "of 300", "retention 2024Q1 to 2024Q2", "\n  2024-01 ", "not in this input: promo share"} {
		if got.code != exitGood || !strings.Contains(got.out, part) {
			t.Errorf("no %q in %d %s\n%s", part, got.code, got.err, got.out)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"<b>300</b>customers", "Cohorts", "<td>2024-01</td>", "Not in this input"} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %q in the page", part)
		}
	}
	for _, part := range []string{"http", "<script", "ZgotmplZ", "NaN"} {
		if strings.Contains(string(text), part) {
			t.Errorf("the page has %q", part)
		}
	}

	read := func(args ...string) (s Summary) {
		t.Helper()
		got := command(t, append(args, "--json", "-")...)
		if got.code != exitGood {
			t.Fatal(got.err)
		}
		if err := json.Unmarshal([]byte(got.out), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	out, jsonl := t.TempDir(), filepath.Join(t.TempDir(), "shop.jsonl")
	records := command(t, append(append([]string{"replay", "--print", "--column", "order_id=Nr"}, smallColumns...), shop)...)
	if records.code != exitGood || os.WriteFile(jsonl, []byte(records.out), 0o600) != nil {
		t.Fatal(records.err)
	}
	archived(t, "", jsonl, out)
	snapshot := read("report", "--snapshot", out)
	whole := read("report", "--input", jsonl, "--until", snapshot.Until)
	sameReport(t, &snapshot, &whole)
	if len(whole.Cohorts) != 12 || len(whole.Retention) != 3 || len(whole.Funnel) != 4 || whole.MedianGap == nil || whole.WinBack.All == 0 || snapshot.Since != "" {
		t.Errorf("%+v", snapshot)
	}
	if !reflect.DeepEqual(snapshot.Cohorts, whole.Cohorts) || !reflect.DeepEqual(snapshot.Retention, whole.Retention) || !reflect.DeepEqual(snapshot.Funnel, whole.Funnel) ||
		*snapshot.MedianGap != *whole.MedianGap || *snapshot.WinBack != *whole.WinBack {
		t.Errorf("snapshot %+v %+v\nfile %+v %+v", snapshot.Report, snapshot.Funnel, whole.Report, whole.Funnel)
	}
	if snapshot.Equity != nil || !strings.Contains(strings.Join(snapshot.Missing, " "), "the customers were not scored with a model of spending") {
		t.Errorf("%+v", snapshot)
	}
	snapshot.Equity = equityOf([]archive.Buyer{{Valued: true, CLV: 123_000, AtRisk: 6_000}, {CLV: 7}, {Valued: true, CLV: 450, AtRisk: 700}, {Valued: true}}, 100)
	var told, drawn strings.Builder
	if err := errors.Join(snapshot.writeText(&told), snapshot.writePage(&drawn)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(told.String(), "customer lifetime value (margin, discounted, within the horizon): 1234.50 EUR of 3 customers; 67.00 more if") || !strings.Contains(drawn.String(), "<p>1234 EUR is what 3 customers will bring in") {
		t.Errorf("%s\n%s", told.String(), drawn.String())
	}

	refused(t, exitUsage, "give one of --input FILE and --snapshot DIR", "report")
	refused(t, exitUsage, "give one of --input FILE and --snapshot DIR", "report", "--input", shop, "--snapshot", out)
	refused(t, exitUsage, "--until does not go with --snapshot, which is as of an instant", "report", "--snapshot", out, "--until", "2024-12-30")
	refused(t, exitUsage, `--win-back "half a year" is not a number of days such as 90d, at most 3650d`, "report", "--input", shop, "--win-back", "half a year")
	refused(t, exitUsage, `--until "yesterday" is not a date such as 2026-05-31`, append(args, "--until", "yesterday")...)
	refused(t, exitFailed, "no customer has a counted order up to 1999-01-01", append(args, "--until", "1999-01-01")...)
	none := t.TempDir()
	refused(t, exitFailed, "archive: no published snapshot below "+none, "report", "--snapshot", none)
	refused(t, exitFailed, shop+`:1: customer_id: no column "Klient"; columns are Kunde, Datum, Summe, Nr`, "report", "--input", shop, "--column", "customer_id=Klient")
	empty := written(t, "empty.csv", "Kunde,Datum,Summe,Nr\n")
	refused(t, exitFailed, "no orders in the log: 0 records, none refused", append([]string{"report", "--input", empty}, args[3:]...)...)
	nowhere := filepath.Join(none, "none", "report")
	refused(t, exitFailed, "write the page: open "+nowhere+": no such file or directory", append(args, "--html", nowhere)...)
	refused(t, exitFailed, "write the figures: open "+nowhere+": no such file or directory", append(args, "--json", nowhere)...)
}

// archived makes a snapshot of canonical orders as of the end of 2024.
func archived(t *testing.T, rules, jsonl, out string) {
	t.Helper()
	cfg := written(t, "asiduo.yaml", "app: shop\ncurrency: EUR\n"+rules)
	if got := command(t, "simulate", "-c", cfg, "--input", jsonl, "--until", "2025-01-01T00:00:00Z", "--output", out); got.code != exitGood {
		t.Fatal(got.err)
	}
}

// sameReport compares what needs no days.
func sameReport(t *testing.T, snapshot, whole *Summary) {
	t.Helper()
	if snapshot.Repeat != whole.Repeat || snapshot.Frequency != whole.Frequency || snapshot.Tenure != whole.Tenure || snapshot.Interval != whole.Interval ||
		math.Abs(snapshot.Revenue-whole.Revenue) > 1e-6 || math.Abs(snapshot.Concentration[0].Of-whole.Concentration[0].Of) > 1e-6 {
		t.Errorf("snapshot %+v\nfile %+v", snapshot.Report, whole.Report)
	}
}

// TestReportSettled: of orders that have settled a snapshot has no days; what begins after the last of them is that of the file.
func TestReportSettled(t *testing.T) {
	out, shop := t.TempDir(), written(t, "shop.csv", smallShop(300))
	columns := append([]string{"--column", "order_id=Nr"}, smallColumns...)
	records := command(t, append(append([]string{"replay", "--print"}, columns...), shop)...)
	jsonl := written(t, "shop.jsonl", records.out)
	archived(t, "rules: {recency_days: [20, 60, 120, 180], window_days: 200}\n", jsonl, out)
	read := func(args ...string) (s Summary) {
		t.Helper()
		got := command(t, append(args, "--json", "-")...)
		if got.code != exitGood || json.Unmarshal([]byte(got.out), &s) != nil {
			t.Fatalf("%d %s", got.code, got.err)
		}
		return s
	}
	snapshot := read("report", "--snapshot", out)
	whole := read("report", "--input", jsonl, "--until", snapshot.Until)
	sameReport(t, &snapshot, &whole)
	if snapshot.Since < "2024-06-01" || snapshot.Since > "2024-06-15" || snapshot.Funnel != nil {
		t.Errorf("since %s: %+v", snapshot.Since, snapshot.Funnel)
	}
	if !reflect.DeepEqual(snapshot.Cohorts, whole.Cohorts[6:]) || !reflect.DeepEqual(snapshot.Retention, whole.Retention[2:]) || whole.Cohorts[6].Month != "2024-07" {
		t.Errorf("snapshot %+v\nfile %+v", snapshot.Report, whole.Report)
	}
	want := "intervals, win-back, retention and cohorts that begin before " + snapshot.Since +
		", and moves between stages of the life cycle: older orders have settled, and their days are not known; report --input has them"
	if !slices.Contains(snapshot.Missing, want) {
		t.Errorf("%q", snapshot.Missing)
	}
	log, err := readPurchases(t.Context(), config.Default(), fromFiles(&purchaseFlags{inputs: []string{jsonl}}))
	if err != nil {
		t.Fatal(err)
	}
	known, err := log.shop(1<<20, false)
	if err != nil {
		t.Fatal(err)
	}
	until, _ := dayNamed("until", snapshot.Until)
	known.since, _ = dayNamed("since", snapshot.Since)
	if r := known.report(until, 180); *r.MedianGap != *snapshot.MedianGap || *r.WinBack != *snapshot.WinBack || r.WinBack.All == whole.WinBack.All {
		t.Errorf("%+v, the file since then %+v", snapshot.Report, r)
	}
}

// TestReportWeek39 reproduces what is known of the CDNOW sample at the cut of the literature, the end of week 39.
func TestReportWeek39(t *testing.T) {
	got := command(t, "report", "--preset", "cdnow", "--input", "data/CDNOW_sample.txt.gz", "--until", "1997-09-30", "--free-orders", "--json", "-")
	var s Summary
	if got.code != exitGood || json.Unmarshal([]byte(got.out), &s) != nil {
		t.Fatalf("%d %s", got.code, got.err)
	}
	for _, x := range []struct {
		what            string
		got, want, half float64
	}{
		{"repeat rate", s.Repeat.Rate, .4014, 5e-5}, {"average basket", s.Basket.Rate, 35.961, 5e-4}, {"orders per customer", s.Frequency.Rate, 2.0424, 5e-5},
		{"interval", s.Interval.Rate, 45.97, 5e-3}, {"median interval", *s.MedianGap, 27, 0}, {"active span", s.ActiveSpan.Rate, 47.92, 5e-3},
		{"best tenth", s.Concentration[0].Rate.Rate, .469, 5e-4}, {"best fifth", s.Concentration[1].Rate.Rate, .633, 5e-4},
	} {
		if math.Abs(x.got-x.want) > x.half {
			t.Errorf("%s is %v, want %v", x.what, x.got, x.want)
		}
	}
}
