package pipeline

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// cut is what a power cut leaves of a disk: nothing that was not synced.
func (d *sick) cut() *vfs.MemFS { return d.mem.CrashClone(vfs.CrashCloneCfg{}) }

// stored is how many orders the store of shard 0 has of its customer on a disk, which must be as many as its mark says.
func (s *shop) stored(disk vfs.FS) int {
	s.t.Helper()
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	db, err := store.Open("data/shard-0", store.Options{FS: disk, Cache: cache, Memtable: 1 << 18})
	if err != nil {
		s.t.Fatalf("after a power cut: %v", err)
	}
	var c state.Customer
	m, _, err := db.Mark()
	b, known, e := db.Get(store.CustomerKey(nil, s.who[0]), nil)
	if known {
		e = errors.Join(e, c.Decode(b))
	}
	if err := errors.Join(err, e, db.Close(false)); err != nil {
		s.t.Fatalf("after a power cut: %v", err)
	}
	if next := m.Inputs["purchases"].Next[0]; next != int64(len(c.Orders)) {
		s.t.Errorf("after a power cut there are %d orders, and the inputs are read up to %d", len(c.Orders), next)
	}
	return len(c.Orders)
}

// TestSyncFails has a disk that fails to sync tables. They are written again to other files; nothing is taken for written that may
// not be: a power cut leaves whole cycles, at most up to the last sync that has not failed, and the changelog has the others.
func TestSyncFails(t *testing.T) {
	s := newShop(t)
	disk := newSick()
	s.disk, s.cfg.State.FlushEvery = disk, 1e8
	s.start()
	s.buy("o1")
	s.read(0, 1)
	s.stop()
	root, err := disk.OpenDir("/") // data/ has been there for long
	if err := errors.Join(err, root.Sync(), root.Close()); err != nil {
		t.Fatal(err)
	}
	s.start()
	disk.fails.Store(true)
	s.buy("o2")
	s.read(0, 1)
	eventually(t, "the store to complain", func() bool { return s.counter("asiduo_store_background_errors_total", "0") > 0 })
	if len(s.log.lines("sync table: input/output error")) == 0 {
		t.Error("the log does not say so")
	}
	left := disk.cut()
	if n := s.stored(left); n != 1 {
		t.Errorf("a power cut leaves %d orders, 1 was synced", n)
	}
	disk.fails.Store(false)
	s.buy("o3")
	s.read(0, 1)
	if n := s.orders(0); n != 3 {
		t.Errorf("%d orders", n)
	}
	eventually(t, "the tables to be written again", func() bool { return s.stored(disk.cut()) == 3 })
	s.stop()
	for _, s.disk = range []vfs.FS{left, disk.cut()} {
		s.start()
		s.read(0, 1)
		s.await("readiness", func() bool { return s.pipe.Ready() == nil })
		for shard := range int32(2) {
			if n := s.orders(shard); n != 3 {
				t.Errorf("shard %d: %d orders after a power cut", shard, n)
			}
		}
		if n := len(s.log.lines("is set aside")); n != 0 {
			t.Errorf("%d stores were set aside", n)
		}
		s.contiguous()
		s.stop()
	}
}
