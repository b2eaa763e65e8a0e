package archive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asiduo/asiduo/state"
)

var errKilled = errors.New("killed")

// killed runs a process that ends before its n-th change of the disk, and says whether it did.
func killed(n int, process func()) (dead bool) {
	defer func() { step = func() error { return nil } }()
	step = func() error {
		if n--; n <= 0 {
			dead = true
			return errKilled
		}
		return nil
	}
	process()
	return dead
}

// age lets hours pass for what lies in the staging directory.
func age(t *testing.T, dir string, in Info, by time.Duration) {
	t.Helper()
	for _, d := range []string{local(dir, staging), stagingOf(dir, in.App).path} {
		for _, name := range names(t, d) {
			file := filepath.Join(d, name)
			st, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			then := st.ModTime().Add(-by)
			if err := os.Chtimes(file, then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// renew is the whole way of a snapshot of two parts.
func (p *population) renew(ctx context.Context, dir string, asOf state.Instant, in Info) error {
	if err := Begin(dir, day, asOf, in); err != nil {
		return err
	}
	if _, err := Pending(dir, in); err != nil {
		return err
	}
	for shard := range in.Shards {
		v, err := p.View()
		if err != nil {
			return err
		}
		_, err = WritePart(ctx, dir, day, shard, asOf, v, in)
		if err := errors.Join(err, v.Close()); err != nil && !errors.Is(err, os.ErrNotExist) { // it is published
			return err
		}
	}
	ok, err := Publish(ctx, dir, day, asOf, in)
	if err == nil && !ok {
		err = errors.New("not whole")
	}
	return err
}

// TestKilledAnywhere kills a process that replaces a snapshot before each change that it makes to the disk. Readers find the old one or
// the new one, whole; the next process makes the new one, and nothing is left.
func TestKilledAnywhere(t *testing.T) {
	defer func() { exchangeFiles = exchangeNames }()
	p, in := populate(t, 20), info(t)
	in.Shards = 2
	for _, before := range []bool{true, false} {
		for name, exchange := range map[string]func(a, b string) error{
			"exchange": exchangeNames, "two steps": func(string, string) error { return errors.ErrUnsupported },
		} {
			exchangeFiles = exchange
			n := 1
			for killedAt(t, p, in, n, before, name == "two steps") {
				n++
			}
			if n < 10 {
				t.Errorf("%s: only %d changes", name, n)
			}
		}
	}
}

// killedAt kills a process before its n-th change, and says whether there was one. There is a snapshot before, or none; and perhaps none for
// a moment.
func killedAt(t *testing.T, p *population, in Info, n int, before, moment bool) bool {
	dir, later := t.TempDir(), now+state.Day/2
	if before {
		if err := p.renew(t.Context(), dir, now, in); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(when string, perhaps bool, want ...state.Instant) {
		t.Helper()
		l, err := Load(t.Context(), filepath.Join(dir, folder(day)))
		if err == nil && !slices.Contains(want, l.AsOf) || err != nil && !perhaps {
			t.Fatalf("killed before change %d (%v, %v), %s: %+v, %v", n, before, moment, when, l, err)
		}
	}
	var err error
	dead := killed(n, func() { err = p.renew(t.Context(), dir, later, in) })
	if !dead && err != nil {
		t.Fatal(err)
	}
	holds("at once", !before || moment, now, later)
	if _, err := Pending(dir, in); err != nil {
		t.Fatal(err)
	}
	holds("after a look", !before, now, later)
	age(t, dir, in, 2*time.Hour)
	if err := p.renew(t.Context(), dir, later, in); err != nil {
		t.Fatal(err)
	}
	if _, err := Pending(dir, in); err != nil {
		t.Fatal(err)
	}
	holds("and again", false, later)
	if left := append(names(t, stagingOf(dir, in.App).path), names(t, local(dir, staging))...); !slices.Equal(left, []string{in.App}) {
		t.Fatalf("killed before change %d: %q is left", n, left)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"_SUCCESS", "_manifest.json", "part-0.parquet", "part-1.parquet"}) {
		t.Fatalf("files %q", got)
	}
	return dead
}

// TestPending are the snapshots that processes still have to write their parts of.
func TestPending(t *testing.T) {
	p, in, dir := populate(t, 5), info(t), t.TempDir()
	in.Shards = 2
	pending := func(want ...state.Instant) {
		t.Helper()
		list, err := Pending(dir, in)
		var got []state.Instant
		for _, s := range list {
			got = append(got, s.AsOf)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("pending %v, %v; want %v", got, err, want)
		}
	}
	progress := func(asOf state.Instant, open, whole bool, missing ...int32) {
		t.Helper()
		if is, err := Look(dir, day, asOf, in); err != nil || is.Open != open || is.Whole != whole || !slices.Equal(is.Missing, missing) {
			t.Errorf("progress %+v, %v", is, err)
		}
	}
	pending()
	for _, asOf := range []state.Instant{now + 1, now, now + 2, now + 1} {
		if err := Begin(dir, day, asOf, in); err != nil {
			t.Fatal(err)
		}
	}
	pending(now+2, now+1, now)
	p.write(t, dir, 1, now+1, in)
	progress(now+1, true, false, 0)
	other := in
	other.Epoch = 2
	p.write(t, dir, 1, now+2, other)
	progress(now+2, true, false, 0, 1)
	p.write(t, dir, 0, now+1, in)
	progress(now+1, true, false)
	publishes(t, dir, now+1, in, true)
	progress(now+1, false, true)
	if _, err := Look(dir, day, now, in); !errors.Is(err, ErrOlder) {
		t.Errorf("an older one: %v", err)
	}
	pending(now + 2)
	age(t, dir, in, patience+time.Minute)
	pending()

	// One that has lost a file is none.
	if err := os.Remove(filepath.Join(dir, folder(day), partName(1))); err != nil {
		t.Fatal(err)
	}
	progress(now+1, false, false)
	if err := Begin(dir, day, now+1, in); err != nil {
		t.Fatal(err)
	}
	pending(now + 1)
}

// TestPublishTogether: of several processes that publish one snapshot at once, one does, and the old one does not come back.
func TestPublishTogether(t *testing.T) {
	defer func() { exchangeFiles = exchangeNames }()
	p, in, dir := populate(t, 5), info(t), t.TempDir()
	for n := range state.Instant(40) {
		if n == 20 {
			exchangeFiles = func(string, string) error { return errors.ErrUnsupported }
		}
		p.write(t, dir, 0, now+n, in)
		var all sync.WaitGroup
		var published atomic.Bool
		for range 4 {
			all.Go(func() {
				ok, err := Publish(t.Context(), dir, day, now+n, in)
				if err != nil {
					t.Error(err)
				}
				if ok {
					published.Store(true)
				}
				if _, err := Pending(dir, in); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		l, err := Load(t.Context(), filepath.Join(dir, folder(day)))
		if err != nil || l.AsOf != now+n {
			t.Fatalf("%d: %+v, %v", n, l, err)
		}
		if got := files(t, dir); !published.Load() || !slices.Equal(got, []string{"_SUCCESS", "_manifest.json", "part-0.parquet"}) {
			t.Fatalf("%d: published %v: %q", n, published.Load(), got)
		}
		if left := names(t, stagingOf(dir, in.App).path); len(left) > 0 {
			t.Fatalf("%d: %q is left", n, left)
		}
	}
}

// TestPublishBetween: whatever another process does before any change that one who publishes makes to the disk, the newest snapshot is there,
// whole, and nobody fails.
func TestPublishBetween(t *testing.T) {
	defer func() { exchangeFiles = exchangeNames }()
	p, q, in := populate(t, 5), populate(t, 6), info(t)
	for name, exchange := range map[string]func(a, b string) error{
		"exchange": exchangeNames, "two steps": func(string, string) error { return errors.ErrUnsupported },
	} {
		exchangeFiles = exchange
		for _, before := range []bool{true, false} {
			for other, does := range map[string]func(dir string) error{
				"publishes it too": func(dir string) error { _, err := Publish(t.Context(), dir, day, now+1, in); return err },
				"publishes a newer one": func(dir string) error {
					ok, err := Publish(t.Context(), dir, day, now+2, in)
					if err == nil && !ok {
						err = errors.New("not published")
					}
					return err
				},
				"replaces a part, and looks": func(dir string) error {
					_, err := WritePart(t.Context(), dir, day, 0, now+1, q.view(t), in)
					if errors.Is(err, fs.ErrNotExist) {
						err = nil
					}
					_, looked := Pending(dir, in)
					return errors.Join(err, looked)
				},
			} {
				n := 1
				for publishedBetween(t, p, in, n, before, does, other == "publishes a newer one") {
					n++
				}
				if n < 8 || t.Failed() {
					t.Fatalf("%s, another one %s, %v: %d changes", name, other, before, n)
				}
			}
		}
	}
}

// publishedBetween publishes a snapshot while another process does something before the n-th change, and says whether there was one.
func publishedBetween(t *testing.T, p *population, in Info, n int, before bool, other func(dir string) error, newer bool) (did bool) {
	dir, want := t.TempDir(), now+1
	if before {
		p.publish(t, dir, now, in)
	}
	p.write(t, dir, 0, now+1, in)
	if newer {
		p.write(t, dir, 0, now+2, in)
		want = now + 2
	}
	left := n
	defer func() { step = func() error { return nil } }()
	step = func() error {
		if left--; left != 0 {
			return nil
		}
		did = true
		if err := other(dir); err != nil {
			t.Errorf("change %d: the other: %v", n, err)
		}
		return nil
	}
	ok, err := Publish(t.Context(), dir, day, now+1, in)
	step = func() error { return nil }
	if err != nil && !(newer && errors.Is(err, ErrOlder)) {
		t.Errorf("change %d: %v, %v", n, ok, err)
	}
	if !ok && !newer { // a part was replaced
		publishes(t, dir, now+1, in, true)
	}
	if newer && !did {
		return false
	}
	if l, err := Load(t.Context(), filepath.Join(dir, folder(day))); err != nil || l.AsOf != want {
		t.Errorf("change %d: published %v; there is %+v, %v", n, ok, l, err)
	}
	age(t, dir, in, 2*time.Hour)
	if _, err := Pending(dir, in); err != nil {
		t.Error(err)
	}
	if got, left := files(t, dir), names(t, stagingOf(dir, in.App).path); len(got) != 3 || len(left) > 0 {
		t.Errorf("change %d: published %q, left %q", n, got, left)
	}
	return did
}

// TestClocksDiffer: how old a snapshot is goes by the clock of the disk. That of the machine is that of the bubble: decades behind.
func TestClocksDiffer(t *testing.T) {
	p, in, dir := populate(t, 5), info(t), t.TempDir()
	p.write(t, dir, 0, now, in)
	p.publish(t, dir, now+1, in)
	p.write(t, dir, 0, now+2, in)
	synctest.Test(t, func(t *testing.T) {
		if list, err := Pending(dir, in); len(list) != 1 || err != nil {
			t.Errorf("pending %v, %v", list, err)
		}
		d := stage(dir, in.snapshot(day, now+2))
		age(t, dir, in, 2*leftover)
		if err := d.touch(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := d.take(); err != nil {
			t.Fatal(err)
		}
		for _, by := range []time.Duration{0, 2 * takes} {
			age(t, dir, in, by)
			if under, err := underWay(dir, in.snapshot(day, now+2)); under != (by == 0) || err != nil {
				t.Errorf("%v old: under way %v, %v", by, under, err)
			}
		}
		age(t, dir, in, 2*leftover)
		if _, err := Pending(dir, in); err != nil {
			t.Error(err)
		}
		if left := names(t, stagingOf(dir, in.App).path); len(left) > 0 {
			t.Errorf("%q is left", left)
		}
	})
}
