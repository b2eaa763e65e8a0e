//go:build kafka

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// storeJudge holds every store on disk against what the changelog had when the store's mark was written, and the newest
// one of each shard against the end of the changelog and against the oracle.
type storeJudge struct {
	t       testing.TB
	w       *world
	changes *tail
	gaps    []int           // by shard, of who has read everything
	slow    map[string]bool // data directories of processes that may have ended before their last cycle was answered

	cache    *pebble.Cache
	opened   int
	judged   int              // against the changelog
	current  map[int32]bool   // shards with a store that is at the end of the changelog
	behind   map[int32]string // stores that are one cycle before it, and may be
	profiles []oracle.Output
}

func judgeStores(t testing.TB, w *world, l *tail, gaps []int, slow map[string]bool, want []oracle.Output) (opened, judged int) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, "*", "shard-*"))
	if err != nil {
		t.Fatal(err)
	}
	j := &storeJudge{t: t, w: w, changes: l, gaps: gaps, slow: slow, cache: pebble.NewCache(8 << 20), current: map[int32]bool{}, behind: map[int32]string{}}
	defer j.cache.Unref()
	for _, dir := range found {
		n, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(dir), "shard-"), 10, 32)
		if err != nil {
			continue // set aside
		}
		j.store(int32(n), dir)
	}
	for n, dir := range j.behind {
		if !j.current[n] {
			j.restore(n, dir)
		}
	}
	if len(j.current) != worldShards {
		t.Errorf("only %d shards have a store that is at the end of the changelog", len(j.current))
	}
	var standing []oracle.Output
	for _, o := range want {
		if o.Topic == oracle.Profiles {
			standing = append(standing, o)
		}
	}
	report(t, oracle.Diff(standing, j.profiles))
	return j.opened, j.judged
}

// store judges one as it lies on disk.
func (j *storeJudge) store(n int32, dir string) {
	t := j.t
	t.Helper()
	db, err := store.Open(dir, store.Options{FS: vfs.Default, Cache: j.cache, Memtable: 1 << 20, ReadOnly: true})
	if errors.Is(err, pebble.ErrDBDoesNotExist) { // killed before it was made
		t.Logf("%s: %v", dir, err)
		return
	}
	if err != nil { // a process that is killed takes nothing with it that the kernel has
		t.Errorf("%s: %v", dir, err)
		return
	}
	defer j.close(db)
	j.opened++
	shard := &j.changes.shards[n]
	m, ok, err := db.Mark()
	if err != nil {
		t.Errorf("%s: %v", dir, err)
	}
	if !ok {
		return
	}
	last := m.Owner == shard.last.Owner && m.Cycle == shard.last.Cycle
	behind := m.Owner == shard.last.Owner && m.Cycle+1 == shard.last.Cycle && j.slow[filepath.Dir(dir)]
	whole, err := db.Whole()
	if err != nil {
		t.Errorf("%s: %v", dir, err)
	}
	exact := last || behind || !shard.interrupted(whole, &m)
	if !exact {
		t.Logf("%s is at cycle %d of a restore that was interrupted", dir, m.Cycle)
	}
	if last || j.gaps[n] == 0 {
		j.judged++
		judgeStore(t, dir, db, shard, &m, exact)
	}
	if last && !j.current[n] {
		j.current[n] = true
		j.profiles = append(j.profiles, profilesOf(t, j.w, db)...)
	}
	if behind {
		j.behind[n] = dir
	}
}

// restore judges what the next owner would make of a store whose process ended while the end of the last transaction was
// not answered: the brokers had it, the store did not.
func (j *storeJudge) restore(n int32, dir string) {
	t := j.t
	t.Helper()
	to := dir + ".restored"
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Error(err)
		return
	}
	db, err := store.Open(to, store.Options{FS: vfs.Default, Cache: j.cache, Memtable: 1 << 20})
	if err != nil {
		t.Errorf("%s: %v", to, err)
		return
	}
	defer j.close(db)
	m, _, err := db.Mark()
	if err != nil {
		t.Errorf("%s: %v", to, err)
		return
	}
	shard, batch, more := &j.changes.shards[n], db.NewBatch(), 0
	for key, all := range shard.values {
		v := all[len(all)-1]
		if v.offset <= m.Offset {
			continue
		}
		more++
		if err := batch.Put([]byte(key), []byte(v.value)); err != nil {
			t.Fatal(err)
		}
		var c state.Customer
		if !store.IsCustomerKey([]byte(key)) || v.value == "" {
			continue
		}
		if err := c.Decode([]byte(v.value)); err != nil {
			t.Fatal(err)
		}
		if err := batch.Arm(c.Due, store.CustomerID([]byte(key))); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Commit(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is at cycle %d, its process ended before the end of %d was answered: %d records restored", dir, m.Cycle, shard.last.Cycle, more)
	m.Checkpoint, m.Offset = shard.last, math.MaxInt64
	judgeStore(t, to, db, shard, &m, true)
	j.current[n] = true
	j.profiles = append(j.profiles, profilesOf(t, j.w, db)...)
}

func (j *storeJudge) close(db *store.Store) {
	j.t.Helper()
	if err := db.Close(false); err != nil {
		j.t.Error(err)
	}
}

// judgeStore compares a store with the changelog at its mark. It has exactly that, unless it is what an interrupted restore
// has left: records up to its mark may be missing, or as they were before, that the cleaner had taken because there were
// newer ones, which the restore had yet to read. It is never ahead of its mark.
func judgeStore(t testing.TB, dir string, db *store.Store, shard *shardTail, m *store.Mark, exact bool) {
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
		if !exact && all[len(all)-1].offset > m.Offset {
			right = right || len(got) == 0
			for _, v := range all {
				right = right || v.offset <= m.Offset && v.value == string(got)
			}
		}
		if !right {
			if bad++; bad < 4 {
				t.Errorf("%s, cycle %d: key %q is %q, in the changelog it was %q", dir, m.Cycle, key, got, want)
			}
		}
	}
	if !exact {
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

// TestChaosInterrupted holds that only a store whose restore may have been interrupted is excused.
func TestChaosInterrupted(t *testing.T) {
	var s shardTail // 3 MB in 300 s
	for i := range int64(300) {
		s.cycles = append(s.cycles, cycleSeen{at: time.UnixMilli(i * 1000), offset: 2*i + 1})
	}
	s.values = map[string][]valueAt{"c": nil}
	for i := range int64(300) {
		s.values["c"] = append(s.values["c"], valueAt{2 * i, strings.Repeat("x", 9<<10)})
	}
	for _, c := range []struct {
		name          string
		whole         bool
		cycle         int64
		written       int64 // in that second
		isInterrupted bool
	}{
		{"by its own cycle", true, 299, 299, false},
		{"by its own cycle, the brokers' clock not well known", true, 299, 240, false},
		{"restored to the end, no cycle since", true, 200, 290, false},
		{"by a restore from long ago", true, 250, 50, true},
		{"by a restore from a while ago", true, 250, 200, false},
		{"new, had to read much", false, 250, 299, true},
		{"new, had to read little", false, 50, 299, false},
	} {
		var m store.Mark
		m.Offset, m.Written = 2*c.cycle+1, c.written*1000
		if s.interrupted(c.whole, &m) != c.isInterrupted {
			t.Errorf("%s: %v", c.name, !c.isInterrupted)
		}
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
