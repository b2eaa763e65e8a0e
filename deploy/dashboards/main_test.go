package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDashboardsAreFresh holds the files against what is said in pages.go.
func TestDashboardsAreFresh(t *testing.T) {
	for _, d := range []dashboard{overview, shards, business} {
		want, err := d.render()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(d.name + ".json"); err != nil || string(got) != string(want) {
			t.Errorf("%s.json is not what pages.go says (go generate ./deploy/dashboards writes it), %v", d.name, err)
		}
		for _, r := range d.rows {
			for _, p := range r.panels {
				if p.about == "" || p.unit == "" || p.title == "" || len(p.queries) == 0 {
					t.Errorf("%s: panel %q needs a title, a description, a unit and a query", d.name, p.title)
				}
			}
		}
	}
}

// TestChartHasTheSame: the chart can hold only what lies in it, and links do not survive every way that a tree travels.
func TestChartHasTheSame(t *testing.T) {
	for _, name := range []string{"../dashboards/overview.json", "../dashboards/shards.json", "../dashboards/business.json", "../alerts/asiduo.rules.yaml"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join("../helm/asiduo/files", filepath.Base(name))); err != nil || string(got) != string(want) {
			t.Errorf("the chart has another %s: cp deploy/dashboards/*.json deploy/alerts/asiduo.rules.yaml deploy/helm/asiduo/files (%v)", filepath.Base(name), err)
		}
	}
}
