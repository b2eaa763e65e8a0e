package measure

import (
	"math"
	"testing"
	"time"
)

// TestAccount holds what a run is said to have cost against samples whose sums are plain.
func TestAccount(t *testing.T) {
	second := func(n int, cpu float64, done, outputs int64) Sample {
		return Sample{At: time.Duration(n) * time.Second, CPU: cpu, Done: done, Outputs: outputs}
	}
	near := func(got, want float64) bool { return math.Abs(got-want) < 1e-6*want }
	whole, half, rate := Account([]Sample{second(1, 2, 0, 0), second(2, 3, 400, 10), second(3, 3.5, 600, 20), second(5, 4, 1000, 30), second(6, 4.1, 1000, 40)}, 1000)
	if !near(whole, 4100) || !near(rate, 400./3) || !near(half, 1500) { // (4.1 - 3.5) s for 400 records
		t.Error(whole, half, rate)
	}
	whole, half, rate = Account([]Sample{second(1, 2, 0, 0), second(2, 3, 1000, 10)}, 1000) // no second half was seen
	if !near(half, 3000) || !near(whole, 3000) || !near(rate, 500) {
		t.Error(whole, half, rate)
	}
}
