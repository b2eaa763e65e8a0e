package state

import (
	"fmt"
	"slices"
	"strings"
)

// Segment is a segment's place in its rule set; NoSegment is that of a customer who never had a counted order.
type Segment uint8

// Every rule set begins with these.
const (
	NoSegment Segment = iota
	Prospect          // no counted order
	Lost              // no order left in the window
)

// Span is an inclusive range of a score, 1 to 5. The zero Span means any score.
type Span struct{ Min, Max uint8 }

func (s Span) has(v uint8) bool { return s == Span{} || (s.Min <= v && v <= s.Max) }

// Cell is a box of scores.
type Cell struct{ R, F, M Span }

// SegmentRule is one segment: the boxes of scores that belong to it, and its rank. A greater rank is better.
type SegmentRule struct {
	Name string
	Rank int
	When []Cell
}

// RuleSet maps scores to segments. Make one with NewRuleSet, which proves it.
type RuleSet struct {
	Name  string
	names []string
	ranks []int
	table [6][6][6]Segment
}

// MaxSegments bounds a rule set: the segments a customer has been in are kept as one bit each.
const MaxSegments = 32

// NewRuleSet builds a rule set from rules that must name prospect and lost and give every combination of scores to
// exactly one segment; every segment must be reachable; and a fall of any score must never improve the segment, so
// that silence cannot. Every fault is reported.
func NewRuleSet(name string, rules []SegmentRule) (*RuleSet, error) {
	s := &RuleSet{Name: name, names: []string{"", "prospect", "lost"}, ranks: []int{0, 0, 0}}
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	codes := make([]Segment, len(rules))
	for i, r := range rules {
		codes[i] = s.add(r, fault)
		if r.Name != "" && slices.ContainsFunc(rules[:i], func(o SegmentRule) bool { return o.Name == r.Name }) {
			fault("segment %q is there twice", r.Name)
		}
	}
	for _, must := range []string{"prospect", "lost"} {
		if !slices.ContainsFunc(rules, func(r SegmentRule) bool { return r.Name == must }) {
			fault("no segment %q: every rule set needs one", must)
		}
	}
	if len(s.names) > MaxSegments {
		fault("%d segments; at most %d", len(s.names)-1, MaxSegments-1)
	}
	if len(faults) == 0 {
		s.fill(rules, codes, fault)
	}
	if len(faults) == 0 {
		s.checkRanks(fault)
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("rule set %s: %s", name, strings.Join(faults, "; "))
	}
	return s, nil
}

func (s *RuleSet) add(r SegmentRule, fault func(string, ...any)) Segment {
	if r.Name == "" {
		fault("a segment without a name")
	}
	if r.Rank < 0 {
		fault("segment %q: rank %d is negative", r.Name, r.Rank)
	}
	if i := slices.Index(s.names, r.Name); i > 0 && i <= int(Lost) {
		s.ranks[i] = r.Rank
		return Segment(i)
	}
	s.names, s.ranks = append(s.names, r.Name), append(s.ranks, r.Rank)
	return Segment(len(s.names) - 1)
}

func (s *RuleSet) fill(rules []SegmentRule, codes []Segment, fault func(string, ...any)) {
	reached := make([]bool, len(s.names))
	for r := uint8(1); r <= 5; r++ {
		for f := uint8(1); f <= 5; f++ {
			for m := uint8(1); m <= 5; m++ {
				var in []string
				for i, rule := range rules {
					if slices.ContainsFunc(rule.When, func(c Cell) bool { return c.R.has(r) && c.F.has(f) && c.M.has(m) }) {
						in = append(in, rule.Name)
						s.table[r][f][m] = codes[i]
						reached[codes[i]] = true
					}
				}
				switch {
				case len(in) == 0:
					fault("not total: r=%d f=%d m=%d belongs to no segment", r, f, m)
				case len(in) > 1:
					fault("ambiguous: r=%d f=%d m=%d belongs to %s", r, f, m, strings.Join(in, " and "))
				}
			}
		}
	}
	for i, name := range s.names[3:] {
		if !reached[i+3] {
			fault("segment %q can never be reached", name)
		}
	}
	if reached[Prospect] {
		fault("segment %q is for customers without an order; it takes no scores", "prospect")
	}
}

func (s *RuleSet) checkRanks(fault func(string, ...any)) {
	for r := uint8(1); r <= 5; r++ {
		for f := uint8(1); f <= 5; f++ {
			for m := uint8(1); m <= 5; m++ {
				here := s.table[r][f][m]
				for _, lower := range [][3]uint8{{r - 1, f, m}, {r, f - 1, m}, {r, f, m - 1}} {
					if lower[0] == 0 || lower[1] == 0 || lower[2] == 0 {
						continue
					}
					if there := s.table[lower[0]][lower[1]][lower[2]]; s.ranks[there] > s.ranks[here] {
						fault("a fall from r=%d f=%d m=%d (%s) to r=%d f=%d m=%d (%s) would be an improvement",
							r, f, m, s.names[here], lower[0], lower[1], lower[2], s.names[there])
					}
				}
				if s.ranks[Lost] > s.ranks[here] {
					fault("leaving the window from %s to lost would be an improvement", s.names[here])
				}
			}
		}
	}
}

// Of is the segment of a customer with at least one counted order. Scores f and m are 0 when no order is left in the
// window.
func (s *RuleSet) Of(r, f, m uint8) Segment {
	if f == 0 {
		return Lost
	}
	return s.table[r][f][m]
}

// SegmentName is the name of a segment of this set; that of NoSegment is empty.
func (s *RuleSet) SegmentName(g Segment) string { return s.names[g] }

// Rank is the rank of a segment; NoSegment has that of prospect.
func (s *RuleSet) Rank(g Segment) int { return s.ranks[g] }

// Segments are the names of all segments, best first.
func (s *RuleSet) Segments() []string {
	order := make([]Segment, 0, len(s.names)-1)
	for g := Prospect; int(g) < len(s.names); g++ {
		order = append(order, g)
	}
	slices.SortStableFunc(order, func(a, b Segment) int { return s.ranks[b] - s.ranks[a] })
	names := make([]string, len(order))
	for i, g := range order {
		names[i] = s.names[g]
	}
	return names
}

// RFM11 is the default rule set: eleven segments of practice and prospect (semantics 5.4).
func RFM11() []SegmentRule {
	any, one, low, high := Span{}, Span{1, 1}, Span{1, 2}, Span{4, 5}
	r1, r2, r3, r4, r5 := Span{1, 1}, Span{2, 2}, Span{3, 3}, Span{4, 4}, Span{5, 5}
	two, three := Span{2, 2}, Span{3, 5}
	return []SegmentRule{
		{"champions", 9, []Cell{{high, high, high}}},
		{"loyal", 8, []Cell{{high, Span{3, 3}, any}, {high, high, Span{1, 3}}}},
		{"potential_loyalist", 7, []Cell{{high, two, any}}},
		{"new", 6, []Cell{{r5, one, any}}},
		{"promising", 5, []Cell{{r4, one, any}}},
		{"needs_attention", 4, []Cell{{r3, three, any}}},
		{"about_to_sleep", 3, []Cell{{r3, low, any}}},
		{"at_risk", 2, []Cell{{r2, three, any}, {r2, two, high}}},
		{"hibernating", 1, []Cell{{r2, one, any}, {r2, two, Span{1, 3}}}},
		{"cant_lose", 1, []Cell{{r1, high, high}}},
		{"lost", 0, []Cell{{r1, Span{1, 3}, any}, {r1, high, Span{1, 3}}}},
		{"prospect", 0, nil},
	}
}
