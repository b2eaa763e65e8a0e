package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/asiduo/asiduo/state"
)

func publishes(t testing.TB, dir string, asOf state.Instant, in Info, want bool) {
	t.Helper()
	if ok, err := Publish(t.Context(), dir, day, asOf, in); ok != want || err != nil {
		t.Fatalf("published %v, %v; want %v", ok, err, want)
	}
}

func has(t *testing.T, dir, name string) bool {
	t.Helper()
	return slices.Contains(files(t, dir), name)
}

func manifest(t *testing.T, dir string) (m Manifest) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "snapshots", "dt="+day, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPublish(t *testing.T) {
	a, b, in, dir := populate(t, 900), populate(t, 301), info(t), t.TempDir()
	in.Shards = 2
	publishes(t, dir, now, in, false) // not even a directory
	second := b.write(t, dir, 1, now, in)
	publishes(t, dir, now, in, false)
	if got := staged(t, dir, now, in); !slices.Equal(got, []string{"part-1.parquet"}) || files(t, dir) != nil {
		t.Errorf("files %q, %q", got, files(t, dir))
	}
	first := a.write(t, dir, 0, now, in)
	left := stage(dir, in.snapshot(day, now)).file("_part-0.parquet.123.tmp") // by somebody who crashed
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	publishes(t, dir, now, in, true)
	if got := files(t, dir); !slices.Equal(got, []string{"_SUCCESS", "_manifest.json", "part-0.parquet", "part-1.parquet"}) {
		t.Errorf("files %q", got)
	}
	m := manifest(t, dir)
	if m.Snapshot != in.snapshot(day, now) || m.Time != "2026-11-24T00:00:00.000Z" {
		t.Errorf("manifest %+v", m)
	}
	if m.Rows != 1201 || m.Bytes != first.Bytes+second.Bytes || len(m.Parts) != 2 {
		t.Errorf("manifest %+v", m)
	}
	first.AsOf, second.AsOf = 0, 0 // is the snapshot's
	if !reflect.DeepEqual(m.Parts, []Part{first, second}) {
		t.Errorf("parts %+v; want %+v", m.Parts, []Part{first, second})
	}
	lifetime, rows := state.Money(0), int64(0)
	for _, p := range []*population{a, b} {
		for _, facts := range p.facts {
			_, net := counted(facts, 0)
			lifetime += net
		}
	}
	for n := range maps.Values(m.Segments) {
		rows += n
	}
	if got := decimalOf(t, m.NetRevenueLifetime); got != lifetime || rows != m.Rows {
		t.Errorf("net revenue %s, want %d cents; %d rows in segments", m.NetRevenueLifetime, lifetime, rows)
	}
	publishes(t, dir, now, in, true) // again: nothing to do
}

// decimalOf is text with two digits as cents.
func decimalOf(t *testing.T, text string) (m state.Money) {
	t.Helper()
	for i, c := range text {
		if c == '.' {
			if i != len(text)-3 {
				t.Fatalf("amount %q", text)
			}
			continue
		}
		m = 10*m + state.Money(c-'0')
	}
	return m
}

