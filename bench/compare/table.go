package main

import (
	"fmt"
	"io"
	"slices"
)

// print writes a table in Markdown: medians, and from which to which where there are several.
func (o *options) print(w io.Writer, results map[string][]result) {
	fmt.Fprintf(w, "%d records, %d customers to draw from, %d runs of each; medians (range)\n\n", o.events, o.customers, o.rounds)
	fmt.Fprintln(w, "| | CPU us/record, second half | against asiduo | CPU us/record, whole run | records/s, second half | peak MiB | disk B/customer | changelog B/customer | outputs | answers |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|")
	ours := spreadOf(results["asiduo"], func(r result) float64 { return r.half }).median
	var customers int64
	for _, all := range results {
		for _, r := range all {
			customers = max(customers, r.customers)
		}
	}
	each := func(n int64) float64 { return float64(n) / float64(max(customers, 1)) }
	for _, p := range peers {
		all := results[p.name]
		if len(all) == 0 {
			continue
		}
		of := func(f func(result) float64) spread { return spreadOf(all, f) }
		half := of(func(r result) float64 { return r.half })
		against := "-"
		if ours > 0 {
			against = fmt.Sprintf("%.2f", half.median/ours)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s | %d | %s |\n", p.name, half.text(1), against,
			of(func(r result) float64 { return r.whole }).text(1), of(func(r result) float64 { return r.rate }).text(0),
			of(func(r result) float64 { return r.peak }).text(0), of(func(r result) float64 { return each(r.disk) }).text(0),
			of(func(r result) float64 { return each(r.changelog) }).text(0), all[0].outputs, all[0].check)
	}
}

// spread is what several runs have in common.
type spread struct {
	median, least, most float64
	runs                int
}

func spreadOf(all []result, f func(result) float64) spread {
	if len(all) == 0 {
		return spread{}
	}
	v := make([]float64, len(all))
	for i, r := range all {
		v[i] = f(r)
	}
	slices.Sort(v)
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1], n}
}

func (s spread) text(digits int) string {
	if s.runs == 1 {
		return fmt.Sprintf("%.*f", digits, s.median)
	}
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, s.median, digits, s.least, digits, s.most)
}
