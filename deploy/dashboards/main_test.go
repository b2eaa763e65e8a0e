package main

import (
	"os"
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
