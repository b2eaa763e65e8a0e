package archive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
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
	d := stagingOf(dir, in.App)
	for _, name := range names(t, d.path) {
		if err := os.Chtimes(d.file(name), time.Now().Add(-by), time.Now().Add(-by)); err != nil {
			t.Fatal(err)
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
	if left := names(t, stagingOf(dir, in.App).path); len(left) > 0 {
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
		for range 4 {
			all.Go(func() {
				if _, err := Publish(t.Context(), dir, day, now+n, in); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
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
		if left := names(t, stagingOf(dir, in.App).path); len(left) > 0 {
			t.Fatalf("%d: %q is left", n, left)
		}
	}
}
