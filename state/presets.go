package state

import "fmt"

// Presets are the names of the rule sets that need no definition.
func Presets() []string { return []string{"rfm11", "rfm125", "rf10", "klaviyo6"} }

// Preset is the definition of a rule set by its name; false if there is none of that name.
func Preset(name string) ([]SegmentRule, bool) {
	switch name {
	case "rfm11":
		return RFM11(), true
	case "rfm125":
		return RFM125(), true
	case "rf10":
		return RF10(), true
	case "klaviyo6":
		return Klaviyo6(), true
	}
	return nil, false
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

// RFM125 is the list of all 125 combinations of scores that is passed around as "the" RFM segmentation. Some of its
// falls are sideways moves by its own names (521 to 421 leads from promising to new), so groups of segments that can
// fall into each other have one rank: with more ranks silence would improve a segment.
func RFM125() []SegmentRule {
	return []SegmentRule{
		{"champions", 3, cells("555 554 544 545 454 455 445")},
		{"loyal", 2, cells("543 444 435 355 354 345 344 335")},
		{"potential_loyalist", 2, cells("553 551 552 541 542 533 532 531 452 451 442 441 431 453 433 432 423 353 352 351 342 341 333 323")},
		{"promising", 2, cells("525 524 523 522 521 515 514 513 425 424 413 414 415 315 314 313")},
		{"needs_attention", 2, cells("535 534 443 434 343 334 325 324")},
		{"new", 1, cells("512 511 422 421 412 411 311")},
		{"about_to_sleep", 1, cells("331 321 312 221 213 231 241 251")},
		{"at_risk", 1, cells("255 254 245 244 253 252 243 242 235 234 225 224 153 152 145 143 142 135 134 133 125 124")},
		{"cant_lose", 1, cells("155 154 144 214 215 115 114 113")},
		{"hibernating", 1, cells("332 322 233 232 223 222 132 123 122 212 211")},
		{"lost", 0, cells("111 112 121 131 141 151")},
		{"prospect", 0, nil},
	}
}

// RF10 is the grid of ten segments over recency and frequency that public notebooks share; it does not look at money.
func RF10() []SegmentRule {
	return []SegmentRule{
		{"champions", 7, []Cell{{R: Span{5, 5}, F: Span{4, 5}}}},
		{"loyal", 6, []Cell{{R: Span{3, 4}, F: Span{4, 5}}}},
		{"potential_loyalist", 5, []Cell{{R: Span{4, 5}, F: Span{2, 3}}}},
		{"new", 4, []Cell{{R: Span{5, 5}, F: Span{1, 1}}}},
		{"promising", 3, []Cell{{R: Span{4, 4}, F: Span{1, 1}}}},
		{"needs_attention", 3, []Cell{{R: Span{3, 3}, F: Span{3, 3}}}},
		{"about_to_sleep", 2, []Cell{{R: Span{3, 3}, F: Span{1, 2}}}},
		{"cant_lose", 1, []Cell{{R: Span{1, 2}, F: Span{5, 5}}}},
		{"at_risk", 1, []Cell{{R: Span{1, 2}, F: Span{3, 4}}}},
		{"hibernating", 0, []Cell{{R: Span{1, 2}, F: Span{1, 2}}}},
		{"lost", 0, nil},
		{"prospect", 0, nil},
	}
}

// Klaviyo6 are the six groups of Klaviyo, whose scores go from 1 to 3. Of our five levels of recency and frequency the
// upper three are its 3; of money the upper two are its 3 and the lower two its 1, as near to thirds as fifths come. With
// the default recency and frequency cuts the levels are Klaviyo's own: 180 and 365 days; 1, 2, 3 and more orders. Groups
// that can fall into each other have one rank.
func Klaviyo6() []SegmentRule {
	return []SegmentRule{
		{"champions", 4, thirds("333 332 323")},
		{"loyal", 3, thirds("321 322 331 232 233")},
		{"recent", 2, thirds("312 313 311 222 223")},
		{"needs_attention", 1, thirds("213 221 123 132 133")},
		{"at_risk", 1, thirds("231 212 122 131 211")},
		{"inactive", 0, thirds("111 112 113 121")},
		{"lost", 0, nil},
		{"prospect", 0, nil},
	}
}

// cells are combinations of scores such as 543.
func cells(list string) (all []Cell) {
	var r, f, m uint8
	for ; len(list) >= 3; list = list[min(4, len(list)):] {
		r, f, m = list[0]-'0', list[1]-'0', list[2]-'0'
		all = append(all, Cell{Span{r, r}, Span{f, f}, Span{m, m}})
	}
	return all
}

// thirds are combinations of scores from 1 to 3.
func thirds(list string) []Cell {
	recent := [4]Span{1: {1, 1}, 2: {2, 2}, 3: {3, 5}}
	money := [4]Span{1: {1, 2}, 2: {3, 3}, 3: {4, 5}}
	all := cells(list)
	for i, c := range all {
		all[i] = Cell{recent[c.R.Min], recent[c.F.Min], money[c.M.Min]}
	}
	return all
}

// String is the span as 3, 4-5 or any.
func (s Span) String() string {
	switch {
	case s == Span{}:
		return "any"
	case s.Min == s.Max:
		return fmt.Sprint(s.Min)
	}
	return fmt.Sprintf("%d-%d", s.Min, s.Max)
}
