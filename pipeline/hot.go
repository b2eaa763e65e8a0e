package pipeline

import "github.com/asiduo/asiduo/state/population"

// stored is what the store holds of a customer: encoded bytes, empty where nothing is known. Only a commit changes it.
type stored struct {
	customer     []byte
	interactions []byte
	loaded       bool              // interactions have been read
	counted      population.Member // what the customer counts as
	generation   int               // of the cache, in which it was last used; 0: it is in none
}

func (s *stored) size() int {
	return cap(s.customer) + cap(s.interactions) + 2*cap(s.counted)
}

// hotCache holds recently used customers, at most about limit bytes. It has two generations: who was not used while one of them filled
// up is forgotten.
type hotCache struct {
	limit      int
	young, old map[string]*stored
	bytes      int // of the young generation
	generation int
}

const cacheOverhead = 192 // of a map entry, its key, what it points to, and small allocations

func newHotCache(limit int64) *hotCache {
	return &hotCache{generation: 1, limit: int(limit), young: map[string]*stored{}, old: map[string]*stored{}}
}

// get is a customer, nil if it is not hot.
func (c *hotCache) get(id string) *stored {
	if s, ok := c.young[id]; ok {
		return s
	}
	s, ok := c.old[id]
	if ok {
		delete(c.old, id)
		c.add(id, s)
	}
	return s
}

// has says whether a customer is hot, and leaves everything as it is.
func (c *hotCache) has(id []byte) bool { return c.young[string(id)] != nil || c.old[string(id)] != nil }

// add makes a customer hot who is not.
func (c *hotCache) add(id string, s *stored) {
	c.young[id], s.generation = s, c.generation
	c.grew(s, len(id)+s.size()+cacheOverhead)
}

// grew notes that a customer takes so much more; who is no longer in the young generation does not count.
func (c *hotCache) grew(s *stored, by int) {
	if s.generation != c.generation {
		return
	}
	if c.bytes += by; c.bytes > c.limit/2 {
		c.old, c.young, c.bytes = c.young, c.old, 0
		clear(c.young)
		c.generation++
	}
}
