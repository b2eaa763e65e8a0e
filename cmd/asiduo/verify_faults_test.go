package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
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
	tree := os.DirFS(dir)
	if err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(tree, name)
		all[name] = string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// inTopic is all that lies in a topic, by partition and offset, that of transactions which never were too.
func (w *town) inTopic(topic string) map[string]string {
	w.t.Helper()
	_, adm := adminOf(w.t, w.broker)
	ends, err := adm.ListEndOffsets(w.t.Context(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.broker), kgo.ConsumeTopics(topic), kgo.KeepControlRecords())
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	all, next := map[string]string{}, map[int32]int64{}
	for partition, end := range ends[topic] {
		for next[partition] < end.Offset {
			fetched := cl.PollFetches(w.t.Context())
			if err := fetched.Err(); err != nil {
				w.t.Fatal(err)
			}
			for r := range fetched.RecordsAll() {
				next[r.Partition] = r.Offset + 1
				all[fmt.Sprintf("%d@%d", r.Partition, r.Offset)] = fmt.Sprintf("%v %q %q", r.Timestamp, r.Key, r.Value)
			}
		}
	}
	return all
}

// untouched is verify on a stopped process, which leaves the data directory and the changelog as they are.
func (w *town) untouched(s *service, args ...string) told {
	w.t.Helper()
	dir, log, temp := contents(w.t, s.cfg.State.Dir), w.inTopic("shop.changelog"), w.t.TempDir()
	got := command(w.t, append([]string{"state", "verify", "-c", s.file, "--temp", temp}, args...)...)
	if is := contents(w.t, s.cfg.State.Dir); !maps.Equal(is, dir) {
		w.t.Errorf("verify has changed the data directory: %q, was %q", slices.Sorted(maps.Keys(is)), slices.Sorted(maps.Keys(dir)))
	}
	if is := w.inTopic("shop.changelog"); len(log) == 0 || !maps.Equal(is, log) {
		w.t.Errorf("verify has changed the changelog: %d records, were %d", len(is), len(log))
	}
	if left := contents(w.t, temp); len(left) > 0 {
		w.t.Errorf("verify leaves %q", slices.Sorted(maps.Keys(left)))
	}
	return got
}

// settled is a town whose process has the orders of some customers in its stores, and c0 in the shard that is returned.
func settled(t *testing.T) (w *town, s *service, shard int32) {
	t.Helper()
	w = newTown(t)
	s = w.run()
	s.ready(townShards)
	for i := range 8 {
		who := fmt.Sprintf("c%d", i)
		w.buy(who, "o1", time.Now())
		w.expect(who, "", "new", "order")
	}
	eventually(t, "all are in the stores", func() bool { return strings.Count(command(t, "state", "scan", "-c", s.file).out, "\n") == 8 })
	return w, s, w.place([]byte("c0"), townShards)
}

// repair is how verify ends when some of the stores are not what they should be.
func (s *service) repair(some, of int) string {
	return fmt.Sprintf("asiduo: %d of %d stores differ from the changelog, which is what counts. To repair one, stop its process, remove its directory (%s/shard-N), "+
		"and start the process: it is built again from the changelog. Keep a copy for whoever looks for the cause\n", some, of, s.cfg.State.Dir)
}

