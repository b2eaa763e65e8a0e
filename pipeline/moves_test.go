package pipeline

import "testing"

// TestRecencyOf: the days are the percentiles of the gaps, a week at least, and ascend.
func TestRecencyOf(t *testing.T) {
	var even []Gap
	for d := 1; d <= 100; d++ {
		even = append(even, Gap{d, 3})
	}
	for _, c := range []struct {
		gaps []Gap
		want [4]int
		ok   bool
	}{
		{even, [4]int{50, 80, 90, 97}, true},
		{[]Gap{{30, 99}}, [4]int{}, false},
		{[]Gap{{30, 100}}, [4]int{30, 31, 32, 33}, true},
		{[]Gap{{1, 60}, {3, 30}, {14, 8}, {400, 2}}, [4]int{7, 8, 9, 14}, true},
	} {
		if got, ok := RecencyOf(c.gaps); got != c.want || ok != c.ok {
			t.Errorf("%v: %v, %v; want %v", c.gaps, got, ok, c.want)
		}
	}
}
