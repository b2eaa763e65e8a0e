package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state/model/fit"
)

// smallShop is a CSV of customers who come in over a year and leave by MBG/NBD's rule.
func smallShop(customers int) string { return shopLosing(customers, 0.6) }

// shopLosing has customers who leave after an order with at most a given chance, and pay as gamma-gamma says but for what is within one.
func shopLosing(customers int, most float64) string {
	r, wealth := rand.New(rand.NewPCG(9, 9)), rand.New(rand.NewPCG(9, 10))
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	var b strings.Builder
	b.WriteString("Kunde,Datum,Summe,Nr\n")
	for i := range customers {
		at, rate, leave := r.Float64()*365, (r.ExpFloat64()+r.ExpFloat64())/60, r.Float64()*most
		much := 3 / (wealth.ExpFloat64() + wealth.ExpFloat64() + wealth.ExpFloat64() + wealth.ExpFloat64())
		for at < 365 {
			day := start.Add(time.Duration(at*24) * time.Hour)
			fmt.Fprintf(&b, "k%d,%s,%.2f,%d-%.3f\n", i, day.Format("2006-01-02 15:04:05"), much*(10+20*r.Float64()), i, at)
			if r.Float64() < leave {
				break
			}
			at += r.ExpFloat64() / rate
		}
	}
	return b.String()
}

// fitted runs fit on a log with everybody's first order and reads what it has written.
func fitted(t *testing.T, args ...string) *fit.File {
	t.Helper()
	return fittedTo(t, append([]string{"--births", "known"}, args...)...)
}

