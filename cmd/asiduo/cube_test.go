package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/asiduo/asiduo/state"
)

// TestCube reads the printed map of a rule set back: every combination of scores is where the rules have it.
func TestCube(t *testing.T) {
	rules, err := state.NewRuleSet("rfm11", state.RFM11())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	printCube(&b, "# ", rules)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 8 || strings.Join(strings.Fields(lines[1]), " ") != "# r=5 r=4 r=3 r=2 r=1" {
		t.Fatalf("%s", b.String())
	}
	names := map[byte]string{}
	for _, part := range strings.Split(strings.TrimPrefix(lines[7], "# "), ", ") {
		letter, name, _ := strings.Cut(part, " ")
		names[letter[0]] = name
	}
	for i := range 5 {
		cells := strings.Fields(lines[2+i])
		f := uint8(5 - i)
		if len(cells) != 7 || cells[1] != fmt.Sprintf("f=%d", f) {
			t.Fatalf("%q", lines[2+i])
		}
		for k, cell := range cells[2:] {
			for m := range uint8(5) {
				r := uint8(5 - k)
				if got, want := names[cell[m]], rules.SegmentName(rules.Of(r, f, m+1)); got != want {
					t.Errorf("r=%d f=%d m=%d is printed as %s, and is %s", r, f, m+1, got, want)
				}
			}
		}
	}
	file := configFile(t, "127.0.0.1:1", "")
	if got := command(t, "check", "-c", file); got.code != exitGood || !strings.Contains(got.out, lines[2]) || !strings.Contains(got.out, lines[7]) {
		t.Errorf("check says\n%s%s", got.out, got.err)
	}
}
