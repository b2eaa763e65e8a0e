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
	return true, c.Decode(b)
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

// Row is one customer of a scan. Customer is nil if only interactions are known, Interactions is nil if none are.
// Both are valid until the next row.
type Row struct {
	ID           string
	Customer     *state.Customer
	Interactions *state.Interactions
}

// Rows are all customers in the order of their ids as bytes. A fault ends it.
func (v *View) Rows() iter.Seq2[Row, error] { return v.RowsAfter("") }

// RowsAfter are the Rows whose ids come after one, which need not be there. It goes there right away.
func (v *View) RowsAfter(after string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		var customer state.Customer
		var interactions state.Interactions
		if err := v.rows(after, func(id string, c, n []byte) (bool, error) {
			row := Row{ID: id}
			if c != nil {
				if err := customer.Decode(c); err != nil {
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
