package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/asiduo/asiduo/state"
)

func publishes(t *testing.T, dir string, asOf state.Instant, in Info, want bool) {
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
	if got := files(t, dir); !slices.Equal(got, []string{"part-1.parquet"}) {
		t.Errorf("files %q", got)
	}
	first := a.write(t, dir, 0, now, in)
	left := filepath.Join(dir, "snapshots", "dt="+day, "_part-0.parquet.123.tmp") // by somebody who crashed
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

// TestPublishAgain: what replaces a part takes the snapshot back until it is published again.
func TestPublishAgain(t *testing.T) {
	a, in, dir := populate(t, 100), info(t), t.TempDir()
	in.Shards = 2
	a.write(t, dir, 0, now, in)
	a.write(t, dir, 1, now, in)
	publishes(t, dir, now, in, true)

	v := a.view(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := WritePart(ctx, dir, day, 0, now, v, in); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if !has(t, dir, successName) {
		t.Error("a part that was not written has taken the snapshot back")
	}

	a.write(t, dir, 0, now, in)
	if has(t, dir, successName) {
		t.Error("published, though a part was replaced")
	}
	publishes(t, dir, now, in, true)

	later := now + state.Day/2
	publishes(t, dir, later, in, false) // what is there is another snapshot
	a.write(t, dir, 0, later, in)
	publishes(t, dir, later, in, false) // half of it
	a.write(t, dir, 1, later, in)
	publishes(t, dir, later, in, true)
	if m := manifest(t, dir); m.AsOf != later {
		t.Errorf("manifest of %d", m.AsOf)
	}
	next := in
	next.Epoch = 2
	publishes(t, dir, later, next, false)
}

// TestPublishBlocked: the mark goes before the part does, and a part that cannot take its name leaves nothing.
func TestPublishBlocked(t *testing.T) {
	a, in, dir := populate(t, 10), info(t), t.TempDir()
	part := a.write(t, dir, 0, now, in)
	publishes(t, dir, now, in, true)
	name := filepath.Join(dir, part.File)
	if err := errors.Join(os.Remove(name), os.Mkdir(name, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := WritePart(t.Context(), dir, day, 0, now, a.view(t), in); err == nil {
		t.Error("no error")
	}
	if got := files(t, dir); !slices.Equal(got, []string{"_manifest.json", "part-0.parquet"}) {
		t.Errorf("files %q", got)
	}
}

func TestPublishForeign(t *testing.T) {
	a, in, dir := populate(t, 10), info(t), t.TempDir()
	in.Shards = 2
	a.write(t, dir, 0, now, in)
	a.write(t, dir, 1, now, in)
	fewer := in
	fewer.Shards, fewer.Epoch = 1, 2
	a.write(t, dir, 0, now, fewer)
	if ok, err := Publish(t.Context(), dir, day, now, fewer); ok || !errors.Is(err, ErrForeign) {
		t.Errorf("a part too many: %v, %v", ok, err)
	}
	other := in
	other.App = "another"
	if ok, err := Publish(t.Context(), dir, day, now, other); ok || !errors.Is(err, ErrForeign) {
		t.Errorf("another application: %v, %v", ok, err)
	}
	if has(t, dir, successName) || has(t, dir, manifestName) {
		t.Errorf("files %q", files(t, dir))
	}
}

// TestPublishTorn: a part that is not whole, or was changed, is not vouched for.
func TestPublishTorn(t *testing.T) {
	a, in, dir := populate(t, 200), info(t), t.TempDir()
	part := a.write(t, dir, 0, now, in)
	if err := os.Truncate(filepath.Join(dir, part.File), part.Bytes/2); err != nil {
		t.Fatal(err)
	}
	if ok, err := Publish(t.Context(), dir, day, now, in); ok || err == nil {
		t.Errorf("published %v, %v", ok, err)
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
	if has(t, dir, successName) {
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
