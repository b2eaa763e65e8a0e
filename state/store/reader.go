package store

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Reader reads records by their keys, one after the other, as they were when it began: with its first Get, and with the next one after
// each End. Keys in their order are cheap: a table stays open for those that follow.
type Reader struct {
	s  *Store
	it *pebble.Iterator
}

// NewReader is a reader that has not begun.
func (s *Store) NewReader() *Reader { return &Reader{s: s} }

// Get appends the value of key to b.
func (r *Reader) Get(key, b []byte) ([]byte, bool, error) {
	if r.it == nil {
		it, err := r.s.db.NewIter(nil)
		if err != nil {
			return b, false, fmt.Errorf("read store: %w", err)
		}
		r.it = it
	}
	if !r.it.SeekPrefixGE(key) || !bytes.Equal(r.it.Key(), key) { // a prefix is a whole key
		if err := r.it.Error(); err != nil {
			return b, false, fmt.Errorf("read store: %w", err)
		}
		return b, false, nil
	}
	v, err := r.it.ValueAndErr()
	if err != nil {
		return b, false, fmt.Errorf("read store: %w", err)
	}
	return append(b, v...), true, nil
}

// End lets go of what it reads. It must have ended before the store is closed.
func (r *Reader) End() error {
	if r.it == nil {
		return nil
	}
	err := r.it.Close()
	r.it = nil
	if err != nil {
		return fmt.Errorf("read store: %w", err)
	}
	return nil
}
