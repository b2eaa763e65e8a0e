package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// contents are the files below a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestVerifyOfBrokenFiles damages the files of a store: verify says which shard and what, and changes nothing.
func TestVerifyOfBrokenFiles(t *testing.T) {
	w, s, _, _ := photographed(t)
	shard := w.place([]byte("c0"), townShards)
	s.stop()
	dir := filepath.Join(s.cfg.State.Dir, fmt.Sprintf("shard-%d", shard))
	verify := []string{"state", "verify", "-c", s.file, "--shard", fmt.Sprint(shard)}
	whole := contents(t, dir)
	restore := func() {
		t.Helper()
		for path, text := range whole {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	one := func(pattern string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v %v", pattern, found, err)
		}
		return found[len(found)-1]
	}
	damage := func(name, want string, hurt func(path string) error, pattern string) {
		t.Helper()
		if err := hurt(one(pattern)); err != nil {
			t.Fatal(err)
		}
		before := contents(t, dir)
		got := command(t, verify...)
		if got.code != exitFailed || !regexp.MustCompile(want).MatchString(got.err) {
			t.Errorf("%s: %+v", name, got)
		}
		if after := contents(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: verify has changed the store", name)
		}
		restore()
	}
	flip := func(path string) error {
		b := []byte(whole[path])
		for i := range min(len(b), 64) {
			b[i] ^= 0x55
		}
		return os.WriteFile(path, b, 0o600)
	}
	empty := func(path string) error { return os.WriteFile(path, nil, 0o600) }
	damage("a flipped table", `^asiduo: shard \d: read store: .* checksum mismatch`, flip, "*.sst")
	damage("a table that is gone", `^asiduo: shard \d: open store .*/shard-\d: .* file \d+ \(type sstable\) .* does not exist`, os.Remove, "*.sst")
	damage("an empty table", `^asiduo: shard \d: open store .*: object size mismatch .*: 0 \(disk\) != \d+`, empty, "*.sst")
	damage("a manifest that is gone", `^asiduo: shard \d: open store .* could not open manifest file "MANIFEST-\d+"`, os.Remove, "MANIFEST-*")
	damage("an empty manifest", `^asiduo: shard \d: open store .* malformed manifest file "MANIFEST-\d+"`, empty, "MANIFEST-*")
	if got := command(t, verify...); got.code != exitGood || !strings.Contains(got.out, ": equal\n") {
		t.Errorf("what is whole again: %+v", got)
	}
}

// TestVerifyOfBrokenChangelog writes into the changelog under a running process what it has not written itself, and holds its
// stores against that, while it runs and afterwards.
func TestVerifyOfBrokenChangelog(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	in := map[int32][]string{} // two customers of each shard
	for i := 0; len(in) < townShards || slices.ContainsFunc(slices.Collect(maps.Values(in)), func(l []string) bool { return len(l) < 2 }); i++ {
		who := fmt.Sprintf("c%d", i)
		if shard := w.place([]byte(who), townShards); len(in[shard]) < 2 {
			in[shard] = append(in[shard], who)
			w.buy(who, "o1", time.Now())
			w.expect(who, "", "new", "order")
		}
	}
	customer := func(id string) string { return string(store.CustomerKey(nil, id)) }
	for shard, c := range []struct{ key, value, want string }{
		{customer(in[0][0]), "", `: 1 differences\n  customer ` + in[0][0] + `, customer: is in the store only\n`},
		{customer(in[1][0]), string([]byte{state.Format + 1, 0, 0}), fmt.Sprintf(`^asiduo: shard 1: changelog partition 1, offset \d+: state record of format %d; this release reads up to %d: run the newer release`, state.Format+1, state.Format)},
		{customer(in[2][0]), "\x00nonsense", `^asiduo: shard 2: changelog partition 2, offset \d+: `},
		{"zzz", "x", `^asiduo: shard 3: changelog partition 3, offset \d+: unknown key: was it written by a newer release, or by somebody else\?`},
	} {
		r := &kgo.Record{Topic: "shop.changelog", Partition: int32(shard), Key: []byte(c.key), Value: []byte(c.value)}
		if c.value == "" {
			r.Value = nil // a deletion
		}
		if err := w.cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		w.buy(in[int32(shard)][1], "o2", time.Now()) // a cycle behind it
		w.expect(in[int32(shard)][1], "new", "potential_loyalist", "order")
		in[int32(shard)][0] = c.want
	}
	look := func(when string) {
		t.Helper()
		for shard := range int32(townShards) {
			want := in[shard][0]
			eventually(t, fmt.Sprintf("%s, shard %d: %s", when, shard, want), func() bool {
				got := command(t, "state", "verify", "-c", s.file, "--show-ids", "--shard", fmt.Sprint(shard))
				return got.code == exitFailed && regexp.MustCompile(want).MatchString(got.out+got.err)
			})
		}
	}
	look("running")
	s.stop()
	look("stopped")
}
