package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// TestReader holds what a reader says against a map as it was when the reader began, whatever is written, flushed and merged since.
func TestReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := openForRapid(t)
		r := s.NewReader()
		is, then := map[string]string{}, map[string]string(nil)
		id := rapid.Map(rapid.IntRange(0, 30), func(n int) string { return fmt.Sprintf("c%d", n) })
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				who, value := id.Draw(t, "who"), rapid.StringN(0, 20, -1).Draw(t, "value")
				write(t, s, func(b *Batch) error { return b.Put(CustomerKey(nil, who), []byte(value)) })
				if is[who] = value; value == "" {
					delete(is, who)
				}
			},
			"flush": func(t *rapid.T) {
				if err := s.db.Flush(); err != nil {
					t.Fatal(err)
				}
			},
			"merge": func(t *rapid.T) {
				if err := s.db.Compact(t.Context(), []byte{0}, []byte{255}, false); err != nil {
					t.Fatal(err)
				}
			},
			"read": func(t *rapid.T) {
				if then == nil {
					then = maps.Clone(is)
				}
				who := id.Draw(t, "who")
				got, found, err := r.Get(CustomerKey(nil, who), []byte("before "))
				if want, known := then[who]; err != nil || found != known || string(got) != "before "+want {
					t.Fatalf("%s is %q, %v, want %q, %v; %v", who, got, found, want, known, err)
				}
			},
			"end": func(t *rapid.T) {
				if err := r.End(); err != nil {
					t.Fatal(err)
				}
				then = nil
			},
		})
		if err := errors.Join(r.End(), s.Close(true)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCacheIsForBlocks has as many stores open as have more write buffers than the cache is large: what one has read from its tables stays
// there all the same.
func TestCacheIsForBlocks(t *testing.T) {
	const size = 1 << 20
	cache := pebble.NewCache(size)
	defer cache.Unref()
	files := vfs.NewMem()
	var all []*Store
	for i := range 5 {
		s, err := Open(fmt.Sprintf("shard-%d", i), Options{FS: files, Cache: cache, Memtable: size})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	s := all[0]
	write(t, s, func(b *Batch) (err error) {
		for i := range 2000 {
			err = errors.Join(err, b.Put(CustomerKey(nil, fmt.Sprint(i)), bytes.Repeat(fmt.Append(nil, i), 20)))
		}
		return err
	})
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	read := func() int64 {
		before := cache.Metrics().Misses
		for i := range 2000 {
			if _, found, err := s.Get(CustomerKey(nil, fmt.Sprint(i)), nil); !found || err != nil {
				t.Fatal(i, err)
			}
		}
		return cache.Metrics().Misses - before
	}
	if n := read(); n == 0 {
		t.Error("the first reading has found all in the cache: this shows nothing")
	}
	if n := read(); n != 0 {
		t.Errorf("the second reading has missed %d blocks", n)
	}
	for _, s := range all {
		closed(t, s)
	}
}