func fittedTo(t *testing.T, args ...string) *fit.File {
	t.Helper()
	file := filepath.Join(t.TempDir(), "model.json")
	if got := command(t, append([]string{"fit", "--model", "mbg_nbd", "--output", file}, args...)...); got.code != exitGood {
		t.Fatalf("%v: %d %s", args, got.code, got.err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fit.ParseFile(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func sameModel(t *testing.T, what string, a, b *fit.File) {
	t.Helper()
	for name, v := range a.Churn.Params {
		if math.Abs(v-b.Churn.Params[name]) > 1e-9*v {
			t.Errorf("%s: %s is %v, want %v", what, name, b.Churn.Params[name], v)
		}
	}
	if a.Data.Customers != b.Data.Customers || a.Data.Learnt != b.Data.Learnt || a.Heuristic != b.Heuristic {
		t.Errorf("%s: %+v, want %+v", what, b.Data, a.Data)
	}
}

var smallColumns = []string{"--column", "customer_id=Kunde", "--column", "ordered_at=Datum", "--column", "amount=Summe", "--currency", "EUR"}

// The same orders teach the same, from a file, from the topic of a pipeline and from the snapshot that a pipeline has made.
func TestFitSources(t *testing.T) {
	csv := written(t, "shop.csv", smallShop(1500))
	withIDs := append([]string{"--column", "order_id=Nr"}, smallColumns...)
	want := fitted(t, append(append([]string{"--input", csv}, withIDs...), "--until", "2024-12-30")...)
	if want.Churn.Status != fit.Good || want.Spending == nil || want.Spending.Currency != "EUR" || want.Data.Until != "2024-12-30" || want.Data.FreeOrders {
		t.Errorf("%+v", want)
	}
	sameModel(t, "without order ids", want, fitted(t, append(append([]string{"--input", csv}, smallColumns...), "--until", "2024-12-30")...))

	jsonl := filepath.Join(t.TempDir(), "shop.jsonl")
	got := command(t, append(append([]string{"replay", "--print"}, withIDs...), csv)...)
	if got.code != exitGood || os.WriteFile(jsonl, []byte(got.out), 0o600) != nil {
		t.Fatal(got.err)
	}
	sameModel(t, "canonical records", want, fitted(t, "--input", jsonl, "--until", "2024-12-30"))

	address, stop, err := embeddedBroker()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	cfg := written(t, "asiduo.yaml", "app: shop\ncurrency: EUR\nkafka:\n  brokers: [\""+address+"\"]\noutputs:\n  replication_factor: 1\n")
	fill(t, address, jsonl)
	sameModel(t, "topic", want, fitted(t, "-c", cfg, "--topic", "--until", "2024-12-30"))

	out := t.TempDir()
	archived(t, "", jsonl, out)
	snapshot := fitted(t, "--snapshot", out)
	until := snapshot.Data.Until // orders of the last day are in the snapshot too
	known := fitted(t, "--input", jsonl, "--until", until)
	sameModel(t, "snapshot", known, snapshot)
	running := written(t, "running.json", `{"version": 4, "method": "mbg_nbd", "params": {"r": 0.5, "alpha": 50, "a": 0.9, "b": 1.6}}`)
	against, whole := fitted(t, "--snapshot", out, "--against", running), fitted(t, "--input", jsonl, "--until", until, "--against", running)
	if a, b := against.Against, whole.Against; a == nil || math.Abs(a.Gain-b.Gain) > 1e-9 || a.Day != b.Day || len(against.Calibration.Origins) < 5 || !reflect.DeepEqual(against.Calibration.Origins, known.Calibration.Origins) {
		t.Errorf("%+v %+v, want %+v %+v", a, against.Calibration, b, whole.Calibration)
	}
	from := fittedTo(t, "--snapshot", out)
	whole = fittedTo(t, "--input", jsonl, "--until", until)
	sameModel(t, "snapshot, births unknown", whole, from)
	if from.Data.LeftCensored != whole.Data.LeftCensored || from.Data.LeftCensored == 0 || from.Data.Orders != whole.Data.Orders || from.Spending.Observations != "repeat" {
		t.Errorf("%+v, want %+v", from.Data, whole.Data)
	}
	archived(t, "rules: {recency_days: [20, 60, 120, 180], window_days: 200}\n", jsonl, out)
	settled := fitted(t, "--snapshot", out)
	settled.Heuristic = snapshot.Heuristic // the mean gap needs no days either, and is the same but for rounding
	sameModel(t, "orders have settled", snapshot, settled)
	if notes := strings.Join(settled.Data.Notes, " "); settled.Spending.Observations != "all" || !strings.Contains(notes, "orders before 2024-06-") || !strings.Contains(notes, " have settled: their days are not known one by one") {
		t.Errorf("%s: %+v", notes, settled.Spending)
	}
	if !strings.HasPrefix(snapshot.Data.Source, "snapshot of 2025-01-01") {
		t.Errorf("%+v", snapshot)
	}
}

// fill writes canonical records into the purchases topic of a broker.
func fill(t *testing.T, address, file string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	c := config.Default()
	c.Currency = "EUR"
	forever := "-1"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 3, 1, map[string]*string{"retention.ms": &forever}, c.Inputs.Purchases); err != nil {
		t.Fatal(err)
	}
	history, _ := readHistory([]string{file}, historyFormat{})
	for r, err := range placed(c, history, 3, nil) {
		if err != nil {
			t.Fatal(err)
		}
		cl.Produce(t.Context(), r, nil)
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Without amounts every line is an order, and there is no model of spending; who may be older than the log is left out; the
// same data make the same file.
func TestFitReport(t *testing.T) {
	csv := written(t, "shop.csv", smallShop(1200))
	args := []string{"fit", "--input", csv, "--column", "customer_id=1", "--column", "ordered_at=2", "--model", "bg_nbd"}
	files := [2]string{filepath.Join(t.TempDir(), "a.json"), filepath.Join(t.TempDir(), "b.json")}
	var out string
	for _, file := range files {
		got := command(t, append(args, "--output", file)...)
		if got.code != exitGood {
			t.Fatal(got.err)
		}
		out = got.out
	}
	a, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(files[1]); err != nil || string(a) != string(b) {
		t.Errorf("%v, or two files of the same data differ", err)
	}
	var f fit.File
	if err := json.Unmarshal(a, &f); err != nil {
		t.Fatal(err)
	}
	if f.Spending != nil || !f.Data.FreeOrders || f.Data.LeftCensored == 0 || f.Data.LeftCensored+f.Data.Learnt.Customers != 1200 || f.Churn.Method != fit.BGNBD || len(f.Compared) != 2 {
		t.Errorf("%+v", f)
	}
	for _, part := range []string{"bg_nbd: asked for", "learnt from customers first seen on 2024-", "method: heuristic  # bg_nbd is not among the methods", "standard error"} {
		if !strings.Contains(out, part) {
			t.Errorf("the report lacks %q:\n%s", part, out)
		}
	}
}

// Refunds, tests and cancelled orders count as in the pipeline.
func TestFitCountsAsThePipeline(t *testing.T) {
	line := func(id, day, rest string) string {
		return fmt.Sprintf(`{"order_id":"%s","customer_id":"c","ordered_at":"2025-01-%sT10:00:00Z","amount":"10.00","currency":"EUR"%s}`+"\n", id, day, rest)
	}
	log := line("1", "01", "") + line("2", "05", `,"status":"cancelled"`) + line("3", "09", `,"test":true`) + line("4", "13", "") +
		line("5", "20", "") + line("6", "20", "") + line("7", "25", "") + line("7", "25", "") +
		`{"type":"refund","order_id":"7","customer_id":"c","refund_id":"r","refunded_at":"2025-01-26T00:00:00Z","amount":"10.00","currency":"EUR"}` + "\n" +
		strings.Replace(line("8", "27", ""), "EUR", "USD", 1)
	file := written(t, "log.jsonl", log)
	f := fitted(t, "--input", file)
	if f.Data.Orders != 4 || f.Data.Refused != 1 || f.Data.Learnt.Repeats != 2 || f.Data.Until != "2025-01-20" || f.Heuristic.ShopGapDays != 9.5 || f.Churn.Status != fit.TooFew {
		t.Errorf("%+v", f)
	}
	if before := fitted(t, "--input", file, "--until", "2025-01-25"); before.Data.Orders != 5 { // the refund is not known yet
		t.Errorf("%+v", before.Data)
	}
}

// TestFitNobodyLeaves: MBG/NBD fitted to a shop that loses nobody foresees what NBD does, so it is used, and the reason is told; another
// kind, or too few data, are not.
func TestFitNobodyLeaves(t *testing.T) {
	csv, file := written(t, "shop.csv", shopLosing(1500, 0)), filepath.Join(t.TempDir(), "model.json")
	args := append([]string{"fit", "--input", csv, "--births", "known", "--output", file}, smallColumns...)
	got := command(t, append(args, "--model", "mbg_nbd")...)
	for _, part := range []string{"mbg_nbd is degenerate_no_dropout: twice the log likelihood is", "held against the orders of 90 days after earlier cuts: AUC 0.", "  method: mbg_nbd\n  params: {r: "} {
		if got.code != exitGood || !strings.Contains(got.out, part) {
			t.Errorf("no %q in %d %s%s", part, got.code, got.err, got.out)
		}
	}
	f, err := readFit(file)
	if err != nil {
		t.Fatal(err)
	}
	if f.Churn.Status != fit.NoDropout || f.Calibration.Tried() == nil || len(f.Percentiles) == 0 {
		t.Fatalf("%+v", f)
	}
	cfg := config.Default()
	cfg.App, cfg.Currency = "shop", "EUR"
	use := func(f *fit.File) (parameters.Model, string) {
		t.Helper()
		m, err := pipeline.ModelOf(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := useFit(&m, f, cfg, &out); err != nil {
			t.Fatal(err)
		}
		if _, err := (&parameters.Set{}).WithModel(m, 1); err != nil {
			t.Errorf("it cannot be published: %v", err)
		}
		return m, out.String()
	}
	m, said := use(f)
	if m.Method != "mbg_nbd" || m.Params.R != f.Churn.Params["r"] || m.Value == nil || m.Origin.Status != "degenerate_no_dropout" || m.Origin.HeldOut == nil {
		t.Errorf("%+v", m)
	}
	if want := "mbg_nbd is degenerate_no_dropout (" + f.Churn.Reason + "): what it foresees is that of NBD\n"; !strings.Contains(said, want) {
		t.Errorf("no %q in %q", want, said)
	}
	runs := &parameters.Model{Method: "mbg_nbd", Origin: &parameters.Origin{}}
	if _, err := holdAgainst(f, runs, 4, false); err == nil || err.Error() != "--from: it was not held against version 4 of the model, which runs: fit with --against (--force publishes it untried)" {
		t.Error(err)
	}
	f.Churn.Status = fit.NotConverged
	if m, said := use(f); m.Method != "heuristic" || !strings.Contains(said, "mbg_nbd is not_converged (") {
		t.Errorf("%s: %+v", said, m)
	}
	if got := command(t, append(args, "--model", "bg_nbd")...); !strings.Contains(got.out, "  method: heuristic  # bg_nbd is degenerate_no_dropout\n") {
		t.Errorf("%d %s%s", got.code, got.err, got.out)
	}
	if f, err = readFit(file); err != nil {
		t.Fatal(err)
	}
	if m, said := use(f); m.Method != "heuristic" || !strings.Contains(said, "bg_nbd is degenerate_no_dropout (") {
		t.Errorf("%s: %+v", said, m)
	}
}
