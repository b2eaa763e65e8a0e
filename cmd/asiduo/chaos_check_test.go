//go:build kafka

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// nothingOpen holds that no transaction is left: every partition is stable up to its end, and no coordinator knows of
// one under way. A loader that died in the middle of one is timed out by the brokers.
func nothingOpen(t testing.TB, w *world) {
	t.Helper()
	topics := topicNames(w.cfg)
	left := "?"
	await(t, 60*time.Second, "no transaction is open", func() bool {
		stable, err := w.adm.ListCommittedOffsets(t.Context(), topics...)
		ends, err2 := w.adm.ListEndOffsets(t.Context(), topics...)
		open, err3 := w.adm.ListTransactions(t.Context(), nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
		if errors.Join(err, err2, err3) != nil || stable.Error() != nil || ends.Error() != nil {
			return false
		}
		left = ""
		ends.Each(func(o kadm.ListedOffset) {
			if at, _ := stable.Lookup(o.Topic, o.Partition); at.Offset != o.Offset {
				left += o.Topic + "/" + strconv.Itoa(int(o.Partition)) + " "
			}
		})
		for id, tx := range open {
			if strings.HasPrefix(id, w.cfg.App+"-") {
				left += id + " " + tx.State
			}
		}
		return left == ""
	})
}

// judgeStores holds every store on disk against what the changelog had when the store's mark was written, and the
// newest one of each shard against the end of the changelog and against the oracle.
func judgeStores(t testing.TB, w *world, l *tail, gaps []int, want []oracle.Output) (opened, current int) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, "*", "shard-*"))
	if err != nil {
		t.Fatal(err)
	}
	cache := pebble.NewCache(8 << 20)
	defer cache.Unref()
	newest := map[int32]bool{}
	var profiles []oracle.Output
	for _, dir := range found {
		n, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(dir), "shard-"), 10, 32)
		if err != nil {
			continue // set aside
		}
		db, err := store.Open(dir, store.Options{FS: vfs.Default, Cache: cache, Memtable: 1 << 20, ReadOnly: true})
		if err != nil {
			t.Logf("%s: %v", dir, err) // killed before it was made
			continue
		}
		opened++
		shard := &l.shards[n]
		m, ok, err := db.Mark()
		if err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		last := ok && m.Owner == shard.last.Owner && m.Cycle == shard.last.Cycle
		if ok && (last || gaps[n] == 0) {
			judgeStore(t, dir, db, shard, &m, last)
		}
		if last && !newest[int32(n)] {
			newest[int32(n)] = true
			current++
			profiles = append(profiles, profilesOf(t, w, db)...)
		}
		if err := db.Close(false); err != nil {
			t.Error(err)
		}
	}
	if current != worldShards {
		t.Errorf("only %d shards have a store that is at the end of the changelog", current)
	}
	var standing []oracle.Output
	for _, o := range want {
		if o.Topic == oracle.Profiles {
			standing = append(standing, o)
		}
	}
	report(t, oracle.Diff(standing, profiles))
	return opened, current
}

// judgeStore compares a store with the changelog at its mark. One that was killed while it read the changelog may be
// ahead of its mark, which the next restore heals, but never has what was never there.
func judgeStore(t testing.TB, dir string, db *store.Store, shard *shardTail, m *store.Mark, last bool) {
	t.Helper()
	keys, bad := 0, 0
	for key, all := range shard.values {
		got, _, err := db.Get([]byte(key), nil)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			return
		}
		want := shard.at(key, m.Offset)
		if want != "" {
			keys++
		}
		right := string(got) == want
		for _, v := range all {
			right = right || !last && v.offset > m.Offset && v.value == string(got)
		}
		if !right {
			if bad++; bad < 4 {
				t.Errorf("%s, cycle %d: key %q is %q, in the changelog it was %q", dir, m.Cycle, key, got, want)
			}
		}
	}
	if !last {
		return
	}
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = view.Close() }()
	for row, err := range view.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		if row.Customer != nil {
			keys--
			armed(t, dir, db, row)
		}
		if row.Interactions != nil {
			keys--
		}
	}
	if keys != 0 {
		t.Errorf("%s: %d records fewer than in the changelog", dir, keys)
	}
}

// armed holds that a customer's silence will be noticed.
func armed(t testing.TB, dir string, db *store.Store, row store.Row) {
	t.Helper()
	due := row.Customer.Due
	if due == state.Never {
		return
	}
	timers, err := db.Due(due, 1<<30, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, timer := range timers {
		if timer.ID == row.ID {
			return
		}
	}
	t.Errorf("%s: customer %s is due at %d and has no timer", dir, row.ID, due)
}

// profilesOf are the profiles of a store's customers.
func profilesOf(t testing.TB, w *world, db *store.Store) (list []oracle.Output) {
	t.Helper()
	params, err := pipeline.FirstParameters(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	enc := events.New(w.cfg.App, 1, params, w.cfg.Currency, w.cfg.Digits())
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = view.Close() }()
	for row, err := range view.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		r := enc.Profile(row.ID, row.Customer, row.Interactions)
		o := oracle.Output{Topic: oracle.Profiles, Key: bytes.Clone(r.Key)}
		d := json.NewDecoder(bytes.NewReader(r.Value))
		d.UseNumber()
		if err := d.Decode(&o.Value); err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
	return list
}

// compacted reads the changelog as a process without a store would, and holds that what compaction has left leads to
// the same state. It returns how many of the offsets are still there.
func compacted(t testing.TB, w *world, l *tail) (left, offsets int64) {
	t.Helper()
	topic := w.cfg.App + ".changelog"
	ends, err := w.adm.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	opts, err := pipeline.ClientOptions(w.cfg.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	from := map[int32]kgo.Offset{}
	for p := range int32(worldShards) {
		from[p] = kgo.NewOffset().AtStart()
	}
	cl, err := kgo.NewClient(append(opts, kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	values, next := make([]map[string]string, worldShards), make([]int64, worldShards)
	for i := range values {
		values[i] = map[string]string{}
	}
	behind := func() bool {
		for p, at := range next {
			if end, _ := ends.Lookup(topic, int32(p)); at < end.Offset {
				return true
			}
		}
		return false
	}
	for behind() {
		fetched := cl.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatalf("read the changelog: %v", err)
		}
		for it := fetched.RecordIter(); !it.Done(); {
			r := it.Next()
			left++
			next[r.Partition] = r.Offset + 1
			if key := string(r.Key); !r.Attrs.IsControl() && key != "owner" && key != "checkpoint" {
				values[r.Partition][key] = string(r.Value)
			}
		}
	}
	for p := range values {
		end, _ := ends.Lookup(topic, int32(p))
		offsets += end.Offset
		for key := range l.shards[p].values {
			if want := l.shards[p].at(key, end.Offset); values[p][key] != want {
				t.Errorf("compacted changelog %d: key %q is %q, was written as %q", p, key, values[p][key], want)
			}
		}
	}
	return left, offsets
}
