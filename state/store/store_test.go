package store

import (
	"cmp"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/state"
)

func options(t testing.TB, files vfs.FS) Options {
	t.Helper()
	cache := pebble.NewCache(4 << 20)
	t.Cleanup(cache.Unref)
	return Options{FS: files, Cache: cache, Memtable: 64 << 10}
}

func openMem(t testing.TB) *Store {
	t.Helper()
	s, err := Open("shard-0", options(t, vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// openForRapid opens a store whose cache ends with the property's check.
func openForRapid(t *rapid.T) *Store {
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref() // the database holds it as well
	s, err := Open("shard-0", Options{FS: vfs.NewMem(), Cache: cache, Memtable: 64 << 10})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

func closed(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(true); err != nil {
		t.Errorf("close: %v", err)
	}
}

// write commits one batch.
func write(t rapid.TB, s *Store, fill func(b *Batch) error) {
	t.Helper()
	b := s.NewBatch()
	if err := errors.Join(fill(b), b.Commit()); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// customer is a customer that can be told from others by a number.
func customer(n int) []byte {
	var c state.Customer
	c.Reset()
	c.SegmentSeq = uint64(n)
	return c.AppendTo(nil)
}

func interactions(n int) []byte {
	return (&state.Interactions{LastAt: state.Instant(n)}).AppendTo(nil)
}

var someMark = Mark{
	Checkpoint{Owner: "ABC", Cycle: 7, Horizon: 1_714_557_600_000, Versions: state.Versions{Rules: 1, Cuts: 2, Model: 3}, Inputs: map[string]InputPositions{
		"purchases":    {TopicID: "x1", Next: map[int32]int64{0: 12, 8: 1 << 40}},
		"interactions": {TopicID: "x2", Next: map[int32]int64{}},
	}},
	Position{TopicID: "c1", Offset: 99, Epoch: 3, Written: 1_714_557_600_001},
}

// markText fixes the words of the checkpoint, which other releases read.
const markText = `{"owner":"ABC","cycle":7,"inputs":{"interactions":{"topic_id":"x2","next":{}},` +
	`"purchases":{"topic_id":"x1","next":{"0":12,"8":1099511627776}}},"horizon":1714557600000,"versions":{"rules":1,"cuts":2,"model":3},` +
	`"topic_id":"c1","offset":99,"epoch":3,"written":1714557600001}`

func TestMark(t *testing.T) {
	s := openMem(t)
	defer closed(t, s)
	if _, ok, err := s.Mark(); ok || err != nil {
		t.Errorf("an empty store has a mark: %v %v", ok, err)
	}
	write(t, s, func(b *Batch) error { return b.SetMark(&someMark) })
	got, ok, err := s.Mark()
	if err != nil || !ok || !reflect.DeepEqual(got, someMark) {
		t.Errorf("mark %+v %v %v", got, ok, err)
	}
	if b, _, err := s.Get([]byte("mmark"), nil); err != nil || string(b) != markText {
		t.Errorf("stored as\n%s\nwant\n%s\n%v", b, markText, err)
	}
	write(t, s, func(b *Batch) error { return b.b.Set(metaKey("mark"), []byte("{"), nil) })
	if _, _, err := s.Mark(); !Corrupt(err) || !strings.HasPrefix(err.Error(), "read mark: ") {
		t.Errorf("unreadable mark: %v", err)
	}
	if _, err := s.View(); !Corrupt(err) || !strings.HasPrefix(err.Error(), "read mark: ") {
		t.Errorf("view of an unreadable mark: %v", err)
	}
}

func TestBatch(t *testing.T) {
	s := openMem(t)
	defer closed(t, s)
	key := CustomerKey(nil, "ana")
	b := s.NewBatch()
	empty := b.Len()
	if err := b.Put(key, customer(1)); err != nil {
		t.Fatal(err)
	}
	if b.Len() <= empty {
		t.Errorf("a batch of %d bytes has %d with a record", empty, b.Len())
	}
	if _, ok, _ := s.Get(key, nil); ok {
		t.Error("seen before it was committed")
	}
	b.Discard()
	if _, ok, _ := s.Get(key, nil); ok {
		t.Error("seen though it was discarded")
	}
	write(t, s, func(b *Batch) error { return b.Put(key, customer(2)) })
	got, ok, err := s.Get(key, []byte("before"))
	if err != nil || !ok || string(got) != "before"+string(customer(2)) {
		t.Errorf("got %q %v %v", got, ok, err)
	}
	write(t, s, func(b *Batch) error { return b.Put(key, nil) })
	if got, ok, err := s.Get(key, []byte("before")); ok || err != nil || string(got) != "before" {
		t.Errorf("deleted, but got %q %v %v", got, ok, err)
	}
}

// Timers come up earliest first, up to and including the instant, no more than asked for.
func TestDue(t *testing.T) {
	const id = "0b5e7d9e-4c5a-4d0f-9d3c-6a1b2c3d4e5f"
	s := openMem(t)
	defer closed(t, s)
	want := []Timer{{0, "a"}, {1, "b"}, {255, "c"}, {256, "a"}, {256, id}, {1_714_557_600_000, "d"}, {state.Never - 1, "e"}}
	write(t, s, func(b *Batch) error {
		for i := len(want) - 1; i >= 0; i-- {
			if err := b.Arm(want[i].At, want[i].ID); err != nil {
				return err
			}
		}
		return errors.Join(b.Arm(state.Never, "f"), b.Put(CustomerKey(nil, "x"), customer(1)), b.SetMark(&someMark))
	})
	slices.SortFunc(want, func(a, b Timer) int { return slices.Compare(TimerKey(nil, a.At, a.ID), TimerKey(nil, b.At, b.ID)) })
	for _, until := range []state.Instant{0, 1, 254, 255, 256, 257, 1_714_557_599_999, 1_714_557_600_000, state.Never - 1} {
		for n := range len(want) + 2 {
			var due []Timer
			for _, x := range want {
				if x.At <= until && len(due) < n {
					due = append(due, x)
				}
			}
			first := Timer{9, "kept"}
			got, err := s.Due(until, n, []Timer{first})
			if err != nil || !slices.Equal(got, append([]Timer{first}, due...)) {
				t.Errorf("due until %d, at most %d: %v, want %v; %v", until, n, got[1:], due, err)
			}
		}
	}
	write(t, s, func(b *Batch) error { return errors.Join(b.Disarm(want[0]), b.Disarm(want[4])) })
	got, err := s.Due(state.Never-1, 99, nil)
	if err != nil || !slices.Equal(got, slices.Concat(want[1:4], want[5:])) {
		t.Errorf("after two were disarmed: %v; %v", got, err)
	}
}

// TestDueOfASet arms, disarms and asks in any order; what is due is as in a plain set.
func TestDueOfASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := openForRapid(t)
		defer func() {
			if err := s.Close(false); err != nil {
				t.Fatal(err)
			}
		}()
		armed := map[Timer]bool{}
		timer := rapid.Custom(func(t *rapid.T) Timer {
			return Timer{state.Instant(rapid.IntRange(0, 30).Draw(t, "at")), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id")}
		})
		t.Repeat(map[string]func(*rapid.T){
			"arm": func(t *rapid.T) {
				x := timer.Draw(t, "timer")
				armed[x] = true
				write(t, s, func(b *Batch) error { return b.Arm(x.At, x.ID) })
			},
			"disarm": func(t *rapid.T) {
				x := timer.Draw(t, "timer")
				delete(armed, x)
				write(t, s, func(b *Batch) error { return b.Disarm(x) })
			},
			"": func(t *rapid.T) {
				until, n := state.Instant(rapid.IntRange(0, 31).Draw(t, "until")), rapid.IntRange(0, 4).Draw(t, "most")
				var want []Timer
				for x := range armed {
					if x.At <= until {
						want = append(want, x)
					}
				}
				slices.SortFunc(want, func(a, b Timer) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.ID, b.ID)) })
				if got, err := s.Due(until, n, nil); err != nil || !slices.Equal(got, want[:min(n, len(want))]) {
					t.Fatalf("due until %d, at most %d: %v of %v; %v", until, n, got, want, err)
				}
			},
		})
	})
}

func TestTimersInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		timers := rapid.SliceOf(rapid.Custom(func(t *rapid.T) Timer {
			return Timer{state.Instant(rapid.Int64Range(0, 1<<62).Draw(t, "at")), ids().Draw(t, "id")}
		})).Draw(t, "timers")
		for _, a := range timers {
			at, id := timerOf(TimerKey(nil, a.At, a.ID))
			if at != a.At || id != a.ID {
				t.Fatalf("%v came back as %d %q", a, at, id)
			}
			for _, b := range timers {
				if a.At < b.At && slices.Compare(TimerKey(nil, a.At, a.ID), TimerKey(nil, b.At, b.ID)) >= 0 {
					t.Fatalf("%v does not lie before %v", a, b)
				}
			}
		}
	})
}

// A view is the store at one instant, whatever is written afterwards.
func TestViewIsIsolated(t *testing.T) {
	s := openMem(t)
	defer closed(t, s)
	cycle := func(n int) {
		write(t, s, func(b *Batch) error {
			m := someMark
			m.Cycle = uint64(n)
			return errors.Join(b.Put(CustomerKey(nil, "ana"), customer(n)), b.Put(InteractionsKey(nil, "ana"), interactions(n)), b.SetMark(&m))
		})
	}
	var views []*View
	for n := range 20 {
		v, err := s.View()
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, v)
		cycle(n + 1)
		if n == 10 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, v := range views {
		var c state.Customer
		var i state.Interactions
		known, err := v.Customer("ana", &c)
		met, err2 := v.Interactions("ana", &i)
		if err != nil || err2 != nil || known != (n > 0) || met != known || known && (c.SegmentSeq != uint64(n) || i.LastAt != state.Instant(n)) || v.Mark.Cycle != uint64(n) {
			t.Errorf("view %d: cycle %d, %v %d, %v %d; %v %v", n, v.Mark.Cycle, known, c.SegmentSeq, met, i.LastAt, err, err2)
		}
		if known, err := v.Customer("bob", &c); known || err != nil {
			t.Errorf("nobody is known: %v", err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
}
