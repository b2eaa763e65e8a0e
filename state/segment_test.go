package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rfm11 is the table of semantics 5.4, written once more as a chain of conditions.
func rfm11(r, f, m int) (string, int) {
	switch {
	case r >= 4 && f >= 4 && m >= 4:
		return "champions", 9
	case r >= 4 && f >= 3:
		return "loyal", 8
	case r >= 4 && f == 2:
		return "potential_loyalist", 7
	case r == 5 && f == 1:
		return "new", 6
	case r == 4 && f == 1:
		return "promising", 5
	case r == 3 && f >= 3:
		return "needs_attention", 4
	case r == 3 && f <= 2:
		return "about_to_sleep", 3
	case r == 2 && (f >= 3 || (f == 2 && m >= 4)):
		return "at_risk", 2
	case r == 2:
		return "hibernating", 1
	case r == 1 && f >= 4 && m >= 4:
		return "cant_lose", 1
	}
	return "lost", 0
}

func TestRFM11(t *testing.T) {
	rules, err := NewRuleSet("rfm11", RFM11())
	if err != nil {
		t.Fatal(err)
	}
	for r := 1; r <= 5; r++ {
		for f := 1; f <= 5; f++ {
			for m := 1; m <= 5; m++ {
				g := rules.Of(uint8(r), uint8(f), uint8(m))
				name, rank := rfm11(r, f, m)
				if rules.SegmentName(g) != name || rules.Rank(g) != rank {
					t.Errorf("r=%d f=%d m=%d: %s of rank %d, want %s of rank %d", r, f, m, rules.SegmentName(g), rules.Rank(g), name, rank)
				}
			}
		}
		if g := rules.Of(uint8(r), 0, 0); g != Lost {
			t.Errorf("r=%d without an order in the window: %s", r, rules.SegmentName(g))
		}
	}
	want := []string{"champions", "loyal", "potential_loyalist", "new", "promising", "needs_attention", "about_to_sleep", "at_risk",
		"hibernating", "cant_lose", "prospect", "lost"}
	if got := rules.Segments(); !slices.Equal(got, want) {
		t.Errorf("segments are %q", got)
	}
	if rules.SegmentName(NoSegment) != "" || rules.Rank(NoSegment) != rules.Rank(Prospect) {
		t.Error("no segment has a name, or another rank than prospect")
	}
}

var anything = []Cell{{}}

// with is a sound rule set with one segment changed or, if there is none of that name, added.
func with(changed ...SegmentRule) []SegmentRule {
	rules := []SegmentRule{
		{"good", 2, []Cell{{R: Span{3, 5}}}},
		{"lost", 0, []Cell{{R: Span{1, 2}}}},
		{"prospect", 0, nil},
	}
	for _, c := range changed {
		i := slices.IndexFunc(rules, func(r SegmentRule) bool { return r.Name == c.Name })
		if i < 0 {
			rules = append(rules, c)
			continue
		}
		rules[i] = c
	}
	return rules
}