// TestVerifyDamagedStore: what is wrong with the files of one store is said of that store, and the others are held against
// the changelog all the same.
func TestVerifyDamagedStore(t *testing.T) {
	w, s, shard := settled(t)
	s.stop()
	dir := filepath.Join(s.cfg.State.Dir, fmt.Sprintf("shard-%d", shard))
	flip := func(file string) error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(file, b, 0o600)
	}
	alone := func(marker string) error { // neither manifest, table nor log is left
		lost, err := filepath.Glob(filepath.Join(filepath.Dir(marker), "[M0-9]*"))
		for _, file := range lost {
			err = errors.Join(err, os.Remove(file))
		}
		return err
	}
	for _, c := range []struct {
		files  string
		damage func(string) error
		want   string
	}{
		{"*.sst", flip, `read store: pebble: file \d+: block \d+/\d+: crc32c checksum mismatch \w+ != \w+`},
		{"*.sst", os.Remove, `open store DIR: L0: \d+: file \d+ \(type sstable\) unknown to the objstorage provider: file does not exist`},
		{"*.sst", func(file string) error { return os.Truncate(file, 100) }, `open store DIR: L0: \d+: object size mismatch .*`},
		{"MANIFEST-*", os.Remove, `open store DIR: pebble: could not open manifest file "MANIFEST-\d+" for DB "DIR": open DIR/MANIFEST-\d+: no such file or directory`},
		{"marker.manifest.*", os.Remove, `open store DIR: dirname="DIR": pebble: database does not exist`},
		{"marker.manifest.*", alone, `open store DIR: pebble: could not open manifest file "MANIFEST-\d+" for DB "DIR": open DIR/MANIFEST-\d+: no such file or directory`},
	} {
		kept := filepath.Join(t.TempDir(), "kept")
		if err := os.CopyFS(kept, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		found, err := filepath.Glob(filepath.Join(dir, c.files))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %q %v", c.files, found, err)
		}
		if err := c.damage(found[0]); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("(?m)^shard %d: the store is damaged: %s$", shard, strings.ReplaceAll(c.want, "DIR", regexp.QuoteMeta(dir)))
		got := w.untouched(s)
		if got.code != exitFailed || !regexp.MustCompile(want).MatchString(got.out) || strings.Count(got.out, ": equal\n") != townShards-1 || got.err != s.repair(1, townShards) {
			t.Errorf("%s: got %d %s%s\nwant %s", c.files, got.code, got.out, got.err, want)
		}
		if got := w.untouched(s, "--shard", fmt.Sprint((shard+1)%townShards)); got.code != exitGood {
			t.Errorf("%s: another store: %+v", c.files, got)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(kept, dir); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.untouched(s); got.code != exitGood {
		t.Errorf("put back: %+v", got)
	}
	never := filepath.Join(s.cfg.State.Dir, "shard-9") // killed before there was a database in it
	if err := os.Mkdir(never, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := w.untouched(s, "--shard", "9"); got.code != exitGood || got.out != "shard 9: the store is empty\n" {
		t.Errorf("a store that was never made: %+v", got)
	}
	if err := os.Remove(never); err != nil {
		t.Fatal(err)
	}
	refused(t, exitFailed, fmt.Sprintf("shard 9: no instance answers at admin.listen (%s), and data directory %s does not hold it", s.admin, s.cfg.State.Dir), "state", "verify", "-c", s.file, "--shard", "9")
}

// interrupter is an output at which somebody presses Ctrl-C when the first line has come.
type interrupter struct{ press context.CancelFunc }

func (i interrupter) Write(b []byte) (int, error) {
	i.press()
	return len(b), nil
}

// TestVerifyInterrupted: who has not looked at all shards does not say that all is well.
func TestVerifyInterrupted(t *testing.T) {
	_, s, _ := settled(t)
	s.stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := newRoot()
	cmd.SetArgs([]string{"state", "verify", "-c", s.file})
	cmd.SetOut(interrupter{cancel})
	cmd.SetErr(io.Discard)
	if err := cmd.ExecuteContext(ctx); err == nil || err.Error() != "shards 1, 2, 3: context canceled" {
		t.Errorf("got %v", err)
	}
}

// TestVerifyUnreadableChangelog: a record of the changelog that nobody can read is said by its offset, before the place of the
// store and after it, where the next owner will meet it.
func TestVerifyUnreadableChangelog(t *testing.T) {
	records := [][]byte{store.CustomerKey(nil, "somebody"), store.InteractionsKey(nil, "somebody")}
	for _, c := range []struct {
		name, value, want string
		keys              [][]byte
	}{
		{"corrupt", "\x01", "corrupt state record", records},
		{"newer", string([]byte{state.Format + 1, 0, 0}), fmt.Sprintf("state record of format %d; this release reads up to %d: run the newer release", state.Format+1, state.Format), records},
		{"unknown", "x", "unknown key: was it written by a newer release, or by somebody else?", [][]byte{[]byte("zzz")}},
		{"no checkpoint", "{", "checkpoint is not readable: unexpected end of JSON input", [][]byte{[]byte("checkpoint")}},
	} {
		for _, key := range c.keys {
			for _, before := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s %c before=%v", c.name, key[0], before), func(t *testing.T) {
					w, s, shard := settled(t)
					if !before {
						s.stop()
					}
					r := &kgo.Record{Topic: "shop.changelog", Partition: shard, Key: key, Value: []byte(c.value)}
					if err := w.cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
						t.Fatal(err)
					}
					if before { // the place of the store moves beyond it
						w.buy("c0", "o2", time.Now())
						w.expect("c0", "new", "potential_loyalist", "order")
						s.stop()
					}
					got := w.untouched(s)
					want := fmt.Sprintf("asiduo: shard %d: changelog partition %d, offset %d: %s\n", shard, shard, r.Offset, c.want)
					if got.code != exitFailed || got.err != want || strings.Count(got.out, ": equal\n") != townShards-1 {
						t.Errorf("got %d %s%s\nwant 1 %s", got.code, got.out, got.err, want)
					}
				})
			}
		}
	}
}