// TestPublishAgain: what is published stays as it is until another one is whole.
func TestPublishAgain(t *testing.T) {
	a, in, dir := populate(t, 100), info(t), t.TempDir()
	in.Shards = 2
	holds := func(want state.Instant) {
		t.Helper()
		l, err := Load(t.Context(), filepath.Join(dir, folder(day)))
		if err != nil || l.AsOf != want {
			t.Fatalf("the snapshot of the day: %+v, %v; want %d", l, err, want)
		}
	}
	a.write(t, dir, 0, now, in)
	a.write(t, dir, 1, now, in)
	publishes(t, dir, now, in, true)
	holds(now)

	v := a.view(t)
	if _, err := WritePart(t.Context(), dir, day, 0, now, v, in); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a part of a snapshot that is published: %v", err)
	}
	later := now + state.Day/2
	publishes(t, dir, later, in, false) // what is there is another snapshot
	a.write(t, dir, 0, later, in)
	publishes(t, dir, later, in, false) // half of it
	holds(now)
	a.write(t, dir, 1, later, in)
	holds(now)
	publishes(t, dir, later, in, true)
	holds(later)
	for _, asOf := range []state.Instant{now, later - 1} {
		if err := Begin(dir, day, asOf, in); !errors.Is(err, ErrOlder) {
			t.Errorf("begun again as of %d: %v", asOf, err)
		}
	}
	if err := Begin(dir, day, later, in); err != nil {
		t.Error(err)
	}
	if list, err := Pending(dir, in); len(list) > 0 || err != nil {
		t.Errorf("pending %v, %v", list, err)
	}
	next := in
	next.Epoch = 2
	publishes(t, dir, later, next, false)
}

// TestPublishBlocked: what cannot take its place leaves nothing but itself, and what is published stays.
func TestPublishBlocked(t *testing.T) {
	a, in, dir := populate(t, 10), info(t), t.TempDir()
	a.publish(t, dir, now, in)
	a.write(t, dir, 0, now+1, in)
	exchangeFiles = func(string, string) error { return os.ErrPermission }
	defer func() { exchangeFiles = exchangeNames }()
	for range 3 {
		if ok, err := Publish(t.Context(), dir, day, now+1, in); ok || !errors.Is(err, os.ErrPermission) {
			t.Errorf("published %v, %v", ok, err)
		}
		if got := names(t, stagingOf(dir, in.App).path); len(got) != 1 || manifest(t, dir).AsOf != now || !has(t, dir, successName) {
			t.Errorf("staged %q, published %q", got, files(t, dir))
		}
		if got := staged(t, dir, now+1, in); slices.Contains(got, successName) { // parts may be replaced from now on
			t.Errorf("staged with a mark: %q", got)
		}
	}
	exchangeFiles = exchangeNames
	publishes(t, dir, now+1, in, true)
}

