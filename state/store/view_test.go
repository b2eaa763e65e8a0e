package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/state"
)

// ids are UUIDs in their canonical form and others, and texts of any kind that lie among them.
func ids() *rapid.Generator[string] {
	canonical := rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), func(b []byte) string {
		return uuid.UUID(b).String()
	})
	return rapid.OneOf(
		canonical,
		rapid.Map(canonical, strings.ToUpper),
		rapid.Map(canonical, func(s string) string { return "urn:uuid:" + s }),
		rapid.Map(canonical, func(s string) string { return strings.ReplaceAll(s, "-", "") }),
		rapid.Map(canonical, func(s string) string { return s[:35] }),
		rapid.Map(canonical, func(s string) string { return s + "\x00" }),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 40), func(b []byte) string { return string(b) }),
		rapid.StringMatching(`[0-9a-f]{1,36}`),
	)
}

func TestKeys(t *testing.T) {
	const id = "0b5e7d9e-4c5a-4d0f-9d3c-6a1b2c3d4e5f"
	raw := "\x0b\x5e\x7d\x9e\x4c\x5a\x4d\x0f\x9d\x3c\x6a\x1b\x2c\x3d\x4e\x5f"
	for _, test := range []struct{ id, want string }{
		{id, "\x01" + raw},
		{strings.ToUpper(id), "\x02" + strings.ToUpper(id)},
		{id[:34] + "5F", "\x02" + id[:34] + "5F"},
		{strings.Replace(id, "-", "", 1) + "0", "\x02" + strings.Replace(id, "-", "", 1) + "0"},
		{strings.Replace(id, "b", "g", 1), "\x02" + strings.Replace(id, "b", "g", 1)},
		{"ana", "\x02ana"},
		{"\x01" + raw[1:], "\x02\x01" + raw[1:]},
	} {
		if got := string(CustomerKey([]byte("before"), test.id)); got != "beforec"+test.want {
			t.Errorf("customer %q: %q", test.id, got)
		}
		if got := string(InteractionsKey(nil, test.id)); got != "i"+test.want {
			t.Errorf("interactions of %q: %q", test.id, got)
		}
		if got := string(TimerKey(nil, 0x0102, test.id)); got != "t\x00\x00\x00\x00\x00\x00\x01\x02"+test.want {
			t.Errorf("timer of %q: %q", test.id, got)
		}
	}
	if got := string(metaKey("mark")); got != "mmark" {
		t.Errorf("mark: %q", got)
	}
	for _, key := range []string{"", "c", "i", "c\x01", "c\x02", "c\x01" + raw[1:], "c\x01" + raw + "x", "c\x03abc", "mmark", "owner", "checkpoint"} {
		if IsCustomerKey([]byte(key)) || IsInteractionsKey([]byte(key)) {
			t.Errorf("%q passes for the key of a customer", key)
		}
	}
}

func TestKeysRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := ids().Draw(t, "id"), ids().Draw(t, "other id")
		key, other := CustomerKey(nil, a), CustomerKey(nil, b)
		if !IsCustomerKey(key) || IsInteractionsKey(key) || CustomerID(key) != a {
			t.Fatalf("%q came back as %q", a, CustomerID(key))
		}
		inter := InteractionsKey(nil, a)
		if IsCustomerKey(inter) || !IsInteractionsKey(inter) || CustomerID(inter) != a {
			t.Fatalf("%q came back as %q", a, CustomerID(inter))
		}
		if (a == b) != bytes.Equal(key, other) {
			t.Fatalf("%q and %q have the keys %q and %q", a, b, key, other)
		}
	})
}

// Rows come in the order of the ids as bytes, each id once, with what is known of it.
func TestRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type known struct{ customer, interactions int }
		want := map[string]known{}
		for i, id := range rapid.SliceOfN(ids(), 0, 30).Draw(t, "ids") {
			k := rapid.IntRange(1, 3).Draw(t, "what is known")
			want[id] = known{(k & 1) * (i + 1), (k >> 1) * (i + 1)}
		}
		s := openForRapid(t)
		write(t, s, func(b *Batch) (err error) {
			for id, k := range want {
				if k.customer > 0 {
					err = errors.Join(err, b.Put(CustomerKey(nil, id), customer(k.customer)))
				}
				if k.interactions > 0 {
					err = errors.Join(err, b.Put(InteractionsKey(nil, id), interactions(k.interactions)))
				}
				err = errors.Join(err, b.Arm(state.Instant(k.customer), id))
			}
			return errors.Join(err, b.SetMark(&someMark))
		})
		v, err := s.View()
		if err != nil {
			t.Fatalf("%v", err)
		}
		var seen []string
		for row, err := range v.Rows() {
			if err != nil {
				t.Fatalf("%v", err)
			}
			var got known
			if row.Customer != nil {
				got.customer = int(row.Customer.SegmentSeq)
			}
			if row.Interactions != nil {
				got.interactions = int(row.Interactions.LastAt)
			}
			if got != want[row.ID] {
				t.Fatalf("%q: %+v, want %+v", row.ID, got, want[row.ID])
			}
			seen = append(seen, row.ID)
		}
		if !slices.IsSorted(seen) || len(seen) != len(want) {
			t.Fatalf("%d rows of %d: %q", len(seen), len(want), seen)
		}
		for range v.Rows() {
			break // a reader may stop at any row
		}
		if err := errors.Join(v.Close(), s.Close(false)); err != nil {
			t.Fatalf("%v", err)
		}
	})
}

