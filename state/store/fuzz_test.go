package store

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/asiduo/asiduo/state"
)

// FuzzKeys holds any two ids and any bytes that pass for a key of the changelog: an id comes back letter by letter, two
// ids never share a key, keys of one kind are in the order of their ids, and a key that is taken for one is the only one
// of its id.
func FuzzKeys(f *testing.F) {
	const uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	f.Add(uuid, strings.ToUpper(uuid), int64(0), []byte("c\x02"+uuid))
	f.Add("a/../b", "\x00\xff\u202e", int64(1<<62), []byte("i\x01sixteen bytes..."))
	f.Fuzz(func(t *testing.T, a, b string, at int64, key []byte) {
		for _, id := range []string{a, b} {
			if id == "" {
				continue // the decoder refuses it
			}
			c, i, timer := CustomerKey(nil, id), InteractionsKey(nil, id), TimerKey(nil, state.Instant(at), id)
			if !IsCustomerKey(c) || IsCustomerKey(i) || !IsInteractionsKey(i) || IsInteractionsKey(c) || CustomerID(c) != id || CustomerID(i) != id {
				t.Fatalf("%q has the keys %q and %q", id, c, i)
			}
			if when, who := timerOf(timer); when != state.Instant(at) || who != id {
				t.Fatalf("the timer of %q at %d is that of %q at %d", id, at, who, when)
			}
		}
		ka, kb := CustomerKey(nil, a), CustomerKey(nil, b)
		if bytes.Equal(ka, kb) != (a == b) {
			t.Fatalf("%q and %q have the keys %q and %q", a, b, ka, kb)
		}
		if ka[1] == kb[1] && bytes.Compare(ka, kb) != strings.Compare(a, b) {
			t.Fatalf("%q and %q are in another order than %q and %q", a, b, ka, kb)
		}
		for _, tag := range []byte{idUUID, idText} {
			if seek := seekID(tag, a); tag == ka[1] && !bytes.Equal(seek, ka[2:]) {
				t.Fatalf("a scan looks for %q at %q", a, seek)
			}
		}
		if IsCustomerKey(key) && !bytes.Equal(CustomerKey(nil, CustomerID(key)), key) ||
			IsInteractionsKey(key) && !bytes.Equal(InteractionsKey(nil, CustomerID(key)), key) {
			t.Fatalf("%q is a key of %q, who has another", key, CustomerID(key))
		}
	})
}

// FuzzMark reads what a store says about itself: whatever the bytes, there is a mark, none, or corruption; a mark is
// the same after it was written again.
func FuzzMark(f *testing.F) {
	for _, m := range []string{"", "null", "{}", `{"owner":"a","cycle":1,"inputs":{"p":{"topic_id":"x","next":{"0":12}}},"horizon":5,"offset":99}`} {
		f.Add([]byte(m))
	}
	cache := pebble.NewCache(1 << 20)
	f.Cleanup(cache.Unref)
	s, err := Open("db", Options{FS: vfs.NewMem(), Cache: cache, Memtable: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { closed(f, s) })
	f.Fuzz(func(t *testing.T, value []byte) {
		write(t, s, func(b *Batch) error { return b.Put(metaKey("mark"), value) })
		m, known, err := s.Mark()
		if len(value) == 0 && !known && err == nil || Corrupt(err) {
			return
		}
		if err != nil || !known {
			t.Fatalf("%q: %+v %v %v", value, m, known, err)
		}
		write(t, s, func(b *Batch) error { return b.SetMark(&m) })
		again, known, err := s.Mark()
		if err != nil || !known || !reflect.DeepEqual(m, again) {
			t.Fatalf("%q is\n%+v\nand after writing it\n%+v %v %v", value, m, again, known, err)
		}
	})
}