// TestPublishForeign: what is of another application, or of nobody, is not replaced.
func TestPublishForeign(t *testing.T) {
	a, in, dir := populate(t, 10), info(t), t.TempDir()
	in.Shards = 2
	a.write(t, dir, 0, now, in)
	a.write(t, dir, 1, now, in)
	publishes(t, dir, now, in, true)
	other := in
	other.App, other.Shards = "another", 1
	a.write(t, dir, 0, now+1, other)
	if ok, err := Publish(t.Context(), dir, day, now+1, other); ok || !errors.Is(err, ErrForeign) {
		t.Errorf("another application: %v, %v", ok, err)
	}
	if m := manifest(t, dir); m.App != in.App || !has(t, dir, successName) {
		t.Errorf("files %q", files(t, dir))
	}
	fewer := in
	fewer.Shards, fewer.Epoch = 1, 2
	a.write(t, dir, 0, now, fewer)
	note := filepath.Join(dir, folder(day), "notes.txt")
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if ok, err := Publish(t.Context(), dir, day, now, fewer); ok || !errors.Is(err, ErrForeign) {
		t.Errorf("a file of somebody: %v, %v", ok, err)
	}
	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}
	publishes(t, dir, now, fewer, true)
	if got := files(t, dir); !slices.Equal(got, []string{"_SUCCESS", "_manifest.json", "part-0.parquet"}) {
		t.Errorf("files %q", got)
	}
	a.write(t, dir, 0, now, in)
	if err := os.WriteFile(stage(dir, in.snapshot(day, now)).file("part-7.parquet"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.write(t, dir, 1, now, in)
	if ok, err := Publish(t.Context(), dir, day, now, in); ok || !errors.Is(err, ErrForeign) {
		t.Errorf("a part too many: %v, %v", ok, err)
	}
}

// TestPublishTorn: a part that is not whole, or was changed, is not vouched for.
func TestPublishTorn(t *testing.T) {
	a, in, dir := populate(t, 200), info(t), t.TempDir()
	part := a.write(t, dir, 0, now, in)
	if err := os.Truncate(stage(dir, in.snapshot(day, now)).file(partName(0)), part.Bytes/2); err != nil {
		t.Fatal(err)
	}
	if ok, err := Publish(t.Context(), dir, day, now, in); ok || err == nil {
		t.Errorf("published %v, %v", ok, err)
	}
	if p, err := Look(dir, day, now, in); err != nil || !slices.Equal(p.Missing, []int32{0}) {
		t.Errorf("progress %+v, %v", p, err)
	}
}

// TestPublishRace: a part that is replaced while another is read does not get the digest of the one before.
func TestPublishRace(t *testing.T) {
	a, b, in, dir := populate(t, 100), populate(t, 101), info(t), t.TempDir()
	a.write(t, dir, 0, now, in)
	replace := &hook{t.Context(), 2, func() error { b.write(t, dir, 0, now, in); return nil }} // the part is read by now
	if ok, err := Publish(replace, dir, day, now, in); ok || err != nil {
		t.Errorf("published %v, %v", ok, err)
	}
	if files(t, dir) != nil {
		t.Error("published a manifest that is not true")
	}
	publishes(t, dir, now, in, true)
	m := manifest(t, dir)
	data, err := os.ReadFile(filepath.Join(dir, m.Parts[0].File))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(data); m.Parts[0].SHA256 != hex.EncodeToString(sum[:]) || m.Rows != 101 {
		t.Errorf("manifest %+v", m)
	}
}

// TestPublishForeignUnread: where a snapshot cannot take its place, its parts are not read for it.
func TestPublishForeignUnread(t *testing.T) {
	a, in, dir := populate(t, 10), info(t), t.TempDir()
	a.publish(t, dir, now, in)
	a.write(t, dir, 0, now+1, in)
	if err := os.WriteFile(filepath.Join(dir, folder(day), "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	read := &hook{t.Context(), 1, func() error { t.Error("a part is read"); return nil }}
	if ok, err := Publish(read, dir, day, now+1, in); ok || !errors.Is(err, ErrForeign) {
		t.Errorf("published %v, %v", ok, err)
	}
}

// TestPublishLasts: the old snapshot goes only once the new one is sure to be there after a power cut.
func TestPublishLasts(t *testing.T) {
	a, in, dir := populate(t, 10), info(t), t.TempDir()
	a.publish(t, dir, now, in)
	a.write(t, dir, 0, now+1, in)
	lasts := 0
	syncFile = func(f *os.File) error {
		if l, err := Load(t.Context(), filepath.Join(dir, folder(day))); f.Name() == filepath.Join(dir, "snapshots") && err == nil && l.AsOf == now+1 {
			lasts++
			if left := names(t, stagingOf(dir, in.App).path); len(left) != 1 || len(names(t, stagingOf(dir, in.App).file(left[0]))) != 3 {
				t.Errorf("the old one is gone: %q", left)
			}
		}
		return f.Sync()
	}
	defer func() { syncFile = (*os.File).Sync }()
	publishes(t, dir, now+1, in, true)
	if lasts != 1 {
		t.Errorf("made to last %d times", lasts)
	}
}

// TestBeginAgain: an older snapshot takes the place of a newer one if that is asked for.
func TestBeginAgain(t *testing.T) {
	a, in, dir := populate(t, 10), info(t), t.TempDir()
	a.publish(t, dir, now+1, in)
	if err := BeginAgain(dir, day, now, in); err != nil {
		t.Fatal(err)
	}
	a.publish(t, dir, now, in)
	if m := manifest(t, dir); m.AsOf != now || !has(t, dir, successName) {
		t.Errorf("files %q as of %d", files(t, dir), m.AsOf)
	}
}
