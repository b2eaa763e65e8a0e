package store

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/asiduo/asiduo/state"
)

// View is the store as it is after one cycle, for readers in other goroutines. Close it soon: the shard's close waits
// for it, though its reads end with ErrClosed as soon as that begins.
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
func (s *Store) View() (*View, error) {
	if s.closing.Load() || !s.readers.TryRLock() {
		return nil, ErrClosed
	}
	if s.closing.Load() {
		s.readers.RUnlock()
		return nil, ErrClosed
	}
	v := &View{s: s, snap: s.db.NewSnapshot()}
	var err error
	if v.Mark, _, err = mark(v.snap); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// Close ends the view.
func (v *View) Close() error {
	defer v.s.readers.RUnlock()
	return v.snap.Close()
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

func (v *View) get(key []byte) ([]byte, bool, error) {
	if v.s.closing.Load() {
		return nil, false, ErrClosed
	}
	return get(v.snap, key, nil)
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
func (v *View) Stored(see func(*state.Customer)) (err error) {
	it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: []byte{customerPrefix}, UpperBound: []byte{customerPrefix + 1}})
	if err != nil {
		return fmt.Errorf("scan store: %w", err)
	}
	defer closeInto(it, &err)
	var c state.Customer
	for ok := it.First(); ok; ok = it.Next() {
		if v.s.closing.Load() {
			return ErrClosed
		}
		if err := c.Decode(it.Value()); err != nil {
			return err
		}
		see(&c)
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("scan store: %w", err)
	}
	return nil
}

// rows merges four sorted runs: UUIDs and other texts, of customers and of interactions. Within a run keys are in the
// order of the ids' texts.
func (v *View) rows(after string, row func(id string, c, n []byte) (bool, error)) (err error) {
	var runs [4]run
	for i, prefix := range [][]byte{{customerPrefix, idUUID}, {customerPrefix, idText}, {interactionPrefix, idUUID}, {interactionPrefix, idText}} {
		it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: []byte{prefix[0], prefix[1] + 1}})
		if err != nil {
			return fmt.Errorf("scan store: %w", err)
		}
		defer closeInto(it, &err)
		runs[i].it = it
		runs[i].take(it.SeekGE(append(bytes.Clone(prefix), seekID(prefix[1], after)...)))
		for runs[i].ok && string(runs[i].id) <= after { // at most one
			runs[i].take(it.Next())
		}
	}
	for !v.s.closing.Load() {
		var least []byte
		for i := range runs {
			if runs[i].ok && (least == nil || bytes.Compare(runs[i].id, least) < 0) {
				least = runs[i].id
			}
		}
		if least == nil {
			for i := range runs {
				err = errors.Join(err, runs[i].it.Error())
			}
			return err
		}
		id := string(least)
		var values [2][]byte
		for i := range runs {
			if runs[i].ok && string(runs[i].id) == id {
				values[i/2] = runs[i].it.Value()
			}
		}
		if more, err := row(id, values[0], values[1]); err != nil || !more {
			return err
		}
		for i := range runs {
			if runs[i].ok && string(runs[i].id) == id {
				runs[i].take(runs[i].it.Next())
			}
		}
	}
	return ErrClosed
}

// run is one of the sorted runs, at one of its keys.
type run struct {
	it *pebble.Iterator
	id []byte // as text
	ok bool
}

func (r *run) take(ok bool) {
	if r.ok = ok; ok {
		r.id = append(r.id[:0], CustomerID(r.it.Key())...)
	}
}

// Metrics are those of the database.
func (v *View) Metrics() *pebble.Metrics { return v.s.db.Metrics() }

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
		it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
		if err != nil {
			yield(Record{}, fmt.Errorf("scan store: %w", err))
			return
		}
		for ok := it.First(); ok; ok = it.Next() {
			if v.s.closing.Load() {
				err = ErrClosed
				break
			}
			if !yield(Record{it.Key(), it.Value()}, nil) {
				_ = it.Close()
				return
			}
		}
		if err = errors.Join(err, it.Error(), it.Close()); err != nil {
			yield(Record{}, err)
		}
	}
}
