package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/holdout"
)

// before are the canonical records of orders before a day.
func before(t *testing.T, records, day string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(records) {
		var r struct {
			OrderedAt string `json:"ordered_at"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.OrderedAt < day {
			b.WriteString(line)
		}
	}
	return b.String()
}

// looks makes an archive with snapshots of a small shop, as of the beginnings of days. records are its canonical records.
func looks(t *testing.T, days ...string) (cfg, archive, records string) {
	t.Helper()
	csv, archive := written(t, "shop.csv", smallShop(300)), t.TempDir()
	printed := command(t, append(append([]string{"replay", "--print", "--column", "order_id=Nr"}, smallColumns...), csv)...)
	if printed.code != exitGood {
		t.Fatal(printed.err)
	}
	_, address := fakeBroker(t, kfake.SeedTopics(townShards, "purchases", "interactions"))
	cfg = configFile(t, address, "churn: {method: mbg_nbd}\n")
	if got := command(t, "init", "-c", cfg); got.code != exitGood {
		t.Fatal(got.err)
	}
	for _, day := range days {
		dir, log := t.TempDir(), written(t, "shop.jsonl", before(t, printed.out, day))
		if got := command(t, "simulate", "-c", cfg, "--input", log, "--until", day+"T00:00:00Z", "--output", dir); got.code != exitGood {
			t.Fatal(got.err)
		}
		if err := os.CopyFS(filepath.Join(archive, "snapshots"), os.DirFS(filepath.Join(dir, "snapshots"))); err != nil {
			t.Fatal(err)
		}
	}
	return cfg, archive, printed.out
}

// TestDriftSeries: each step is what the command says of its two snapshots alone.
func TestDriftSeries(t *testing.T) {
	cfg, out, _ := looks(t, "2024-10-01", "2024-10-05", "2024-10-08", "2024-10-15", "2024-10-17", "2024-11-01")
	manifest := filepath.Join(out, "snapshots", "dt=2024-10-15", "_manifest.json")
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, []byte(strings.Replace(string(text), `"model": 1`, `"model": 2`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	drift := []string{"model", "drift", "-c", cfg, "--archive", out, "--from", "2024-10-01"}
	got := command(t, append(drift, "--every", "7", "--json", "-")...)
	var s DriftSeries
	if got.code != exitGood || json.Unmarshal([]byte(got.out), &s) != nil {
		t.Fatalf("%d %s", got.code, got.err)
	}
	days := []string{"2024-10-01", "2024-10-08", "2024-10-17", "2024-11-01"}
	if len(s.Steps) != 3 || fmt.Sprint(s.Skipped) != "[2024-10-15]" || s.Every != 7 {
		t.Fatalf("%d steps, without %v", len(s.Steps), s.Skipped)
	}
	var came float64
	for i, step := range s.Steps {
		alone := command(t, "model", "drift", "-c", cfg, "--archive", out, "--from", days[i], "--to", days[i+1], "--json", "-")
		b, err := json.MarshalIndent(step, "", "  ")
		if err != nil || string(b)+"\n" != alone.out {
			t.Errorf("step %d: %v\n%s\nalone %s%s", i, err, b, alone.out, alone.err)
		}
		came += step.Orders.Came
	}
	if came == 0 {
		t.Error("nothing was ordered")
	}
	shown := command(t, append(drift, "--every", "7")...)
	for _, part := range []string{"2024-10-31", fmt.Sprintf("%.0f came: ratio ", came), "the snapshot of 2024-10-15 was made while a new version was adopted, and is left out"} {
		if !strings.Contains(shown.out, part) {
			t.Errorf("no %q in\n%s%s", part, shown.out, shown.err)
		}
	}
	if t.Failed() {
		t.Log(shown.out)
	}
	refused(t, exitUsage, "--every -1: must be a number of days", append(drift, "--every", "-1")...)
	refused(t, exitFailed, "no snapshot up to 2024-11-01 is 40 days later than that of 2024-10-01", append(drift, "--every", "40")...)
	refused(t, exitUsage, `"May" is not a day such as 2026-05-01`, "model", "drift", "-c", cfg, "--archive", out, "--from", "May", "--every", "7")
}

// TestDrift holds what the command says of two snapshots against a count over the log itself.
func TestDrift(t *testing.T) {
	cfg, out, records := looks(t, "2024-10-01", "2024-12-31")
	drift := []string{"model", "drift", "-c", cfg, "--archive", out, "--from", "2024-10-01"}
	got := command(t, append(drift, "--json", "-")...)
	var d Drifted
	if got.code != exitGood || json.Unmarshal([]byte(got.out), &d) != nil {
		t.Fatalf("%d %s", got.code, got.err)
	}

	// The same from the log: days with orders by customer, as canonical records have them.
	days := map[string]map[int]bool{}
	for line := range strings.Lines(records) {
		var r struct {
			CustomerID string    `json:"customer_id"`
			OrderedAt  time.Time `json:"ordered_at"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.CustomerID == "" {
			t.Fatalf("%v in %s", err, line)
		}
		if days[r.CustomerID] == nil {
			days[r.CustomerID] = map[int]bool{}
		}
		days[r.CustomerID][int(r.OrderedAt.Unix()/86400)] = true
	}
	day := func(s string) int {
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return int(at.Unix() / 86400)
	}
	from, to := day(d.From), day(d.To)
	m := model.MBGNBD{R: 0.525, Alpha: 43.281, A: 0.891, B: 1.614} // as init has published it
	shown := command(t, "model", "show", "-c", cfg)
	for _, part := range []string{`"r": 0.525`, `"alpha": 43.281`, `"a": 0.891`, `"b": 1.614`} {
		if !strings.Contains(shown.out, part) {
			t.Fatalf("no %s in %s", part, shown.out)
		}
	}
	var known, fresh int64
	var expected, came, buyers, bought float64
	for _, of := range days {
		first, last, before, after := math.MaxInt, 0, 0, 0
		for at := range of {
			if at <= from {
				first, last, before = min(first, at), max(last, at), before+1
			} else if at <= to {
				after++
			}
		}
		switch {
		case before > 0:
			known++
			expected += m.Orders(float64(before-1), float64(last-first), float64(from-last), float64(to-from))
			buyers += 1 - m.NoOrder(float64(before-1), float64(last-first), float64(from-last), float64(to-from))
			came += float64(after)
			bought += min(float64(after), 1)
		case after > 0:
			fresh++
		}
	}
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-6*(1+math.Abs(b)) }
	if d.Known != known || d.New != fresh || d.Gone != 0 || d.Days != int32(to-from) || d.Version != 1 || known < 200 || came < 100 {
		t.Errorf("%d customers, %d new, %d gone, %d days, version %d; want %d, %d, %d days", d.Known, d.New, d.Gone, d.Days, d.Version, known, fresh, to-from)
	}
	if !near(d.Orders.Expected, expected) || d.Orders.Came != came || !near(d.Buyers.Expected, buyers) || d.Buyers.Came != bought || d.Buyers.Customers != known {
		t.Errorf("%+v and %+v; want %v, %v and %v, %v", d.Orders, d.Buyers, expected, came, buyers, bought)
	}
	if d.Stable == nil || *d.Stable <= 0 {
		t.Errorf("index %v", d.Stable)
	}
	text := command(t, drift...)
	for _, part := range []string{fmt.Sprintf("version 1 of the model (mbg_nbd)\n%d customers, %d new, 0 gone", known, fresh), "orders of those with 1 order", "population stability index"} {
		if text.code != exitGood || !strings.Contains(text.out, part) {
			t.Errorf("no %q in %s%s", part, text.out, text.err)
		}
	}
	file := written(t, "model.json", shown.out)
	if again := command(t, append(drift, "--model", file)...); again.out != text.out {
		t.Errorf("with --model: %s%s", again.out, again.err)
	}

	empty := written(t, "model.json", `{"version": 1, "method": "mbg_nbd"}`)
	refused(t, exitUsage, "--model "+empty+": r, a and b of mbg_nbd must be from 0.0001 to 1e6, and alpha from 0.0001 to 1e7 days; found 0, 0, 0 and 0", append(drift, "--model", empty)...)
	refused(t, exitUsage, "there is no archive: give --archive, or set archive.dir", "model", "drift", "-c", cfg, "--from", "2024-10-01")
	refused(t, exitUsage, "say with --from since when", "model", "drift", "-c", cfg, "--archive", out)
	refused(t, exitUsage, "the snapshot of 2024-10-01 is not later than that of 2024-10-01", "model", "drift", "-c", cfg, "--archive", out, "--from", "2024-10-01", "--to", "2024-10-01")
	refused(t, exitUsage, "--model: open nowhere.json: no such file or directory", append(drift, "--model", "nowhere.json")...)
	other := written(t, "model.json", strings.Replace(shown.out, `"version": 1`, `"version": 7`, 1))
	refused(t, exitUsage, "--model "+other+": it is version 7, the customers were scored with 1", append(drift, "--model", other)...)

	manifest := filepath.Join(out, "snapshots", "dt=2024-12-31", "_manifest.json")
	edit := func(old, new string) {
		t.Helper()
		text, err := os.ReadFile(manifest)
		if err != nil || !strings.Contains(string(text), old) {
			t.Fatalf("%v: no %s in %s", err, old, text)
		}
		if err := os.WriteFile(manifest, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit(`"model": 1`, `"model": 2`)
	refused(t, exitFailed, "the snapshot of 2024-12-31 was made while a new version was adopted: take another", drift...)
	edit(`"model": 2`, `"model": 1`)
	edit(`"epoch": 1`, `"epoch": 2`)
	refused(t, exitFailed, "the snapshots of 2024-10-01 and 2024-12-31 are of different applications, epochs or shards", drift...)
	if err := os.Remove(filepath.Join(out, "snapshots", "dt=2024-12-31", "_SUCCESS")); err != nil {
		t.Fatal(err)
	}
	refused(t, exitFailed, "archive snapshots/dt=2024-12-31: it has no _SUCCESS: it is not whole, or no snapshot", append(drift, "--to", "2024-12-31")...)
}

// TestDriftJoin: who is there at one look only, and what becomes of faults on the way.
func TestDriftJoin(t *testing.T) {
	of := func(fault error, all ...archive.Buyer) iter.Seq2[archive.Buyer, error] {
		return func(yield func(archive.Buyer, error) bool) {
			for _, b := range all {
				if !yield(b, nil) {
					return
				}
			}
			if fault != nil {
				yield(archive.Buyer{}, fault)
			}
		}
	}
	buyer := func(id string, days int64, last int32) archive.Buyer {
		return archive.Buyer{ID: id, OrderDays: days, FirstDay: 100, LastDay: last, Scored: true, Chance: .5}
	}
	first := &look{until: 200}
	before := []archive.Buyer{buyer("b", 1, 100), buyer("c", 2, 150), buyer("e", 3, 201), buyer("g", 2, 120), buyer("x", 1, 100)}
	after := []archive.Buyer{buyer("a", 1, 210), buyer("b", 2, 220), buyer("d", 1, 230), buyer("e", 3, 201), buyer("f", 1, 240), buyer("g", 2, 250), buyer("y", 1, 210), buyer("z", 1, 260)}
	d := &Drifted{Drift: holdout.NewDrift(model.MBGNBD{R: 1, Alpha: 30, A: 1, B: 3}, 60)}
	if err := d.part(first, of(nil, before...), of(nil, after...)); err != nil {
		t.Fatal(err)
	}
	// g has had a day taken back and has ordered on another; e had ordered before the first look already.
	if d.Known != 3 || d.Gone != 2 || d.New != 5 || d.Orders.Came != 1 || d.Buyers.Came != 2 || d.Orders.Customers != 3 {
		t.Errorf("%d known, %d gone, %d new: %+v %+v", d.Known, d.Gone, d.New, d.Orders, d.Buyers)
	}
	fault := errors.New("bad disk")
	for name, err := range map[string]error{
		"first": d.part(first, of(fault, before...), of(nil, after...)), "second": d.part(first, of(nil, before...), of(fault, after...)),
		"at once": d.part(first, of(nil, before...), of(fault)), "at the end": d.part(first, of(nil), of(fault, after...)),
	} {
		if !errors.Is(err, fault) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
