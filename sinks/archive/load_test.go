package archive

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/asiduo/asiduo/state/store"
)

// TestLoad: what is read from a snapshot are the bytes of the store, under its keys.
func TestLoad(t *testing.T) {
	p, in, dir := populate(t, 2500), info(t), t.TempDir()
	p.write(t, dir, 0, now, in)
	publishes(t, dir, now, in, true)
	l, err := Load(t.Context(), filepath.Join(dir, "snapshots", "dt="+day))
	if err != nil {
		t.Fatal(err)
	}
	if l.Parts[0].Made.Currency != "EUR" || len(l.Digest) != 64 || l.Rows != 2500 {
		t.Errorf("loaded %+v", l)
	}
	m, _, err := p.Mark()
	if err != nil {
		t.Fatal(err)
	}
	m.Owner = ""
	if c := l.Parts[0].Checkpoint(); !reflect.DeepEqual(c, m.Checkpoint) {
		t.Errorf("checkpoint %+v\nwant %+v", c, m.Checkpoint)
	}
	for i, v := range reflect.ValueOf(m.Checkpoint).Fields() {
		if v.IsZero() && i.Name != "Owner" {
			t.Errorf("the checkpoint of this test has no %s", i.Name)
		}
	}
	got, want := map[string]string{}, map[string]string{}
	for r, err := range l.Records(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		got[string(r.Key)] = string(r.Value)
	}
	for _, id := range p.ids {
		for _, key := range [][]byte{store.CustomerKey(nil, id), store.InteractionsKey(nil, id)} {
			if b, ok, err := p.Get(key, nil); err != nil {
				t.Fatal(err)
			} else if ok {
				want[string(key)] = string(b)
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
}

// TestLoadRefuses are directories that are no snapshot to import.
func TestLoadRefuses(t *testing.T) {
	in := info(t)
	p := populate(t, 20)
	for _, c := range []struct {
		want  string
		spoil func(path string) error
	}{
		{"snapshot PATH: it has no _SUCCESS: it is not whole, or no snapshot", func(path string) error { return os.Remove(filepath.Join(path, successName)) }},
		{"snapshot PATH: read manifest: open PATH/_manifest.json: no such file or directory", func(path string) error { return os.Remove(filepath.Join(path, manifestName)) }},
		{"snapshot PATH: read manifest: unexpected end of JSON input", func(path string) error { return os.Truncate(filepath.Join(path, manifestName), 10) }},
		{"snapshot PATH: its format 2 is newer than this release, which knows 1", rewrite(func(m *Manifest) { m.Format = 2 })},
		{"snapshot PATH: the manifest lists 1 parts of 2 shards", rewrite(func(m *Manifest) { m.Shards = 2 })},
		{"snapshot PATH: the manifest lists shard 7 in the place of 0", rewrite(func(m *Manifest) { m.Parts[0].Shard = 7 })},
		{"snapshot PATH: it was written by a release that did not keep the stored records: take one of a newer release", rewrite(func(m *Manifest) { m.Parts[0].Made = store.Made{} })},
		{"snapshot PATH: part-0.parquet: open PATH/part-0.parquet: no such file or directory", func(path string) error { return os.Remove(filepath.Join(path, partName(0))) }},
		{"snapshot PATH: part-0.parquet: it is not the file of the manifest: SHA-256 ", rewrite(func(m *Manifest) { m.Parts[0].SHA256 = "no" })},
		{"snapshot PATH: part-0.parquet: ", func(path string) error { return os.Truncate(filepath.Join(path, partName(0)), 1000) }},
	} {
		dir := t.TempDir()
		p.write(t, dir, 0, now, in)
		publishes(t, dir, now, in, true)
		path := filepath.Join(dir, "snapshots", "dt="+day)
		if err := c.spoil(path); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(t.Context(), path); err == nil || !strings.HasPrefix(err.Error(), strings.ReplaceAll(c.want, "PATH", path)) {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// TestLoadThenSpoilt: a part that has changed since the snapshot was opened is not read.
func TestLoadThenSpoilt(t *testing.T) {
	p, in, dir := populate(t, 20), info(t), t.TempDir()
	p.write(t, dir, 0, now, in)
	publishes(t, dir, now, in, true)
	path := filepath.Join(dir, "snapshots", "dt="+day)
	l, err := Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	p.publish(t, dir, now+1, in)
	want := "snapshot " + path + ": part-0.parquet: it is not the file of the manifest: SHA-256 "
	for r, err := range l.Records(t.Context(), 0) {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Fatalf("got  %v %v\nwant %s", r, err, want)
		}
	}
}

// rewrite changes the manifest.
func rewrite(change func(*Manifest)) func(path string) error {
	return func(path string) error {
		file := filepath.Join(path, manifestName)
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var m Manifest
		if err := json.Unmarshal(text, &m); err != nil {
			return err
		}
		change(&m)
		if text, err = json.Marshal(m); err != nil {
			return err
		}
		return os.WriteFile(file, text, 0o600)
	}
}
