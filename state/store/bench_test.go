package store

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/asiduo/asiduo/state"
)

// BenchmarkReadModifyWrite is what a cycle does with a store, for each customer of it: read the record, write it again with another
// timer, of 200,000 customers in an order that no cache guesses, 4,096 to a batch.
func BenchmarkReadModifyWrite(b *testing.B) {
	const customers, cycle, size = 200_000, 4096, 150
	cache := pebble.NewCache(64 << 20)
	defer cache.Unref()
	s, err := Open("shard-0", Options{FS: vfs.NewMem(), Cache: cache, Memtable: 16 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer closed(b, s)
	id := func(n uint64) string { return fmt.Sprintf("c%09d", n*7_368_787%customers) }
	batch, value := s.NewBatch(), make([]byte, size)
	for n := range uint64(customers) {
		keep(b, batch, id(n), value, Timer{}, state.Instant(n))
	}
	if err := batch.Commit(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var key, read []byte
	n := uint64(0)
	for b.Loop() {
		if n%cycle == 0 {
			if n > 0 {
				if err := batch.Commit(); err != nil {
					b.Fatal(err)
				}
			}
			batch = s.NewBatch()
		}
		who := id(n)
		key = CustomerKey(key[:0], who)
		var found bool
		if read, found, err = s.Get(key, read[:0]); err != nil || !found {
			b.Fatal(found, err)
		}
		was := state.Instant(binary.LittleEndian.Uint64(read))
		binary.LittleEndian.PutUint64(read, uint64(was)+customers)
		keep(b, batch, who, read, Timer{At: was, ID: who}, was+customers)
		n++
	}
	batch.Discard()
}

// keep puts a record whose first bytes are the instant of its timer.
func keep(b *testing.B, batch *Batch, id string, value []byte, was Timer, at state.Instant) {
	b.Helper()
	binary.LittleEndian.PutUint64(value, uint64(at))
	err := batch.Put(CustomerKey(nil, id), value)
	if err == nil && was.ID != "" {
		err = batch.Disarm(was)
	}
	if err == nil {
		err = batch.Arm(at, id)
	}
	if err != nil {
		b.Fatal(err)
	}
}
