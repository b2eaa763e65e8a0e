package state

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/state/population"
)

// A customer counts with the M of the last evaluation, over whatever history, and changes of the parameters too.
func TestMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParameters(t)
		c, _ := play(p, drawFacts(t, p, 16), always)
		if c.Evaluated && rapid.Bool().Draw(t, "adopt") {
			a := drawAdoption(t, p, c.EvaluatedAt)
			c.Adopt(a, always, nil)
			p = a.Is
		}
		got := c.Member(nil)
		if !c.Evaluated {
			if !slices.Equal(got, population.Member{population.None}) {
				t.Fatalf("an unknown customer counts as %v", got)
			}
			return
		}
		want, net, orders := population.Member{population.None}, Money(0), 0
		for _, o := range c.Orders {
			if n := c.Net(&o); n > 0 && o.OrderedAt+p.Window >= c.EvaluatedAt {
				net, orders = net+n, orders+1
				want = append(want, population.BucketOf(int64(n)))
			}
		}
		if orders > 0 {
			want[0] = population.BucketOf(int64(net))
		}
		_, figures, _ := scoresAt(c, p)
		if !slices.Equal(got, want) || figures.Net != net || figures.Orders != orders || (c.F > 0) != (got[0] != population.None) {
			t.Fatalf("counts as %v, want %v; figures %+v, standing %+v", got, want, figures, c.Standing)
		}
	})
}