func TestRowsEndAtAFault(t *testing.T) {
	for _, key := range [][]byte{CustomerKey(nil, "bob"), InteractionsKey(nil, "bob")} {
		s := openMem(t)
		write(t, s, func(b *Batch) error {
			return errors.Join(b.Put(CustomerKey(nil, "ana"), customer(1)), b.Put(key, []byte{state.Format}), b.Put(CustomerKey(nil, "eve"), customer(3)))
		})
		v, err := s.View()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for row, err := range v.Rows() {
			if err != nil {
				got = append(got, err.Error())
				continue
			}
			got = append(got, row.ID)
		}
		if !slices.Equal(got, []string{"ana", state.ErrCorrupt.Error()}) {
			t.Errorf("rows %q", got)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		closed(t, s)
	}
}

// TestCloseEndsViews: a store closes whatever its readers do, whose reads end at once, and there are no new ones.
func TestCloseEndsViews(t *testing.T) {
	s := openMem(t)
	write(t, s, func(b *Batch) error {
		return errors.Join(b.Put(CustomerKey(nil, "ana"), customer(1)), b.Put(CustomerKey(nil, "bob"), customer(2)), b.Put(InteractionsKey(nil, "bob"), interactions(2)))
	})
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	var faults []error
	for row, err := range v.Rows() {
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if row.ID != "ana" {
			t.Errorf("row %q of a store that is being closed", row.ID)
		}
		if err := s.Close(true); err != nil {
			t.Errorf("close: %v", err)
		}
		if row.Customer.SegmentSeq != 1 || len(row.CustomerRecord) == 0 {
			t.Errorf("the row is %+v after the store has been closed", row)
		}
	}
	if len(faults) != 1 || !errors.Is(faults[0], ErrClosed) {
		t.Errorf("the scan ended with %v", faults)
	}
	if _, err := v.Customer("ana", new(state.Customer)); !errors.Is(err, ErrClosed) {
		t.Errorf("customer: %v", err)
	}
	if _, err := v.Interactions("bob", new(state.Interactions)); !errors.Is(err, ErrClosed) {
		t.Errorf("interactions: %v", err)
	}
	for _, err := range v.Records() {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("records: %v", err)
		}
	}
	if m := v.Metrics(); m != nil {
		t.Errorf("metrics %v of a closed store", m)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.View(); !errors.Is(err, ErrClosed) || err.Error() != "the shard is being closed" {
		t.Errorf("view of a closed store: %v", err)
	}
}

// TestCloseWhileRead: a database is not closed under a read. The readers see all of it or are told why not.
func TestCloseWhileRead(t *testing.T) {
	for range 20 {
		s := openMem(t)
		const n = 3 * pageRecords
		write(t, s, func(b *Batch) (err error) {
			for i := range n {
				err = errors.Join(err, b.Put(CustomerKey(nil, fmt.Sprintf("%04d", i)), customer(i+1)))
			}
			return err
		})
		var readers sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range cap(begun) {
			readers.Go(func() {
				for first := true; ; first = false {
					v, err := s.View()
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					seen, last := 0, error(nil)
					for _, err := range v.Records() {
						if last = err; err == nil {
							seen++
						}
					}
					if !errors.Is(last, ErrClosed) && (seen != n || last != nil) {
						t.Errorf("%d records, %v", seen, last)
					}
					if err := v.Close(); err != nil {
						t.Error(err)
					}
					if first {
						begun <- struct{}{}
					}
				}
			})
		}
		for range cap(begun) {
			<-begun
		}
		if err := s.Close(false); err != nil {
			t.Errorf("close: %v", err)
		}
		readers.Wait()
	}
}

// TestPages: pages show what is there, however long they are.
func TestPages(t *testing.T) {
	s := openMem(t)
	want := map[string]int{}
	write(t, s, func(b *Batch) (err error) {
		for i := range 5*pageRecords + 7 {
			id := fmt.Sprintf("%06d", i)
			value := make([]byte, 1+i*i%3000)
			if i%400 == 0 {
				value = make([]byte, 2*pageBytes)
			}
			want[string(CustomerKey(nil, id))] = len(value)
			err = errors.Join(err, b.Put(CustomerKey(nil, id), value))
		}
		return err
	})
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	var last string
	for r, err := range v.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := want[string(r.Key)]; !ok || n != len(r.Value) || string(r.Key) <= last {
			t.Fatalf("%q after %q: %d bytes, want %d", r.Key, last, len(r.Value), n)
		}
		last = string(r.Key)
		delete(want, last)
	}
	if len(want) > 0 {
		t.Errorf("%d records are missing", len(want))
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	closed(t, s)
}
