package store

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/asiduo/asiduo/state"
)

// View is the store as it is after one cycle, for one reader in another goroutine. Close it soon: the database keeps what
// it shows. It reads in pages and holds nothing in between, so that a reader who is slow does not keep the shard from
// being closed: that ends the view, whose reads then end with ErrClosed.
type View struct {
	s    *Store
	snap *pebble.Snapshot
	Mark Mark

	// Params are those the customers of the view stand under; known once Adopt has been called.
	Params   *state.Parameters
	adoption *state.Adoption // while a sweep is under way
}

// Adopt makes the view show all customers under the parameters of its mark, those too that the sweep has not reached
// yet: logically they have been moved with all others.
func (v *View) Adopt(is *state.Parameters, a *state.Adoption) { v.Params, v.adoption = is, a }

// Parameters are what SetParameters has kept; nil if nothing.
func (v *View) Parameters() ([]byte, error) {
	b, _, err := v.get(metaKey("parameters"))
	return b, err
}

// nobodyHears announces nothing, so that no sequence moves.
var nobodyHears = state.Telling{LiveFrom: state.Never}

// decode reads a customer as the parameters of the view have it.
func (v *View) decode(b []byte, c *state.Customer) error {
	if err := c.Decode(b); err != nil || v.adoption == nil {
		return err
	}
	c.Adopt(v.adoption, nobodyHears, nil)
	return nil
}

// View takes a view; ErrClosed if the shard is being closed.
func (s *Store) View() (v *View, err error) {
	err = s.read(func() (err error) {
		v = &View{s: s, snap: s.db.NewSnapshot()}
		s.viewing.Lock()
		s.views[v] = struct{}{}
		s.viewing.Unlock()
		v.Mark, _, err = mark(v.snap)
		return err
	})
	if err != nil && v != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, err
}

// read keeps the database open meanwhile.
func (s *Store) read(do func() error) error {
	if !s.reading.TryRLock() { // only Close locks it
		return ErrClosed
	}
	defer s.reading.RUnlock()
	if s.closing.Load() {
		return ErrClosed
	}
	return do()
}

// Close ends the view.
func (v *View) Close() error {
	v.s.viewing.Lock()
	defer v.s.viewing.Unlock()
	if _, open := v.s.views[v]; !open {
		return nil // the store has ended it
	}
	delete(v.s.views, v)
	return v.snap.Close()
}

func (s *Store) endViews() (err error) {
	s.viewing.Lock()
	defer s.viewing.Unlock()
	for v := range s.views {
		err = errors.Join(err, v.snap.Close())
	}
	clear(s.views)
	return err
}

// Customer reads one customer; known is false if nothing is known but perhaps interactions.
func (v *View) Customer(id string, c *state.Customer) (known bool, err error) {
	b, ok, err := v.get(CustomerKey(nil, id))
	if err != nil || !ok {
		return false, err
	}
	return true, v.decode(b, c)
}

// Interactions reads a customer's interactions.
func (v *View) Interactions(id string, n *state.Interactions) (known bool, err error) {
	b, ok, err := v.get(InteractionsKey(nil, id))
	if err != nil || !ok {
		return false, err
	}
	return true, n.Decode(b)
}

func (v *View) get(key []byte) (b []byte, ok bool, err error) {
	err = v.s.read(func() (err error) {
		b, ok, err = get(v.snap, key, nil)
		return err
	})
	return b, ok, err
}

// Row is one customer of a scan, decoded and as stored. Customer is nil if only interactions are known, Interactions is
// nil if none are. All are valid until the next row.
type Row struct {
	ID                 string
	Customer           *state.Customer
	Interactions       *state.Interactions
	CustomerRecord     []byte
	InteractionsRecord []byte
}

// Record is a key of the store and its value.
type Record struct{ Key, Value []byte }

// Rows are all customers in the order of their ids as bytes. A fault ends it.
func (v *View) Rows() iter.Seq2[Row, error] { return v.RowsAfter("") }

// RowsAfter are the Rows whose ids come after one, which need not be there. It goes there right away.
func (v *View) RowsAfter(after string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		var customer state.Customer
		var interactions state.Interactions
		if err := v.rows(after, func(id string, c, n []byte) (bool, error) {
			row := Row{ID: id, CustomerRecord: c, InteractionsRecord: n}
			if c != nil {
				if err := v.decode(c, &customer); err != nil {
					return false, err
				}
				row.Customer = &customer
			}
			if n != nil {
				if err := interactions.Decode(n); err != nil {
					return false, err
				}
				row.Interactions = &interactions
			}
			return yield(row, nil), nil
		}); err != nil {
			yield(Row{}, err)
		}
	}
}

// Stored shows every customer as stored, in the order of their keys, whatever has been adopted. One is valid until see
// returns.
func (v *View) Stored(see func(*state.Customer)) error {
	var c state.Customer
	for r, err := range v.scan(customerPrefix) {
		if err != nil {
			return err
		}
		if err := c.Decode(r.Value); err != nil {
			return err
		}
		see(&c)
	}
	return nil
}

