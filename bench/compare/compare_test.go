package main

import "testing"

// TestTable holds what several runs have in common, and what helpers say, against plain numbers.
func TestTable(t *testing.T) {
	if s := spreadOf([]result{{half: 3}, {half: 1}, {half: 2}, {half: 10}}, func(r result) float64 { return r.half }); s.text(1) != "2.5 (1.0 to 10.0)" {
		t.Error(s.text(1))
	}
	if n, err := number("check=same outputs=12 customers=3", "outputs"); n != 12 || err != nil {
		t.Error(n, err)
	}
}