func TestRuleSetFaults(t *testing.T) {
	if _, err := NewRuleSet("mine", with()); err != nil {
		t.Fatalf("a sound rule set is refused: %v", err)
	}
	many := with()
	for i := range MaxSegments {
		many = append(many, SegmentRule{fmt.Sprintf("s%d", i), 1, anything})
	}
	for _, test := range []struct {
		name  string
		rules []SegmentRule
		want  string
	}{
		{"not total", with(SegmentRule{"lost", 0, []Cell{{R: Span{1, 1}}, {R: Span{2, 2}, F: Span{1, 4}}, {R: Span{2, 2}, F: Span{5, 5}, M: Span{2, 5}}}}),
			"rule set mine: not total: r=2 f=5 m=1 belongs to no segment"},
		{"ambiguous", with(SegmentRule{"vip", 3, []Cell{{Span{5, 5}, Span{5, 5}, Span{5, 5}}}}),
			"rule set mine: ambiguous: r=5 f=5 m=5 belongs to good and vip"},
		{"unreachable", with(SegmentRule{"ghost", 1, nil}), `rule set mine: segment "ghost" can never be reached`},
		{"prospect takes scores", with(SegmentRule{"prospect", 0, []Cell{{R: Span{2, 2}}}}, SegmentRule{"lost", 0, []Cell{{R: Span{1, 1}}}}),
			`rule set mine: segment "prospect" is for customers without an order; it takes no scores`},
		{"recency improves", with(SegmentRule{"lost", 0, []Cell{{R: Span{1, 1}}}}, SegmentRule{"late", 3, []Cell{{Span{2, 2}, Span{5, 5}, Span{5, 5}}}}, SegmentRule{"rest", 0, []Cell{{R: Span{2, 2}, F: Span{1, 4}}, {R: Span{2, 2}, F: Span{5, 5}, M: Span{1, 4}}}}),
			"rule set mine: a fall from r=3 f=5 m=5 (good) to r=2 f=5 m=5 (late) would be an improvement"},
		{"frequency improves", with(SegmentRule{"good", 2, []Cell{{R: Span{3, 5}, F: Span{1, 4}}}}, SegmentRule{"often", 1, []Cell{{Span{5, 5}, Span{5, 5}, Span{5, 5}}}}, SegmentRule{"rest", 2, []Cell{{R: Span{3, 4}, F: Span{5, 5}}, {R: Span{5, 5}, F: Span{5, 5}, M: Span{1, 4}}}}),
			"rule set mine: a fall from r=5 f=5 m=5 (often) to r=4 f=5 m=5 (rest) would be an improvement; a fall from r=5 f=5 m=5 (often) to r=5 f=4 m=5 (good) would be an improvement; a fall from r=5 f=5 m=5 (often) to r=5 f=5 m=4 (rest) would be an improvement"},
		{"leaving the window improves", with(SegmentRule{"bad", 1, []Cell{{R: Span{1, 2}}}}, SegmentRule{"lost", 2, nil}),
			"rule set mine: leaving the window from bad to lost would be an improvement"},
		{"twice", append(with(), SegmentRule{"good", 2, nil}), `rule set mine: segment "good" is there twice`},
		{"lost twice", append(with(), SegmentRule{"lost", 0, nil}), `rule set mine: segment "lost" is there twice`},
		{"prospect twice", append(with(), SegmentRule{"prospect", 0, nil}), `rule set mine: segment "prospect" is there twice`},
		{"nameless", append(with(), SegmentRule{"", 1, nil}), "rule set mine: a segment without a name"},
		{"no prospect", with()[:2], `rule set mine: no segment "prospect": every rule set needs one`},
		{"no lost", []SegmentRule{{"all", 1, anything}, {"prospect", 0, nil}}, `rule set mine: no segment "lost": every rule set needs one`},
		{"neither", []SegmentRule{{"all", 1, anything}},
			`rule set mine: no segment "prospect": every rule set needs one; no segment "lost": every rule set needs one`},
		{"negative rank", with(SegmentRule{"good", -1, anything}), `rule set mine: segment "good": rank -1 is negative`},
		{"negative rank of lost", with(SegmentRule{"lost", -2, []Cell{{R: Span{1, 2}}}}), `rule set mine: segment "lost": rank -2 is negative`},
		{"too many", many, `rule set mine: no code is left for segment "s28": 31 names have been used, those of former versions included; use one of them again`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := NewRuleSet("mine", test.rules)
			if err == nil {
				t.Fatal("accepted")
			}
			if s != nil {
				t.Error("a faulty rule set is returned")
			}
			if got := err.Error(); got != test.want && !strings.HasPrefix(got, test.want+"; ") {
				t.Errorf("the fault is\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// The greatest number of segments still fits the bits that remember where a customer has been.
func TestMostSegments(t *testing.T) {
	rules := []SegmentRule{{"prospect", 0, nil}, {"lost", 0, []Cell{{R: Span{1, 1}}}}}
	for i := range MaxSegments - 3 {
		r, f, m := uint8(2+i/25), uint8(1+i/5%5), uint8(1+i%5)
		rules = append(rules, SegmentRule{fmt.Sprintf("s%d", i), 1, []Cell{{Span{r, r}, Span{f, f}, Span{m, m}}}})
	}
	last := &rules[len(rules)-1]
	last.When = nil
	taken := MaxSegments - 4
	for i := taken; i < 100; i++ {
		r, f, m := uint8(2+i/25), uint8(1+i/5%5), uint8(1+i%5)
		last.When = append(last.When, Cell{Span{r, r}, Span{f, f}, Span{m, m}})
	}
	s, err := NewRuleSet("most", rules)
	if err != nil {
		t.Fatal(err)
	}
	highest := Segment(MaxSegments - 1)
	if s.names[highest] == "" {
		t.Fatal("the highest code is not given")
	}
	c := Change{Was: Standing{Seen: 1 << highest}, Is: Standing{Published: highest}}
	if c.FirstTime() {
		t.Error("the highest segment is not remembered")
	}
}

// Whatever happens to the rules, a code means the same name for ever, and the newest rules can name all of them.
func TestCodesAreKept(t *testing.T) {
	first, err := NewRuleSet("mine", with(SegmentRule{"vip", 3, []Cell{{Span{5, 5}, Span{5, 5}, Span{5, 5}}}}, SegmentRule{"good", 2, []Cell{{R: Span{3, 4}}, {R: Span{5, 5}, F: Span{1, 4}}, {Span{5, 5}, Span{5, 5}, Span{1, 4}}}}))
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewRuleSet("mine", []SegmentRule{ // vip retired, best new, another order and another rank of good
		{"best", 9, []Cell{{R: Span{5, 5}}}}, {"lost", 0, []Cell{{R: Span{1, 2}}}}, {"prospect", 0, nil}, {"good", 5, []Cell{{R: Span{3, 4}}}},
	}, first.Codes()...)
	if err != nil {
		t.Fatal(err)
	}
	want := []SegmentCode{{"prospect", 1, 0}, {"lost", 2, 0}, {"good", 3, 5}, {"vip", 4, 3}, {"best", 5, 9}}
	if got := second.Codes(); !slices.Equal(got, want) {
		t.Errorf("codes are %v, want %v", got, want)
	}
	if got := second.Segments(); !slices.Equal(got, []string{"best", "good", "prospect", "lost"}) {
		t.Errorf("segments are %q", got)
	}
	if name := second.SegmentName(4); name != "vip" {
		t.Errorf("the retired segment is called %q", name)
	}
	move := Change{Was: Standing{Published: 4}, Is: Standing{Published: 3}}
	if d := move.Direction(second); d != "up" { // from rank 3 to rank 5, as they are now
		t.Errorf("from the retired segment the direction is %s", d)
	}
	again, err := NewRuleSet("mine", with(), second.Codes()...) // read back, and with another set of rules
	if err != nil || again.SegmentName(5) != "best" {
		t.Errorf("the third rule set: %v", err)
	}
}

func TestCodesThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		given SegmentCode
		want  string
	}{
		{SegmentCode{"mine", 0, 0}, `rule set mine: segment "mine" cannot have the code 0`},
		{SegmentCode{"mine", 32, 0}, `rule set mine: segment "mine" cannot have the code 32`},
		{SegmentCode{"mine", 1, 0}, `rule set mine: segment "mine" cannot have the code 1`},
		{SegmentCode{"lost", 3, 0}, `rule set mine: segment "lost" cannot have the code 3`},
		{SegmentCode{"", 3, 0}, `rule set mine: segment "" cannot have the code 3`},
	} {
		if _, err := NewRuleSet("mine", with(), test.given); err == nil || err.Error() != test.want {
			t.Errorf("%v: %v", test.given, err)
		}
	}
}

// Every preset passes the four proofs, and has the cells that its source says.
func TestPresets(t *testing.T) {
	want := map[string]map[string]int{
		"rfm125": {"champions": 7, "loyal": 8, "potential_loyalist": 24, "new": 7, "promising": 16, "needs_attention": 8, "about_to_sleep": 8, "at_risk": 22, "cant_lose": 8, "hibernating": 11, "lost": 6},
		"rf10":   {"champions": 10, "loyal": 20, "potential_loyalist": 20, "new": 5, "promising": 5, "needs_attention": 5, "about_to_sleep": 10, "cant_lose": 10, "at_risk": 20, "hibernating": 20},
	}
	for _, name := range Presets() {
		rules, known := Preset(name)
		if !known {
			t.Fatalf("no preset %s", name)
		}
		s, err := NewRuleSet(name, rules)
		if err != nil {
			t.Fatal(err)
		}
		got, thirds := map[string]int{}, map[string]map[[3]int]bool{}
		third, money := [6]int{0, 1, 2, 3, 3, 3}, [6]int{0, 1, 1, 2, 3, 3}
		for r := 1; r <= 5; r++ {
			for f := 1; f <= 5; f++ {
				for m := 1; m <= 5; m++ {
					g := s.SegmentName(s.Of(uint8(r), uint8(f), uint8(m)))
					got[g]++
					if thirds[g] == nil {
						thirds[g] = map[[3]int]bool{}
					}
					thirds[g][[3]int{third[r], third[f], money[m]}] = true
				}
			}
		}
		for g, n := range want[name] {
			if got[g] != n {
				t.Errorf("%s: %s has %d cells, want %d", name, g, got[g], n)
			}
		}
		if name == "klaviyo6" {
			for g, n := range map[string]int{"champions": 3, "loyal": 5, "recent": 5, "needs_attention": 5, "at_risk": 5, "inactive": 4} {
				if len(thirds[g]) != n {
					t.Errorf("%s has %d of the 27 cells, want %d", g, len(thirds[g]), n)
				}
			}
		}
	}
	if _, known := Preset("rfm12"); known {
		t.Error("a preset that does not exist")
	}
}
