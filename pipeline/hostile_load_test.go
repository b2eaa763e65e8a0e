package pipeline

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state"
)

// allocated is how many bytes a function takes from the heap, freed or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// steady holds that rounds of the same work cost the same, however many there were: the later ones take about the CPU time of the
// earlier, the last allocates about what the first does, and no more of all of them stays on the heap than is said.
type steady struct {
	heap, work []uint64 // after a round, and of it
	time       []time.Duration
}

func (r *steady) round(f func()) {
	before := spent()
	r.work = append(r.work, allocated(f))
	r.time = append(r.time, spent()-before)
	runtime.GC()
	runtime.GC() // once more, for pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.heap = append(r.heap, m.HeapAlloc)
}

func (r *steady) check(t *testing.T, what string, stays uint64) {
	t.Helper()
	last, half := len(r.work)-1, len(r.work)/2
	if r.work[last] > 4*r.work[0] {
		t.Errorf("%s: a round takes %d bytes at first, %d at last", what, r.work[0], r.work[last])
	}
	if r.heap[last] > r.heap[0]+stays {
		t.Errorf("%s: the heap has %d bytes after the first round, %d after the last", what, r.heap[0], r.heap[last])
	}
	if first, later := slices.Min(r.time[:half]), slices.Min(r.time[half:]); later > 3*first {
		t.Errorf("%s: a round takes %v of CPU time at first, %v later", what, first, later)
	}
}

// TestMillionOrders floods one customer with orders, and with visits of ever new ids. Beyond the limit each order is a
// dead letter with the limit's name, the customer is marked, and the state is as large as before.
func TestMillionOrders(t *testing.T) {
	s := newShop(t)
	who, n := s.who[0], many(5_000, 1_000_000)
	limit := s.cfg.Limits.OrdersPerCustomer
	s.start()
	s.buy("first")
	size := func() int {
		c, i := s.customer(who)
		return len(c.AppendTo(nil)) + len(i.AppendTo(nil))
	}
	refused := 0
	letters := func() {
		for at, why := range s.letters() {
			if why != string(state.TooManyOrders) {
				t.Fatalf("%s: %s", at, why)
			}
			refused++
		}
	}
	forget := func() { // the brokers of this test keep everything in memory
		ends, err := s.adm.ListEndOffsets(t.Context(), "purchases", "interactions", "shop.dead-letters", "shop.changelog")
		if err != nil {
			t.Fatal(err)
		}
		ends.Each(func(o kadm.ListedOffset) { s.cut(o.Topic, o.Partition, o.Offset) })
	}
	full, cost := 0, steady{}
	const share = 625 // more than the limit
	for at := 0; at < n; at += share {
		var rs []*kgo.Record
		for i := range share {
			for topic, value := range map[string]string{
				"purchases":    order(who, fmt.Sprintf("o%d", at+i)),
				"interactions": fmt.Sprintf(`{"id":"%d","customer_id":%q,"type":"t%d","at":"2024-05-01T09:00:00Z"}`, at+i, who, at+i),
			} {
				rs = append(rs, &kgo.Record{Topic: topic, Key: []byte(who), Value: []byte(value), Timestamp: time.UnixMilli(draftedAt)})
			}
		}
		step := func() {
			s.flood([]kgo.Opt{kgo.ProducerBatchMaxBytes(1 << 20)}, rs...)
			s.read(0, 1)
		}
		if at == 0 {
			step()
			full = size()
			continue
		}
		cost.round(step)
		letters()
		forget()
	}
	cost.check(t, "orders", uint64(many(2<<20, 16<<20))) // the disk is in memory too, and has 4 MiB of a log before it is begun anew
	s.buy("last")
	s.read(0, 1)
	s.unharmed(map[string]int{who: limit, s.who[1]: 2})
	if now := size(); now > full+8 || now > 40*limit {
		t.Errorf("the customer takes %d bytes, %d at first", now, full)
	}
	if c, _ := s.customer(who); !c.Truncated {
		t.Error("the customer is not marked as truncated")
	}
	if letters(); refused != n+2-limit {
		t.Errorf("%d dead letters, want %d", refused, n+2-limit)
	}
}

// TestFullCustomer takes records to a customer at its limits: the next one costs what the last one cost, be there a
// thousand before it or a million.
func TestFullCustomer(t *testing.T) {
	s := newScorer(t, fuzzConfig())
	take := func(from role, value string) reason {
		r := oracle.Record{Topic: "p", Timestamp: draftedAt, Key: []byte(canary), Value: []byte(value)}
		if from == interactions {
			r.Topic = "i"
		}
		return s.take(t, r)
	}
	refund := func(id int) string {
		return fmt.Sprintf(`{"type":"refund","order_id":"o%d","refund_id":"%d","customer_id":%q,"refunded_at":"2024-05-01T09:30:00Z","amount":"1","currency":"EUR"}`, id, id, canary)
	}
	for i := range 512 {
		if why := take(purchases, order(canary, fmt.Sprintf("o%d", i))) + take(purchases, refund(i)); why != "" {
			t.Fatal(why)
		}
	}
	c := s.customers[canary]
	size, i := len(c.AppendTo(nil)), 512
	step := func() {
		i++
		if why := take(purchases, order(canary, fmt.Sprintf("o%d", i))); why != reason(state.TooManyOrders) {
			t.Fatalf("order %d: %q", i, why)
		}
		if why := take(purchases, refund(i)); why != reason(state.TooManyRefund) {
			t.Fatalf("refund %d: %q", i, why)
		}
	}
	first, cost := allocated(step), steady{}
	for range 20 {
		cost.round(func() {
			for range many(500, 50_000) {
				step()
			}
		})
	}
	cost.check(t, "records of a full customer", 16<<20)
	if last := allocated(step); last > 2*first+4096 || last > 256<<10 {
		t.Errorf("record %d takes %d bytes, the first one too many took %d", i, last, first)
	}
	if now := len(c.AppendTo(nil)); now != size {
		t.Errorf("%d bytes, %d before", now, size)
	}
}

// TestManyInteractions sends interactions of ever new ids of one customer through the pipeline: what is kept of them has the size
// of the first, the last take the work of the first, and a neighbour is served.
func TestManyInteractions(t *testing.T) {
	s := newShop(t)
	s.cfg.Cycle.Records = 20_000
	s.start()
	who, share, size := s.who[0], many(5_000, 100_000), 0
	var cost steady
	for at := 0; at < many(50_000, 10_000_000); at += share {
		rs := make([]*kgo.Record, share)
		for i := range rs {
			value := fmt.Appendf(nil, `{"id":"%d","customer_id":%q,"type":"visit-%d","at":"2024-05-01T09:00:00.%03dZ"}`, at+i, who, at+i, i%1000)
			rs[i] = &kgo.Record{Topic: "interactions", Key: []byte(who), Value: value, Timestamp: time.UnixMilli(draftedAt)}
		}
		cost.round(func() {
			s.flood([]kgo.Opt{kgo.MaxBufferedRecords(len(rs)), kgo.ProducerBatchMaxBytes(1 << 20)}, rs...)
			s.read(0)
		})
		_, n := s.customer(who)
		if b := len(n.AppendTo(nil)); size == 0 {
			size = b
		} else if b > size+4 {
			t.Fatalf("%d bytes after %d interactions, %d before", b, at+share, size)
		}
		s.cut("interactions", 0, rs[len(rs)-1].Offset+1) // the brokers of this test keep everything in memory
	}
	cost.check(t, "interactions", 16<<20)
	s.buy("o1")
	s.read(0, 1)
	s.unharmed(map[string]int{s.who[0]: 1, s.who[1]: 1})
}
