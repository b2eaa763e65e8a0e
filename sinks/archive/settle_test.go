package archive

import (
	"errors"
	"os"
	"testing"
	"time"
)

// TestNewerComesBack: a process that stood still puts its snapshot over a newer one. Whether it is killed before any change that it makes
// to the disk after that, or another process looks then, the newer one is there at the next look.
func TestNewerComesBack(t *testing.T) {
	defer func() { exchangeFiles = exchangeNames }()
	p, in := populate(t, 5), info(t)
	for name, exchange := range map[string]func(a, b string) error{
		"exchange": exchangeNames, "two steps": func(string, string) error { return errors.ErrUnsupported },
	} {
		for _, dies := range []bool{true, false} {
			n := 1
			for overtaken(t, p, in, n, exchange, dies) {
				n++
			}
			if n < 5 || t.Failed() {
				t.Fatalf("%s, killed %v: %d changes", name, dies, n)
			}
		}
	}
}

// overtaken publishes a snapshot while another process publishes a newer one before the two exchange their names, and has something happen
// before the n-th change of the first from then on; it says whether there was one.
func overtaken(t *testing.T, p *population, in Info, n int, exchange func(a, b string) error, dies bool) (did bool) {
	dir := t.TempDir()
	p.publish(t, dir, now, in)
	p.write(t, dir, 0, now+1, in)
	p.write(t, dir, 0, now+2, in)
	look := func() {
		t.Helper()
		if _, err := Pending(dir, in); err != nil {
			t.Errorf("change %d: look: %v", n, err)
		}
	}
	holds := func(when string) {
		t.Helper()
		if m, ok := Published(dir, day, in); !ok || m.AsOf != now+2 {
			t.Errorf("change %d, killed %v, %s: published %v as of %d", n, dies, when, ok, m.AsOf)
		}
	}
	left := n
	defer func() { step = func() error { return nil } }()
	exchangeFiles = func(a, b string) error {
		exchangeFiles = exchange
		publishes(t, dir, now+2, in, true)
		step = func() error {
			if left--; left > 0 {
				return nil
			}
			if did = true; dies {
				return errKilled
			}
			step = func() error { return nil }
			look()
			return nil
		}
		return exchange(a, b)
	}
	ok, err := Publish(t.Context(), dir, day, now+1, in)
	step = func() error { return nil }
	if ok || did && dies && !errors.Is(err, errKilled) || !(did && dies) && err != nil && !errors.Is(err, ErrOlder) {
		t.Errorf("change %d, killed %v: published %v, %v", n, dies, ok, err)
	}
	look()
	holds("right away")
	age(t, dir, in, 2*time.Hour)
	look()
	holds("after hours")
	if left := names(t, stagingOf(dir, in.App).path); len(left) > 0 {
		t.Errorf("change %d, killed %v: %q is left", n, dies, left)
	}
	return did
}

// TestPutBackWaits: what is whole is not removed while nobody can say what has its place, until it is old.
func TestPutBackWaits(t *testing.T) {
	p, in, root, other := populate(t, 5), info(t), t.TempDir(), t.TempDir()
	p.publish(t, other, now+2, in)
	newer, place := dir{local(other, folder(day))}, dir{local(root, folder(day))}
	if err := os.MkdirAll(place.path, dirMode); err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{0, 2 * time.Hour} {
		if err := newer.putBack(root, place, in.snapshot(day, now+1), age); err != nil {
			t.Fatal(err)
		}
		if _, whole := newer.published(in.snapshot(day, now+2)); whole != (age == 0) {
			t.Errorf("after %v it is there: %v", age, whole)
		}
	}
}