// TestVerifyRunning: a process that runs is asked, is not disturbed, and its directory is not touched.
func TestVerifyRunning(t *testing.T) {
	w, s, shard := settled(t)
	states := func() map[string]string { // without what the process writes of its own accord
		t.Helper()
		all := w.inTopic("shop.changelog")
		maps.DeleteFunc(all, func(_, r string) bool {
			return strings.Contains(r, ` "checkpoint" `) || strings.Contains(r, ` "\x00\x00\x00\x01" `)
		})
		return all
	}
	verify := func() told {
		t.Helper()
		log, state := states(), command(t, "state", "scan", "-c", s.file).out
		got := command(t, "state", "verify", "-c", s.file)
		if is := states(); len(log) == 0 || !maps.Equal(is, log) {
			t.Errorf("verify has changed the changelog: %d records, were %d", len(is), len(log))
		}
		if is := command(t, "state", "scan", "-c", s.file).out; is != state {
			t.Errorf("verify has changed the state:\n%swas\n%s", is, state)
		}
		s.ready(townShards)
		return got
	}
	if got := verify(); got.code != exitGood || strings.Count(got.out, "\n") != townShards {
		t.Errorf("equal: %+v", got)
	}
	s.stop()
	s.spoil(shard, func(_ *store.Store, b *store.Batch) { // restore begins behind what the store has
		if err := b.Put(store.CustomerKey(nil, "c0"), nil); err != nil {
			t.Fatal(err)
		}
	})
	s = w.again(s.file)
	s.ready(townShards)
	const differing = `(?m)^shard \d .*: 1 differences\n  customer #\w+, customer: is in the changelog only$`
	if got := verify(); got.code != exitFailed || strings.Count(got.out, ": equal\n") != townShards-1 || !regexp.MustCompile(differing).MatchString(got.out) || got.err != s.repair(1, townShards) {
		t.Errorf("differing: %+v", got)
	}
	// Shards that are not served, before and after it, hide nothing, and are told together.
	s.stop()
	for _, n := range []int32{shard - 1, shard + 1} {
		if err := w.cl.ProduceSync(t.Context(), &kgo.Record{Topic: "shop.changelog", Partition: n, Key: []byte("zzz"), Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	s = w.again(s.file)
	eventually(t, "two are stopped", func() bool {
		_, body, _ := s.ask(http.MethodGet, s.admin, "/v1/shards")
		return strings.Count(body, `"stopped"`) == 2 && strings.Count(body, `"running"`) == townShards-2
	})
	unserved := fmt.Sprintf("(?s)^asiduo: shards %d, %d: the instance at \\S+ answers 503 Service Unavailable: {[^\n]*}\n%s", shard-1, shard+1, regexp.QuoteMeta(strings.TrimPrefix(s.repair(1, townShards), "asiduo: ")))
	if got := command(t, "state", "verify", "-c", s.file); got.code != exitFailed || strings.Count(got.out, ": equal\n") != townShards-3 || !regexp.MustCompile(differing).MatchString(got.out) || !regexp.MustCompile(unserved).MatchString(got.err) {
		t.Errorf("got %d %s%s\nwant %s", got.code, got.out, got.err, unserved)
	}
	// Who does not answer, and runs, has the directory.
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	deaf := written(t, "asiduo.yaml", strings.Replace(string(text), "admin: {listen: \""+s.admin+"\"}", "admin: {listen: \"\"}", 1))
	refusedLike(t, `shards 0, 1, 2, 3: no instance answers at admin\.listen \(\): data directory \S+ is in use by another process: .*`, "state", "verify", "-c", deaf)
	s.stop()
}
