// Package population counts what the customers of an application spend, so that cuts of money can be made from all of
// them without looking at all of them. Counts are signed: what has changed or gone is taken out exactly, and shards
// add up to the whole in any order. It is pure and knows integers only.
package population

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"math/bits"
)

// Bucket is the number of a bucket: bucket i holds the amounts v with 1.02^(i-1) < v <= 1.02^i, so that i = ceil(ln v / ln 1.02)
// (semantics 9.1).
type Bucket int16

// None is the bucket of a customer who counts for nothing.
const None Bucket = -1

// edges are floor(1.02^i), the greatest amount of each bucket. They are made without floats of the machine, so that
// every one has the same.
var edges = func() (list []int64) {
	step := new(big.Float).SetPrec(256).Quo(big.NewFloat(102).SetPrec(256), big.NewFloat(100))
	for power := new(big.Float).SetPrec(256).SetInt64(1); ; power.Mul(power, step) {
		edge, exact := power.Int64()
		if edge == math.MaxInt64 && exact != big.Exact {
			return append(list, math.MaxInt64)
		}
		list = append(list, edge)
	}
}()

// firsts are the buckets of the least amounts of each slot. A slot is the amounts of one length that begin with the same bits, the first
// one and as many as slotBits: so few buckets that the right one is a step or two from the first.
var firsts = func() (list [63 << slotBits]Bucket) {
	b := Bucket(0)
	for slot := range list {
		length := slot >> slotBits // but for the first bit
		least := uint64(1<<slotBits|slot&(1<<slotBits-1)) << (63 - slotBits) >> (63 - length)
		for edges[b] < int64(least) {
			b++
		}
		list[slot] = b
	}
	return list
}()

const slotBits = 5

// BucketOf is the bucket of an amount of at least 1.
func BucketOf(v int64) Bucket {
	zeros := bits.LeadingZeros64(uint64(v))
	b := firsts[(63-zeros)<<slotBits|int(uint64(v)<<(zeros+1)>>(64-slotBits))]
	for edges[b] < v {
		b++
	}
	return b
}

// Edge is the greatest amount of a bucket.
func (b Bucket) Edge() int64 { return edges[b] }

// Histogram counts amounts by bucket. The zero value is empty. Counts may be negative while it is a difference.
type Histogram struct {
	counts []int64
	total  int64
}

func (h *Histogram) add(b Bucket, n int64) {
	if int(b) >= len(h.counts) {
		h.counts = append(h.counts, make([]int64, int(b)+1-len(h.counts))...)
	}
	h.counts[b] += n
	h.total += n
}

// Total is the number of amounts.
func (h *Histogram) Total() int64 { return h.total }

// Merge adds the counts of another histogram.
func (h *Histogram) Merge(o *Histogram) {
	for b, n := range o.counts {
		if n != 0 {
			h.add(Bucket(b), n)
		}
	}
}

// Equal says whether two histograms count the same.
func (h *Histogram) Equal(o *Histogram) bool {
	for b := range max(len(h.counts), len(o.counts)) {
		if h.at(b) != o.at(b) {
			return false
		}
	}
	return true
}

func (h *Histogram) at(b int) int64 {
	if b < len(h.counts) {
		return h.counts[b]
	}
	return 0
}

// Quantile is the edge of the first bucket with at least the k-th of n parts of all amounts at or below it; 0 if there
// are no amounts.
func (h *Histogram) Quantile(k, n int64) int64 {
	if h.total <= 0 {
		return 0
	}
	want, sum := (k*h.total+n-1)/n, int64(0)
	for b, count := range h.counts {
		if sum += count; sum >= want {
			return edges[b]
		}
	}
	return 0
}

// ErrHistogram is returned for text that is no histogram.
var ErrHistogram = errors.New("not a histogram")

// MarshalText is base64 of pairs of unsigned varints: how many empty buckets are passed over, and the next one's count.
// A histogram with a negative count is a difference and has no text.
func (h Histogram) MarshalText() ([]byte, error) {
	var b []byte
	passed := uint64(0)
	for _, n := range h.counts {
		if n < 0 {
			return nil, ErrHistogram
		}
		if n == 0 {
			passed++
			continue
		}
		b = binary.AppendUvarint(binary.AppendUvarint(b, passed), uint64(n))
		passed = 0
	}
	return base64.RawStdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads what MarshalText writes.
func (h *Histogram) UnmarshalText(text []byte) error {
	b, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return ErrHistogram
	}
	*h = Histogram{}
	for at := uint64(0); len(b) > 0; at++ {
		passed, n := binary.Uvarint(b)
		if n <= 0 {
			return ErrHistogram
		}
		count, m := binary.Uvarint(b[n:])
		if at += passed; m <= 0 || passed >= uint64(len(edges)) || at >= uint64(len(edges)) || count == 0 || count > math.MaxInt64 || h.total+int64(count) < 0 {
			return ErrHistogram
		}
		h.add(Bucket(at), int64(count))
		b = b[n+m:]
	}
	return nil
}

// Member is what one customer counts as: the bucket of the revenue in the window, None without a counted order in it,
// and then the bucket of each of these orders.
type Member []Bucket

// Population is what the customers of one shard, or of all, count as.
type Population struct {
	Buyers Histogram `json:"buyers"` // revenue in the window of those with an order in it, as of each one's last evaluation
	Orders Histogram `json:"orders"` // net of counted orders in the window
}

// Add counts a member n times; -1 takes it out.
func (p *Population) Add(m Member, n int64) {
	if len(m) == 0 || m[0] == None {
		return
	}
	p.Buyers.add(m[0], n)
	for _, b := range m[1:] {
		p.Orders.add(b, n)
	}
}

// Merge adds another population.
func (p *Population) Merge(o *Population) {
	p.Buyers.Merge(&o.Buyers)
	p.Orders.Merge(&o.Orders)
}

// Equal says whether two populations count the same.
func (p *Population) Equal(o *Population) bool {
	return p.Buyers.Equal(&o.Buyers) && p.Orders.Equal(&o.Orders)
}

// Cuts are the four amounts from which M is 2, 3, 4, 5.
type Cuts [4]int64

// How many orders and buyers a population needs.
const (
	EnoughOrders = 100 // for cuts around the median order
	EnoughBuyers = 500 // for quintiles
)

// Quintiles reports whether the population is large enough for cuts from the customers themselves.
func (p *Population) Quintiles() bool { return p.Buyers.Total() >= EnoughBuyers }

// Cuts are those that the population gives: quintiles of the buyers' revenue or, for few buyers, half, once, twice and
// four times the median order; false for fewer than EnoughOrders orders (semantics 9.1).
func (p *Population) Cuts() (c Cuts, ok bool) {
	switch {
	case p.Quintiles():
		for k := range c {
			c[k] = p.Buyers.Quantile(int64(k+1), 5) + 1
		}
	case p.Orders.Total() >= EnoughOrders:
		m := p.Orders.Quantile(1, 2)
		c = Cuts{max((m+1)/2, 1), m, 2 * m, 4 * m}
	default:
		return c, false
	}
	return c, true
}

// Moved says whether one of the cuts is more than 5 % away from what it was.
func (c Cuts) Moved(was Cuts) bool {
	for k := range c {
		// The greatest cut that can be is 4 times the greatest amount, which float64 holds to a millionth of what matters here.
		if math.Abs(float64(c[k])-float64(was[k])) > 0.05*float64(was[k]) {
			return true
		}
	}
	return false
}
