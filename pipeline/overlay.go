package pipeline

import (
	"iter"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/population"
	"github.com/asiduo/asiduo/state/store"
)

// entry is a customer as the running cycle has left it: encoded bytes, empty where nothing is known.
type entry struct {
	id           string
	customer     []byte
	interactions []byte
	was          state.Instant // when silence was due before the cycle
	due          state.Instant // when it is now
	fired        bool          // its timer has come up in this cycle
	loaded       bool          // interactions have been read
	newCustomer  bool          // customer differs from the store
	newInteracts bool          // interactions differ from the store
	unknown      bool          // nothing is stored under the customer's key

	counted population.Member // what the customer counts as before the cycle
	counts  population.Member // what it counts as now
}

// overlay is what the running cycle has changed, in the order in which customers were first touched. It dies with the
// shard; nothing of it is true before the commit.
type overlay struct {
	store   *store.Store
	cache   *hotCache
	entries map[string]*entry
	order   []*entry
	spare   []*entry // entries of former cycles, for their buffers
	bytes   int
	key     []byte
}

func newOverlay(s *store.Store, cache *hotCache) *overlay {
	return &overlay{store: s, cache: cache, entries: map[string]*entry{}}
}

// reset forgets the cycle and keeps buffers of ordinary size.
func (o *overlay) reset() {
	for _, e := range o.order {
		if cap(e.customer)+cap(e.interactions) <= 4096 && len(o.spare) < 8192 {
			o.spare = append(o.spare, e)
		}
	}
	clear(o.entries)
	clear(o.order)
	o.order, o.bytes = o.order[:0], 0
}

// customer is the entry of a customer, read if need be, and the customer decoded into c.
func (o *overlay) customer(id string, c *state.Customer) (*entry, error) {
	if e, ok := o.entries[id]; ok {
		return e, decode(e.customer, c)
	}
	e := o.fresh(id)
	o.key = store.CustomerKey(o.key[:0], id)
	var err error
	if e.customer, err = o.read(e.customer); err != nil {
		return nil, err
	}
	if err := decode(e.customer, c); err != nil {
		return nil, err
	}
	o.add(e, c)
	return e, nil
}

// has says whether a customer has been touched.
func (o *overlay) has(id string) bool { return o.entries[id] != nil }

// enter makes the entry of a customer who was not touched yet, from the stored bytes b, which c is decoded from.
func (o *overlay) enter(id string, b []byte, c *state.Customer) *entry {
	e := o.fresh(id)
	e.customer = append(e.customer, b...)
	o.add(e, c)
	return e
}

func (o *overlay) fresh(id string) *entry {
	e := &entry{}
	if n := len(o.spare); n > 0 {
		e = o.spare[n-1]
		o.spare = o.spare[:n-1]
	}
	*e = entry{id: id, customer: e.customer[:0], interactions: e.interactions[:0], counted: e.counted[:0], counts: e.counts[:0]}
	return e
}

func (o *overlay) add(e *entry, c *state.Customer) {
	e.was, e.due, e.unknown = c.Due, c.Due, len(e.customer) == 0
	e.counted = c.Member(e.counted)
	o.entries[e.id] = e
	o.order = append(o.order, e)
	o.bytes += len(e.customer) + len(e.id) + 128
}

func decode(b []byte, c *state.Customer) error {
	if len(b) == 0 {
		c.Reset()
		return nil
	}
	return c.Decode(b)
}

// withInteractions decodes the entry's interactions into n, read if need be; false if there are none.
func (o *overlay) withInteractions(e *entry, n *state.Interactions) (bool, error) {
	if !e.loaded {
		o.key = store.InteractionsKey(o.key[:0], e.id)
		var err error
		if e.interactions, err = o.read(e.interactions); err != nil {
			return false, err
		}
		e.loaded = true
		o.bytes += len(e.interactions)
	}
	if len(e.interactions) == 0 {
		n.Reset()
		return false, nil
	}
	return true, n.Decode(e.interactions)
}

// read appends the committed bytes under o.key.
func (o *overlay) read(b []byte) ([]byte, error) {
	if v, ok := o.cache.get(o.key); ok {
		return append(b, v...), nil
	}
	b, _, err := o.store.Get(o.key, b)
	if err == nil {
		o.cache.put(o.key, b)
	}
	return b, err
}

// keep takes the customer as it is now.
func (o *overlay) keep(e *entry, c *state.Customer) {
	o.bytes -= len(e.customer)
	e.customer = c.AppendTo(e.customer[:0])
	e.newCustomer, e.due = true, c.Due
	e.counts = c.Member(e.counts[:0])
	o.bytes += len(e.customer)
}

// keepInteractions takes the interactions as they are now.
func (o *overlay) keepInteractions(e *entry, n *state.Interactions) {
	o.bytes -= len(e.interactions)
	e.interactions = n.AppendTo(e.interactions[:0])
	e.newInteracts = true
	o.bytes += len(e.interactions)
}

// changes says whether the cycle has changed anybody.
func (o *overlay) changes() bool {
	for _, e := range o.order {
		if e.newCustomer || e.newInteracts {
			return true
		}
	}
	return false
}

// changed are the records that the cycle has changed, with their keys in store and changelog. Keys are new slices: the
// client keeps them until they are sent.
func (o *overlay) changed() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for _, e := range o.order {
			if e.newCustomer && !yield(store.CustomerKey(nil, e.id), e.customer) {
				return
			}
			if e.newInteracts && !yield(store.InteractionsKey(nil, e.id), e.interactions) {
				return
			}
		}
	}
}

// hotCache holds encoded bytes of committed records of recently used customers, at most about limit bytes. It has two
// generations: what was not used while one of them filled up is forgotten.
type hotCache struct {
	limit      int
	young, old map[string][]byte
	bytes      int // of the young generation
}

const cacheOverhead = 96 // of a map entry, its key and its slice

func newHotCache(limit int64) *hotCache {
	return &hotCache{limit: int(limit), young: map[string][]byte{}}
}

func (c *hotCache) get(key []byte) ([]byte, bool) {
	if v, ok := c.young[string(key)]; ok {
		return v, true
	}
	v, ok := c.old[string(key)]
	if ok {
		delete(c.old, string(key))
		c.insert(string(key), v)
	}
	return v, ok
}

// put keeps a copy of value, in the buffer of the former one where it fits.
func (c *hotCache) put(key, value []byte) {
	if v, ok := c.young[string(key)]; ok && len(value) <= cap(v) {
		c.bytes += len(value) - len(v)
		c.young[string(key)] = append(v[:0], value...)
		return
	}
	delete(c.old, string(key))
	c.insert(string(key), append([]byte(nil), value...))
}

func (c *hotCache) insert(key string, v []byte) {
	if was, ok := c.young[key]; ok {
		c.bytes -= len(key) + len(was) + cacheOverhead
	}
	c.young[key] = v
	if c.bytes += len(key) + len(v) + cacheOverhead; c.bytes > c.limit/2 {
		c.old, c.young, c.bytes = c.young, map[string][]byte{}, 0
	}
}
