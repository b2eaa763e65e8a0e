package archive

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/asiduo/asiduo/state"
)

// found is what testdata/check_duckdb.py prints.
type found struct {
	Rows       int64             `json:"rows"`
	Net        string            `json:"net_revenue"`
	Lifetime   string            `json:"net_revenue_lifetime"`
	Days       []string          `json:"days"`
	Bought     int64             `json:"with_orders"`
	Millionths int64             `json:"churn_probability_millionths"`
	Email      int64             `json:"email_granted"`
	Segments   map[string]int64  `json:"segments"`
	AsOf       []string          `json:"as_of"`
	Types      map[string]string `json:"types"`
	First      [2]any            `json:"first"`
}

// TestDuckDB lets DuckDB read a snapshot: ASIDUO_DUCKDB_PYTHON names a python that has it.
func TestDuckDB(t *testing.T) {
	python := os.Getenv("ASIDUO_DUCKDB_PYTHON")
	if python == "" {
		t.Skip("ASIDUO_DUCKDB_PYTHON names no python")
	}
	a, b, in, dir := populate(t, 5000), populate(t, 3001), info(t), t.TempDir()
	in.Shards = 3
	a.write(t, dir, 0, now, in)
	b.write(t, dir, 1, now, in)
	nobody := populate(t, 0)
	nobody.write(t, dir, 2, now, in)
	publishes(t, dir, now, in, true)
	// What is half written does not disturb.
	if err := os.WriteFile(filepath.Join(dir, "snapshots", "dt="+day, "_part-1.parquet.1.tmp"), []byte("PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs(filepath.Join("testdata", "check_duckdb.py"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, script, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got found
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m := manifest(t, dir)
	want := found{
		Rows: m.Rows, Net: m.NetRevenue, Lifetime: m.NetRevenueLifetime, Days: []string{day}, Segments: m.Segments,
		AsOf: got.AsOf, Types: got.Types, First: [2]any{min(m.Parts[0].MinID, m.Parts[1].MinID), 1.0},
	}
	for _, p := range []*population{a, b} {
		p.count(t, in, &want)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("DuckDB found %+v; want %+v", got, want)
	}
	if !slices.Contains(got.AsOf, "2026-11-24T00:00:00.000Z") {
		t.Errorf("as of %q", got.AsOf)
	}
	for name, kind := range map[string]string{
		"dt": "DATE", "customer_id": "VARCHAR", "as_of": "TIMESTAMP WITH TIME ZONE", "r": "INTEGER", "orders": "BIGINT",
		"net_revenue": "DECIMAL(18,2)", "churn_probability": "DOUBLE", "complaint_open": "BOOLEAN",
	} {
		if got.Types[name] != kind {
			t.Errorf("%s is %s; want %s", name, got.Types[name], kind)
		}
	}
}

// count adds what the state says to f.
func (p *population) count(t *testing.T, in Info, f *found) {
	t.Helper()
	v := p.view(t)
	for _, id := range p.ids {
		var c state.Customer
		var n state.Interactions
		known, err := v.Customer(id, &c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Interactions(id, &n); err != nil {
			t.Fatal(err)
		}
		for _, consent := range n.Consents {
			if consent.Purpose == "email" && consent.Status == state.Granted {
				f.Email++
			}
		}
		if !known {
			continue
		}
		if c.Profile(in.Params).Figures.Lifetime > 0 {
			f.Bought++
			f.Millionths += int64(c.Chance(in.Params, now))
		}
	}
}
