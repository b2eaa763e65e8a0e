package population

import (
	"cmp"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A bucket holds exactly the amounts that its definition says, in integers of any size.
func TestBuckets(t *testing.T) {
	power := func(i int64) *big.Rat { // 1.02^i
		return new(big.Rat).SetFrac(new(big.Int).Exp(big.NewInt(102), big.NewInt(i), nil), new(big.Int).Exp(big.NewInt(100), big.NewInt(i), nil))
	}
	check := func(v int64) {
		t.Helper()
		b := int64(BucketOf(v))
		amount := new(big.Rat).SetInt64(v)
		if amount.Cmp(power(b)) > 0 || (b > 0 && amount.Cmp(power(b-1)) <= 0) {
			t.Errorf("%d is in bucket %d", v, b)
		}
		if edge := Bucket(b).Edge(); edge < v || float64(edge) > 1.0201*float64(v)+1 {
			t.Errorf("the edge above %d is %d", v, edge)
		}
	}
	for v := int64(1); v < 300; v++ {
		check(v)
	}
	for i := Bucket(0); int(i) < len(edges)-1; i += 37 {
		check(edges[i])
		check(edges[i] + 1)
	}
	check(math.MaxInt64)
	if BucketOf(math.MaxInt64) != Bucket(len(edges)-1) {
		t.Error("the greatest amount is not in the last bucket")
	}
}

// Around every edge, and around every amount with few bits, the bucket is the one that a search among all edges finds.
func TestBucketOfAsSearch(t *testing.T) {
	amounts := slices.Clone(edges)
	for length := range 63 {
		for bits := range int64(1 << 7) {
			amounts = append(amounts, bits<<length>>7|1<<length)
		}
	}
	for _, amount := range amounts {
		for _, v := range []int64{amount - 1, amount, amount + 1} {
			if v < 1 {
				continue // overflown, or no amount
			}
			want, _ := slices.BinarySearch(edges, v)
			if is := BucketOf(v); is != Bucket(want) {
				t.Fatalf("%d is in bucket %d and should be in %d", v, is, want)
			}
		}
	}
}

// drawn is a population as its customers' amounts.
type drawn struct {
	revenue int64
	orders  []int64
}

func (d drawn) member() Member {
	m := Member{None}
	if len(d.orders) > 0 {
		m[0] = BucketOf(d.revenue)
	}
	for _, o := range d.orders {
		m = append(m, BucketOf(o))
	}
	return m
}

func drawCustomer(r *rand.Rand) (d drawn) {
	for range r.IntN(5) {
		o := int64(math.Exp(r.NormFloat64()*1.2+8)) + 1
		d.orders = append(d.orders, o)
		d.revenue += o
	}
	return d
}

// Whatever comes, changes and goes, in whatever order and however it is spread over shards, the counts are those of a
// recount, and cuts are those of sorting, to the bucket.
func TestAsSorting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		shards := make([]Population, 1+r.IntN(8))
		customers := make([]drawn, []int{0, 20, 60, 400, 700, 2_000}[r.IntN(6)])
		for round := range 3 {
			for i := range customers {
				if round > 0 && r.IntN(3) > 0 {
					continue
				}
				p := &shards[i%len(shards)]
				p.Add(customers[i].member(), -1)
				customers[i] = drawCustomer(r)
				p.Add(customers[i].member(), 1)
			}
		}
		var merged, counted Population
		for _, i := range r.Perm(len(shards)) {
			merged.Merge(again(t, &shards[i]))
		}
		var revenues, nets []int64
		for _, i := range r.Perm(len(customers)) {
			counted.Add(customers[i].member(), 1)
			if len(customers[i].orders) > 0 {
				revenues = append(revenues, customers[i].revenue)
			}
			nets = append(nets, customers[i].orders...)
		}
		if !slices.Equal(text(t, &merged), text(t, &counted)) {
			t.Fatalf("merged\n%s\nrecounted\n%s", text(t, &merged), text(t, &counted))
		}
		slices.Sort(revenues)
		slices.Sort(nets)
		got, ok := merged.Cuts()
		switch {
		case len(revenues) >= 500:
			for k := range 4 {
				exact := revenues[((k+1)*len(revenues)+4)/5-1]
				if want := BucketOf(exact).Edge() + 1; !ok || got[k] != want || got[k] <= exact || float64(got[k]) > 1.0201*float64(exact)+2 {
					t.Fatalf("cut %d is %d, want %d, sorting gives %d", k, got[k], want, exact)
				}
			}
		case len(nets) >= 100:
			m := BucketOf(nets[(len(nets)+1)/2-1]).Edge()
			if want := (Cuts{(m + 1) / 2, m, 2 * m, 4 * m}); !ok || got != want {
				t.Fatalf("cuts %v, want %v", got, want)
			}
		default:
			if ok {
				t.Fatalf("cuts %v of %d orders", got, len(nets))
			}
		}
	})
}

func text(t rapid.TB, p *Population) []byte {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// again is the population as read back from its text.
func again(t rapid.TB, p *Population) *Population {
	t.Helper()
	q := new(Population)
	if err := json.Unmarshal(text(t, p), q); err != nil {
		t.Fatal(err)
	}
	return q
}

func TestMoved(t *testing.T) {
	was := Cuts{100, 200, 400, 800}
	for _, test := range []struct {
		is   Cuts
		want bool
	}{
		{was, false}, {Cuts{105, 210, 420, 840}, false}, {Cuts{95, 190, 380, 760}, false},
		{Cuts{106, 200, 400, 800}, true}, {Cuts{100, 200, 400, 759}, true}, {Cuts{100, 200, 421, 800}, true},
	} {
		if got := test.is.Moved(was); got != test.want {
			t.Errorf("%v from %v: moved is %v", test.is, was, got)
		}
	}
}

func TestTextThatIsNone(t *testing.T) {
	for _, s := range []string{"?", "AA", "AAA", "//8B", "AP///////////wE", "gICAgICAgICAAQE", "AP////////////8B"} {
		var h Histogram
		if err := h.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is read as %v", s, h.counts)
		}
	}
	var d Histogram
	d.add(3, -1)
	if _, err := d.MarshalText(); err == nil {
		t.Error("a difference has a text")
	}
}

// What a shard of a million customers publishes stays a small record. It could be a third smaller, with runs of empty buckets instead of a number
// before each count, but the former release ends on a text that it cannot read, and has to work beside this one.
func TestSize(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var p Population
	for range 1_000_000 {
		p.Add(drawCustomer(r).member(), 1)
	}
	if n := len(text(t, &p)); n > 4<<10 {
		t.Errorf("%d bytes", n)
	} else {
		t.Logf("%d bytes, %d buyers, cuts %v", n, p.Buyers.Total(), first(p.Cuts()))
	}
}

func first[T any](v T, _ bool) T { return v }

func BenchmarkBucketOf(b *testing.B) {
	for i := range b.N {
		if BucketOf(int64(cmp.Or(i*7919, 1))) < 0 {
			b.Fatal()
		}
	}
}
