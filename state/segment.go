package state

import (
	"fmt"
	"slices"
	"strings"
)

// Segment is the code of a segment: the same name has the same code in every version of an application's rules.
// NoSegment is that of a customer who never had a counted order.
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

// SegmentCode is the code that a name has once been given, and the rank that it had last. Customers may have been in a
// segment that no rule names any more.
type SegmentCode struct {
	Name string
	Code Segment
	Rank int
}

// RuleSet maps scores to segments. Make one with NewRuleSet, which proves it.
type RuleSet struct {
	Name  string
	names [MaxSegments]string // by code, of segments of former versions too
	ranks [MaxSegments]int
	ruled [MaxSegments]bool // named by a rule
	table [6][6][6]Segment
}

// MaxSegments bounds the names an application may use over time: the segments a customer has been in are kept as one
// bit each.
const MaxSegments = 32

// NewRuleSet builds a rule set from rules that must name prospect and lost and give every combination of scores to
// exactly one segment; every segment must be reachable; and a fall of any score must never improve the segment, so
// that silence cannot. Names that have a code keep it; new ones are given the next that is free. Every fault is
// reported.
func NewRuleSet(name string, rules []SegmentRule, given ...SegmentCode) (*RuleSet, error) {
	s := &RuleSet{Name: name}
	s.names[Prospect], s.names[Lost] = "prospect", "lost"
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	s.remember(given, fault)
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

// remember takes the codes that names have been given by former versions.
func (s *RuleSet) remember(given []SegmentCode, fault func(string, ...any)) {
	for _, g := range given {
		if g.Name == "" || g.Code == NoSegment || g.Code >= MaxSegments || (s.names[g.Code] != "" && s.names[g.Code] != g.Name) ||
			(s.code(g.Name) != NoSegment && s.code(g.Name) != g.Code) {
			fault("segment %q cannot have the code %d", g.Name, g.Code)
			continue
		}
		s.names[g.Code], s.ranks[g.Code] = g.Name, g.Rank
	}
}

func (s *RuleSet) code(name string) Segment {
	return Segment(max(0, slices.Index(s.names[1:], name)+1))
}

func (s *RuleSet) add(r SegmentRule, fault func(string, ...any)) Segment {
	if r.Name == "" {
		fault("a segment without a name")
		return NoSegment
	}
	if r.Rank < 0 {
		fault("segment %q: rank %d is negative", r.Name, r.Rank)
	}
	g := s.code(r.Name)
	if g == NoSegment {
		g = s.code("")
	}
	if g == NoSegment {
		fault("no code is left for segment %q: %d names have been used, those of former versions included; use one of them again", r.Name, MaxSegments-1)
		return NoSegment
	}
	s.names[g], s.ranks[g], s.ruled[g] = r.Name, r.Rank, true
	return g
}

func (s *RuleSet) fill(rules []SegmentRule, codes []Segment, fault func(string, ...any)) {
	var reached [MaxSegments]bool
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
	for g := Lost + 1; g < MaxSegments; g++ {
		if s.ruled[g] && !reached[g] {
			fault("segment %q can never be reached", s.names[g])
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

// SegmentName is the name of a segment of this set or of a former version of it; that of NoSegment is empty.
func (s *RuleSet) SegmentName(g Segment) string { return s.names[g] }

// Rank is the rank of a segment; NoSegment has that of prospect.
func (s *RuleSet) Rank(g Segment) int { return s.ranks[max(g, Prospect)] }

// Codes are the codes of all names ever used, by code.
func (s *RuleSet) Codes() (given []SegmentCode) {
	for g := Prospect; g < MaxSegments; g++ {
		if s.names[g] != "" {
			given = append(given, SegmentCode{s.names[g], g, s.ranks[g]})
		}
	}
	return given
}

// Segments are the names of the segments that the rules name, best first.
func (s *RuleSet) Segments() []string {
	var order []Segment
	for g := Prospect; g < MaxSegments; g++ {
		if s.ruled[g] {
			order = append(order, g)
		}
	}
	slices.SortStableFunc(order, func(a, b Segment) int { return s.ranks[b] - s.ranks[a] })
	names := make([]string, len(order))
	for i, g := range order {
		names[i] = s.names[g]
	}
	return names
}
