package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDoctorOfStores: each store is looked at by itself, and one that was never made is empty for all who read it.
func TestDoctorOfStores(t *testing.T) {
	w, s, shard := settled(t)
	s.stop()
	never := filepath.Join(s.cfg.State.Dir, "shard-9") // killed before there was a database in it
	if err := os.Mkdir(never, 0o700); err != nil {
		t.Fatal(err)
	}
	finds(t, s.file, "stores", "ok", `5, of format \d`, "")
	if got := command(t, "state", "scan", "-c", s.file); got.code != exitGood || !strings.Contains(got.out, `"c0"`) {
		t.Errorf("scan: %+v", got)
	}
	if got := command(t, "state", "get", "-c", s.file, "c0"); got.code != exitGood {
		t.Errorf("get: %+v", got)
	}
	if got := w.untouched(s, "--shard", "9"); got.code != exitGood || got.out != "shard 9: the store is empty\n" {
		t.Errorf("verify: %+v", got)
	}
	other := (shard + 1) % townShards
	for _, n := range []int32{shard, other} {
		files, err := filepath.Glob(filepath.Join(s.cfg.State.Dir, fmt.Sprintf("shard-%d", n), "MANIFEST-*"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			if err := os.Truncate(file, 3); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range []int32{shard, other} {
		finds(t, s.file, "stores", "fault", fmt.Sprintf(`shard %d: open store (?s:.*)`, n), "if it is damaged, remove the directory of the shard: it is built again")
	}

	// The parts of a snapshot are those of shards that have a store.
	if err := os.RemoveAll(never); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int32{shard, other} {
		dir := filepath.Join(s.cfg.State.Dir, fmt.Sprintf("shard-%d", n))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf("there are no parts of shards [%d %d]", min(shard, other), max(shard, other))
	if got := command(t, "snapshot", "-c", s.file); got.code != exitFailed || !strings.Contains(got.err, want) {
		t.Errorf("snapshot: %+v, want %s", got, want)
	}
}
