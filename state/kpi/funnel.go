package kpi

import (
	"maps"
	"slices"
	"time"
)

// Stay is when a customer came into a stage of the life cycle.
type Stay struct {
	Stage string
	Day   int32 // since 1970-01-01
}

// Funnel are the moves of one calendar quarter between stages of the life cycle.
type Funnel struct {
	Period string  `json:"period"` // 1997Q1
	Stages []Leave `json:"stages"` // in the order of the stages
}

// Leave is who was in a stage in a quarter, and where they went from it. Whoever was there twice, or went to the same stage twice,
// counts once.
type Leave struct {
	Stage     string `json:"stage"`
	Customers int    `json:"customers"` // in it at the beginning of the quarter, or came into it
	To        []Move `json:"to"`        // in the order of the stages
}

// Move is how many of those who were in a stage went to another one in the same quarter.
type Move struct {
	Stage string `json:"stage"`
	Rate
}

// Funnels count the moves of all customers, quarter by quarter, up to the end of a day; quarters that are not over are left out.
// The path of a customer is ascending in time and never stays where it is. Stages are in the order of the funnel.
func Funnels(paths [][]Stay, stages []string, until int32) []Funnel {
	type pair struct{ from, to string }
	in, moved := map[int]map[string]int{}, map[int]map[pair]int{}
	for _, path := range paths {
		for at := 0; at < len(path); {
			q := quarter(path[at].Day)
			at = walk(path, at, q, until, func(q int, were map[string]bool, went map[[2]string]bool) {
				if in[q] == nil {
					in[q], moved[q] = map[string]int{}, map[pair]int{}
				}
				for s := range were {
					in[q][s]++
				}
				for m := range went {
					moved[q][pair{m[0], m[1]}]++
				}
			})
		}
	}
	var list []Funnel
	for _, q := range slices.Sorted(maps.Keys(in)) {
		f := Funnel{Period: quarterName(q)}
		for _, from := range stages {
			n := in[q][from]
			if n == 0 {
				continue
			}
			l := Leave{Stage: from, Customers: n}
			for _, to := range stages {
				if k := moved[q][pair{from, to}]; k > 0 {
					l.To = append(l.To, Move{to, rate(float64(k), float64(n))})
				}
			}
			f.Stages = append(f.Stages, l)
		}
		list = append(list, f)
	}
	return list
}

// walk tells the quarters from that of path[at] up to the next one with a move, or the last that is over, and returns the first
// step after the quarter of path[at].
func walk(path []Stay, at, q int, until int32, tell func(q int, were map[string]bool, went map[[2]string]bool)) int {
	were, went := map[string]bool{}, map[[2]string]bool{}
	if at > 0 {
		were[path[at-1].Stage] = true
	}
	next := at
	for ; next < len(path) && quarter(path[next].Day) == q; next++ {
		were[path[next].Stage] = true
		if next > 0 {
			went[[2]string{path[next-1].Stage, path[next].Stage}] = true
		}
	}
	if over(quarter, q, until) {
		tell(q, were, went)
	}
	last := quarter(until)
	if next < len(path) {
		last = quarter(path[next].Day) - 1
	}
	for k := q + 1; k <= last; k++ { // nothing happens
		if over(quarter, k, until) {
			tell(k, map[string]bool{path[next-1].Stage: true}, nil)
		}
	}
	return next
}

func quarterName(q int) string {
	return time.Date(q/4, 1, 1, 0, 0, 0, 0, time.UTC).Format("2006") + "Q" + string(rune('1'+q%4))
}
