package main

import (
	"math"
	"testing"
	"time"
)

// TestAccount holds what a run is said to have cost against samples whose sums are plain.
func TestAccount(t *testing.T) {
	second := func(n int, cpu float64, done, outputs int64) sample {
		return sample{at: time.Duration(n) * time.Second, cpu: cpu, done: done, outputs: outputs}
	}
	var r result
	r.account([]sample{second(1, 2, 0, 0), second(2, 3, 400, 10), second(3, 3.5, 600, 20), second(5, 4, 1000, 30), second(6, 4.1, 1000, 40)}, 1000)
	near := func(got, want float64) bool { return math.Abs(got-want) < 1e-6*want }
	if !near(r.whole, 4100) || !near(r.rate, 400./3) || !near(r.half, 1500) { // (4.1 - 3.5) s for 400 records
		t.Errorf("%+v", r)
	}
	r.account([]sample{second(1, 2, 0, 0), second(2, 3, 1000, 10)}, 1000) // no second half was seen
	if !near(r.half, 3000) || !near(r.whole, 3000) || !near(r.rate, 500) {
		t.Errorf("%+v", r)
	}
	if s := spreadOf([]result{{half: 3}, {half: 1}, {half: 2}, {half: 10}}, func(r result) float64 { return r.half }); s.text(1) != "2.5 (1.0 to 10.0)" {
		t.Error(s.text(1))
	}
	if n, err := number("check=same outputs=12 customers=3", "outputs"); n != 12 || err != nil {
		t.Error(n, err)
	}
}