// rows merges four sorted runs: UUIDs and other texts, of customers and of interactions. Within a run keys are in the
// order of the ids' texts.
func (v *View) rows(after string, row func(id string, c, n []byte) (bool, error)) error {
	var runs [4]run
	for i, prefix := range [][]byte{{customerPrefix, idUUID}, {customerPrefix, idText}, {interactionPrefix, idUUID}, {interactionPrefix, idText}} {
		r := &runs[i]
		r.pages = v.from(append(bytes.Clone(prefix), seekID(prefix[1], after)...), []byte{prefix[0], prefix[1] + 1})
		for more := true; more && string(r.id) <= after; more = r.ok { // at most one is not after it
			if err := r.next(); err != nil {
				return err
			}
		}
	}
	for {
		var least []byte
		for i := range runs {
			if runs[i].ok && (least == nil || bytes.Compare(runs[i].id, least) < 0) {
				least = runs[i].id
			}
		}
		if least == nil {
			return nil
		}
		id := string(least)
		var values [2][]byte
		for i := range runs {
			if runs[i].ok && string(runs[i].id) == id {
				values[i/2] = runs[i].value
			}
		}
		if more, err := row(id, values[0], values[1]); err != nil || !more {
			return err
		}
		for i := range runs {
			if runs[i].ok && string(runs[i].id) == id {
				if err := runs[i].next(); err != nil {
					return err
				}
			}
		}
	}
}

// run is one of the sorted runs, at one of its records.
type run struct {
	pages *pages
	id    []byte // as text
	value []byte
	ok    bool
}

func (r *run) next() (err error) {
	var now Record
	if now, r.ok, err = r.pages.next(); r.ok {
		r.id, r.value = append(r.id[:0], CustomerID(now.Key)...), now.Value
	}
	return err
}

// Metrics are those of the database; nil when the shard is being closed.
func (v *View) Metrics() (m *pebble.Metrics) {
	_ = v.s.read(func() error {
		m = v.s.db.Metrics()
		return nil
	})
	return m
}

// Records are the records that the changelog has too, in the order of their keys. They are valid until the next.
func (v *View) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, prefix := range []byte{customerPrefix, interactionPrefix} {
			for r, err := range v.scan(prefix) {
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// Timers are all timers in the order of their instants.
func (v *View) Timers() iter.Seq2[Timer, error] {
	return func(yield func(Timer, error) bool) {
		for r, err := range v.scan(timerPrefix) {
			if err != nil {
				yield(Timer{}, err)
				return
			}
			if at, id := timerOf(r.Key); !yield(Timer{at, id}, nil) {
				return
			}
		}
	}
}

// scan are all keys with a prefix.
func (v *View) scan(prefix byte) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		pages := v.from([]byte{prefix}, []byte{prefix + 1})
		for {
			r, ok, err := pages.next()
			if (!ok && err == nil) || !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// The size of a page, of which both hold but for a first record that is larger.
const (
	pageRecords = 256
	pageBytes   = 64 << 10
)

// pages are the records between two keys, read a page at a time and copied, so that nothing of the database is held while
// they are looked at.
type pages struct {
	v           *View
	from, until []byte // what is still to be read
	bytes       []byte // of the page: key and value of each record
	ends        []int  // of each of them
	at          int    // in ends
}

// from are the records from a key on up to another one.
func (v *View) from(key, until []byte) *pages { return &pages{v: v, from: key, until: until} }

// next is the next record, valid until the one after it; false at the end.
func (p *pages) next() (r Record, ok bool, err error) {
	if p.at == len(p.ends) && p.from != nil {
		if err := p.v.s.read(p.turn); err != nil {
			return r, false, err
		}
	}
	if p.v.s.closing.Load() {
		return r, false, ErrClosed
	}
	if p.at == len(p.ends) {
		return r, false, nil
	}
	begin, middle, end := 0, p.ends[p.at], p.ends[p.at+1]
	if p.at > 0 {
		begin = p.ends[p.at-1]
	}
	p.at += 2
	return Record{p.bytes[begin:middle:middle], p.bytes[middle:end:end]}, true, nil
}

// turn reads the next page; from is nil after the last.
func (p *pages) turn() (err error) {
	it, err := p.v.snap.NewIter(&pebble.IterOptions{LowerBound: p.from, UpperBound: p.until})
	if err != nil {
		return fmt.Errorf("scan store: %w", err)
	}
	defer closeInto(it, &err)
	p.bytes, p.ends, p.at = p.bytes[:0], p.ends[:0], 0
	more := it.First()
	for ; more && len(p.ends) < 2*pageRecords && len(p.bytes) < pageBytes; more = it.Next() {
		p.bytes = append(p.bytes, it.Key()...)
		p.ends = append(p.ends, len(p.bytes))
		p.bytes = append(p.bytes, it.Value()...)
		p.ends = append(p.ends, len(p.bytes))
	}
	p.from = nil
	if more {
		p.from = bytes.Clone(it.Key())
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("scan store: %w", err)
	}
	return nil
}
