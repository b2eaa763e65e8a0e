package config

import (
	"bytes"
	"testing"
)

const ownRules = `app: shop
currency: EUR
rules:
  name: own
  segments:
    - {name: active, rank: 2, when: [{r: 4-5}, {r: 3, f: 2-5}]}
    - {name: slipping, rank: 1, when: [{r: 2}, {r: 3, f: 1, m: any}]}
    - {name: lost, rank: 0, when: [{r: 1}]}
    - {name: prospect, rank: 0}
`

func TestOwnRules(t *testing.T) {
	got, err := Parse("c.yaml", []byte(ownRules), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Rules.Segments); n != 4 {
		t.Fatalf("%d segments", n)
	}
	if g := got.Rules.Segments[0]; g.Name != "active" || g.Rank != 2 || len(g.When) != 2 ||
		g.When[0] != (Cell{R: Scores{4, 5}}) || g.When[1] != (Cell{R: Scores{3, 3}, F: Scores{2, 5}}) {
		t.Errorf("active: %+v", g)
	}
	var text bytes.Buffer
	if err := Print(&text, got); err != nil {
		t.Fatal(err)
	}
	again, err := Parse("printed.yaml", text.Bytes(), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text.Bytes())
	}
	got.Rules.Segments[3].When = []Cell{} // absent and empty mean the same
	same(t, again, got)
}
