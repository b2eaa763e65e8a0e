package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/asiduo/asiduo/state"
)

// Batch is what becomes true together.
type Batch struct {
	s   *Store
	b   *pebble.Batch
	key []byte
}

// NewBatch begins a batch.
func (s *Store) NewBatch() *Batch { return &Batch{s: s, b: s.db.NewBatch()} }

// Put writes a record under a key of the changelog; an empty value deletes it.
func (b *Batch) Put(key, value []byte) error {
	if len(value) == 0 {
		return b.b.Delete(key, nil)
	}
	return b.b.Set(key, value, nil)
}

// Arm asks for a look at a customer.
func (b *Batch) Arm(at state.Instant, id string) error {
	if at == state.Never {
		return nil
	}
	b.s.earliest = min(b.s.earliest, at)
	b.key = TimerKey(b.key[:0], at, id)
	return b.b.Set(b.key, nil, nil)
}

// Disarm removes a timer that has come up.
func (b *Batch) Disarm(t Timer) error {
	b.key = TimerKey(b.key[:0], t.At, t.ID)
	return b.b.Delete(b.key, nil)
}

// SetMark says what the store is the state of after this batch.
func (b *Batch) SetMark(m *Mark) error {
	v, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return b.b.Set(metaKey("mark"), v, nil)
}

// Unmark takes the mark away: until one is set the store is no state to go on from.
func (b *Batch) Unmark() error { return b.b.Delete(metaKey("mark"), nil) }

// SetWhole says that the store has had everything that there was in a cycle of its own, and is worth keeping when it is damaged later.
func (b *Batch) SetWhole() error { return b.b.Set(metaKey("whole"), nil, nil) }

// SetParameters keeps what the versions of the mark mean, for readers without a broker.
func (b *Batch) SetParameters(v []byte) error { return b.b.Set(metaKey("parameters"), v, nil) }

// Len is the size of the batch in bytes.
func (b *Batch) Len() int { return b.b.Len() }

// Commit makes the batch true, all of it or nothing, and ends it.
func (b *Batch) Commit() error {
	err := b.b.Commit(pebble.NoSync)
	err = errors.Join(err, b.b.Close())
	b.b = nil // Pebble hands closed batches out again
	if err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	return nil
}

// Discard ends a batch that was not committed; after Commit it does nothing.
func (b *Batch) Discard() {
	if b.b != nil {
		_ = b.b.Close()
		b.b = nil
	}
}
