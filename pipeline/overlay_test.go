package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/population"
	"github.com/asiduo/asiduo/state/store"
)

// TestOverlayOfAMap has cycles read and change customers in any order, with caches too small for them: what is read is what was kept
// last, as in a plain map, and what the customers count as adds up.
func TestOverlayOfAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := pebble.NewCache(1 << 20)
		defer blocks.Unref()
		db, err := store.Open("shard-0", store.Options{FS: vfs.NewMem(), Cache: blocks, Memtable: 1 << 18})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := db.Close(false); err != nil {
				t.Fatal(err)
			}
		}()
		limit := rapid.IntRange(0, 4000).Draw(t, "limit")
		cache := newHotCache(int64(limit))
		o, err := newOverlay(db, cache)
		if err != nil {
			t.Fatal(err)
		}
		orders, visits := map[string]int{}, map[string]state.Instant{}
		var committed struct {
			orders map[string]int
			visits map[string]state.Instant
		}
		committed.orders, committed.visits = maps.Clone(orders), maps.Clone(visits)
		people := people{}
		who := rapid.Map(rapid.IntRange(0, 15), func(n int) string { return fmt.Sprintf("customer-%d", n) })
		var c state.Customer
		var n state.Interactions
		buy := func(e *entry) {
			c.Evaluated, c.EvaluatedAt = true, state.Instant(len(c.Orders)+1)
			c.Orders = append(c.Orders, state.Order{ID: uint64(len(c.Orders)), OrderedAt: 1, UpdatedAt: 1, Amount: 100})
			o.keep(e, &c)
			orders[e.id]++
		}
		found := func(e *entry, err error) {
			if err != nil || len(c.Orders) != orders[e.id] {
				t.Fatalf("%s has %d orders, want %d; %v", e.id, len(c.Orders), orders[e.id], err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"record": func(t *rapid.T) {
				e, err := o.customer(who.Draw(t, "who"), &c)
				found(e, err)
				buy(e)
			},
			"read ahead": func(t *rapid.T) {
				var rs []*kgo.Record
				for _, id := range rapid.SliceOfN(who, 0, 8).Draw(t, "whom") {
					rs = append(rs, &kgo.Record{Key: []byte(id)})
				}
				if err := o.readAhead(rs, rapid.IntRange(-1, 2000).Draw(t, "most")); err != nil {
					t.Fatal(err)
				}
			},
			"look": func(t *rapid.T) {
				e, err := o.customer(who.Draw(t, "who"), &c)
				found(e, err)
			},
			"sweep": func(t *rapid.T) {
				id := who.Draw(t, "who")
				b, known, err := db.Get(store.CustomerKey(nil, id), nil)
				if err != nil {
					t.Fatal(err)
				}
				if !known || o.has(id) {
					return
				}
				e, err := o.met(id, b, &c)
				found(e, err)
				buy(e)
			},
			"interaction": func(t *rapid.T) {
				e, err := o.customer(who.Draw(t, "who"), &c)
				found(e, err)
				known, err := o.withInteractions(e, &n)
				if at := visits[e.id]; err != nil || known != (at > 0) || n.LastAt != at {
					t.Fatalf("the last interaction of %s is %d, want %d; %v", e.id, n.LastAt, at, err)
				}
				if rapid.Bool().Draw(t, "new") {
					n.LastAt++
					o.keepInteractions(e, &n)
					visits[e.id] = n.LastAt
				}
			},
			"commit": func(t *rapid.T) {
				b := db.NewBatch()
				for key, value := range o.changed() {
					err = errors.Join(err, b.Put(key, value))
				}
				if err := errors.Join(err, b.Commit()); err != nil {
					t.Fatal(err)
				}
				people.recount(o)
				o.committed()
				o.reset()
				if err := o.store.End(); err != nil {
					t.Fatal(err)
				}
				committed.orders, committed.visits = maps.Clone(orders), maps.Clone(visits)
			},
			"reopen": func(t *rapid.T) { // what was not committed is lost
				cache = newHotCache(int64(limit))
				if err := o.store.End(); err != nil {
					t.Fatal(err)
				}
				if o, err = newOverlay(db, cache); err != nil {
					t.Fatal(err)
				}
				orders, visits = maps.Clone(committed.orders), maps.Clone(committed.visits)
			},
			"": func(t *rapid.T) {
				took, most, young := 0, 0, 0
				for i, hot := range []map[string]*stored{cache.young, cache.old} {
					for id, s := range hot {
						size := len(id) + s.size() + cacheOverhead
						took, most = took+size, max(most, size)
						if i == 0 {
							young += size
						}
					}
				}
				if took > limit+2*most || cache.bytes != young {
					t.Fatalf("the cache takes %d bytes of %d, and counts %d of the young generation, which takes %d", took, limit, cache.bytes, young)
				}
				held := 0 // by the cycle, what the cache may forget meanwhile included
				for _, e := range o.order {
					held += len(e.id) + 128 + len(e.customer) + len(e.interactions) + len(e.is.customer)
					if e.loaded {
						held += len(e.is.interactions)
					}
				}
				if o.bytes != held {
					t.Fatalf("the cycle counts %d bytes of %d", o.bytes, held)
				}
				for _, e := range o.spare {
					if e.is != nil {
						t.Fatalf("a spare entry keeps what is stored of %s", e.id)
					}
				}
			},
		})
		o.reset() // of what was not committed nothing is left
		count, buyers := population.Population{}, int64(0)
		for i := range 16 {
			id := fmt.Sprintf("customer-%d", i)
			b, known, err := db.Get(store.CustomerKey(nil, id), nil)
			if err != nil {
				t.Fatal(err)
			}
			e, err := o.customer(id, &c)
			if err != nil || !bytes.Equal(e.customer, b) {
				t.Fatalf("%s is read as %x, and stored as %x; %v", id, e.customer, b, err)
			}
			if known {
				count.Add(c.Member(nil), 1)
				buyers++
			}
		}
		if err := o.store.End(); err != nil {
			t.Fatal(err)
		}
		if !people.count.Equal(&count) || people.number != buyers {
			t.Fatalf("%d customers are counted as %v, %d are stored as %v", people.number, people.count, buyers, count)
		}
	})
}
