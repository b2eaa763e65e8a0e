package pipeline

import (
	"iter"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/population"
	"github.com/asiduo/asiduo/state/store"
)

// entry is a customer as the running cycle has left it: encoded bytes, empty where nothing is known.
type entry struct {
	id           string
	is           *stored // before the cycle
	customer     []byte
	interactions []byte
	was          state.Instant // when silence was due before the cycle
	due          state.Instant // when it is now
	fired        bool          // its timer has come up in this cycle
	loaded       bool          // interactions have been read
	newCustomer  bool          // customer differs from the store
	newInteracts bool          // interactions differ from the store

	counts population.Member // what the customer counts as now, if newCustomer
}

// overlay is what the running cycle has changed, in the order in which customers were first touched. It dies with the
// shard; nothing of it is true before the commit.
type overlay struct {
	store   *store.Reader
	cache   *hotCache
	entries map[string]*entry
	ahead   map[string]*stored // has been read for records that are to come
	cold    []cold             // scratch of readAhead
	order   []*entry
	spare   []*entry // entries of former cycles, for their buffers
	bytes   int
	key     []byte

	interactions bool // somebody has some, in the store or here; else nobody's are looked for
}

func newOverlay(s *store.Store, cache *hotCache) (*overlay, error) {
	some, err := s.Interactions()
	return &overlay{store: s.NewReader(), cache: cache, entries: map[string]*entry{}, ahead: map[string]*stored{}, interactions: some}, err
}

// reset forgets the cycle and keeps buffers of ordinary size.
func (o *overlay) reset() {
	for _, e := range o.order {
		if cap(e.customer)+cap(e.interactions) <= 4096 && len(o.spare) < 8192 {
			e.is = nil // or it keeps what the cache has forgotten
			o.spare = append(o.spare, e)
		}
	}
	clear(o.entries)
	clear(o.ahead)
	clear(o.order)
	o.order, o.bytes = o.order[:0], 0
}

// cold is a customer whom the store has to be asked for.
type cold struct {
	id string
	is *stored
}

// readAhead reads whom records are of, at most so many bytes, in the order of their keys: a table of the store is opened once for many
// of them then, and its index and filter are looked for once, which costs several times what the block with the record does. Whoever is left out
// is read alone.
func (o *overlay) readAhead(rs []*kgo.Record, most int) error {
	clear(o.ahead) // of records that have come
	all := o.cold[:0]
	for _, r := range rs {
		if o.entries[string(r.Key)] != nil || o.ahead[string(r.Key)] != nil || o.cache.has(r.Key) {
			continue
		}
		c := cold{string(r.Key), &stored{}}
		o.ahead[c.id] = c.is
		all = append(all, c)
	}
	o.cold = all
	defer clear(all)
	slices.SortFunc(all, func(a, b cold) int { return strings.Compare(a.id, b.id) })
	for i, c := range all {
		if most < 0 {
			for _, c := range all[i:] {
				delete(o.ahead, c.id)
			}
			all = all[:i]
			break
		}
		if err := o.readCustomer(c.id, c.is); err != nil {
			return err
		}
		most -= len(c.id) + len(c.is.customer) + cacheOverhead
	}
	for _, c := range all {
		if most < 0 {
			break
		}
		if err := o.readInteractions(c.id, c.is); err != nil {
			return err
		}
		most -= len(c.is.interactions)
	}
	return nil
}

func (o *overlay) readCustomer(id string, is *stored) (err error) {
	o.key = store.CustomerKey(o.key[:0], id)
	is.customer, _, err = o.store.Get(o.key, nil)
	return err
}

// readInteractions reads those of a customer, unless nobody has any.
func (o *overlay) readInteractions(id string, is *stored) (err error) {
	if o.interactions {
		o.key = store.InteractionsKey(o.key[:0], id)
		is.interactions, _, err = o.store.Get(o.key, nil)
	}
	is.loaded = err == nil
	return err
}

// customer is the entry of a customer, read if need be, and the customer decoded into c.
func (o *overlay) customer(id string, c *state.Customer) (*entry, error) {
	if e, ok := o.entries[id]; ok {
		return e, decode(e.customer, c)
	}
	is := o.cache.get(id)
	if is != nil {
		return o.enter(id, is, c)
	}
	if is = o.ahead[id]; is == nil {
		is = &stored{}
		if err := o.readCustomer(id, is); err != nil {
			return nil, err
		}
	}
	e, err := o.enter(id, is, c)
	if err == nil {
		o.cache.add(id, is)
	}
	return e, err
}

// has says whether a customer has been touched.
func (o *overlay) has(id string) bool { return o.entries[id] != nil }

// met is the entry of a customer who was not touched yet, whom the store has shown as b and c is decoded from. Nobody is hot for that.
func (o *overlay) met(id string, b []byte, c *state.Customer) (*entry, error) {
	is := o.cache.get(id)
	if is == nil {
		is = &stored{customer: append([]byte(nil), b...)}
	}
	return o.enter(id, is, c)
}

// enter makes the entry of a customer who was not touched yet, and decodes the customer into c.
func (o *overlay) enter(id string, is *stored, c *state.Customer) (*entry, error) {
	if err := decode(is.customer, c); err != nil {
		return nil, err
	}
	if is.counted == nil {
		is.counted = c.Member(make(population.Member, 0, len(c.Orders)+2)) // and the next order
	}
	e := &entry{}
	if n := len(o.spare); n > 0 {
		e = o.spare[n-1]
		o.spare = o.spare[:n-1]
	}
	*e = entry{
		id: id, is: is, customer: append(e.customer[:0], is.customer...), interactions: e.interactions[:0], was: c.Due, due: c.Due,
		counts: e.counts[:0],
	}
	o.entries[id] = e
	o.order = append(o.order, e)
	o.bytes += 2*len(e.customer) + len(id) + 128 // what is stored may be kept for this cycle alone
	return e, nil
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
		if !e.is.loaded {
			if err := o.readInteractions(e.id, e.is); err != nil {
				return false, err
			}
			o.cache.grew(e.is, cap(e.is.interactions))
		}
		e.interactions = append(e.interactions, e.is.interactions...)
		e.loaded = true
		o.bytes += 2 * len(e.interactions)
	}
	if len(e.interactions) == 0 {
		n.Reset()
		return false, nil
	}
	return true, n.Decode(e.interactions)
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
	e.newInteracts, o.interactions = true, true
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

// committed makes what the cycle has changed what is stored.
func (o *overlay) committed() {
	for _, e := range o.order {
		before := e.is.size()
		if e.newCustomer {
			e.is.customer = append(e.is.customer[:0], e.customer...)
			e.is.counted = append(e.is.counted[:0], e.counts...)
		}
		if e.newInteracts {
			e.is.interactions = append(e.is.interactions[:0], e.interactions...)
			e.is.loaded = true
		}
		o.cache.grew(e.is, e.is.size()-before)
	}
}
