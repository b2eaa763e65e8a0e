package pipeline

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"
)

// files are those of a shard's database with a suffix or prefix.
func (s *shop) files(shard int32, part string) (names []string) {
	s.t.Helper()
	dir := fmt.Sprintf("data/shard-%d", shard)
	all, err := s.disk.List(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range all {
		if strings.HasPrefix(name, part) || strings.HasSuffix(name, part) {
			names = append(names, dir+"/"+name)
		}
	}
	if len(names) == 0 {
		s.t.Fatalf("no %s among %q", part, all)
	}
	return names
}

// rewrite changes a file's bytes.
func (s *shop) rewrite(name string, change func([]byte) []byte) {
	s.t.Helper()
	f, err := s.disk.Open(name)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		s.t.Fatal(err)
	}
	if f, err = s.disk.Create(name, vfs.WriteCategoryUnspecified); err != nil {
		s.t.Fatal(err)
	}
	_, err = f.Write(change(b))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		s.t.Fatal(err)
	}
}

func flipped(b []byte) []byte {
	for i := 16; i < len(b)-64; i += 64 {
		b[i] ^= 0x10
	}
	return b
}

// TestStoreBroken breaks the database of a stopped process in every way: it is set aside and made again from the
// changelog, whether that is noticed when it is opened or when it is read. One that has lost its names, or the end of
// its manifest, is an empty store, which is no fault and is filled as any other.
func TestStoreBroken(t *testing.T) {
	remove := func(part string) func(*shop) {
		return func(s *shop) {
			for _, name := range s.files(0, part) {
				if err := s.disk.Remove(name); err != nil {
					s.t.Fatal(err)
				}
			}
		}
	}
	for _, c := range []struct {
		name   string
		empty  bool
		damage func(*shop)
	}{
		{"table with flipped bits", false, func(s *shop) {
			for _, name := range s.files(0, ".sst") {
				s.rewrite(name, flipped)
			}
		}},
		{"table cut", false, func(s *shop) {
			for _, name := range s.files(0, ".sst") {
				s.rewrite(name, func(b []byte) []byte { return b[:len(b)/2] })
			}
		}},
		{"table missing", false, remove(".sst")},
		{"manifest cut", true, func(s *shop) {
			for _, name := range s.files(0, "MANIFEST") {
				s.rewrite(name, func(b []byte) []byte { return b[:len(b)/2] })
			}
		}},
		{"manifest empty", false, func(s *shop) {
			for _, name := range s.files(0, "MANIFEST") {
				s.rewrite(name, func([]byte) []byte { return nil })
			}
		}},
		{"manifest with flipped bits", false, func(s *shop) {
			for _, name := range s.files(0, "MANIFEST") {
				s.rewrite(name, flipped)
			}
		}},
		{"manifest missing", false, remove("MANIFEST")},
		{"marker missing", true, remove("marker.manifest")},
		{"all of the names lost", true, remove("")}, // as a power cut may leave it (Pebble issue 5825)
	} {
		t.Run(c.name, func(t *testing.T) { storeBroken(t, c.empty, c.damage) })
	}
}

func storeBroken(t *testing.T, empty bool, damage func(*shop)) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.buy("o2")
	s.read(0, 1)
	s.stop()
	damage(s)
	s.buy("o3")
	s.start()
	s.read(0, 1)
	for shard := range int32(2) {
		if n := s.orders(shard); n != 3 {
			t.Errorf("shard %d: %d orders, want 3", shard, n)
		}
	}
	s.await("readiness", func() bool { return s.pipe.Ready() == nil })
	s.contiguous()
	rebuilt, told := s.counter("asiduo_store_rebuilds_total", "corrupt"), len(s.log.lines("is set aside"))
	if want := map[bool]int{false: 1, true: 0}[empty]; told != want || rebuilt != float64(told) {
		t.Errorf("%v rebuilds in the metric, %d in the log, want %d", rebuilt, told, want)
	}
	// The other shard reads its last checkpoint; this one what is before it, too.
	if broken, whole := s.counter("asiduo_restored_records_total", "0"), s.counter("asiduo_restored_records_total", "1"); broken < whole+2 {
		t.Errorf("%v records were restored, of the other shard %v", broken, whole)
	}
}

// TestStoreBrokenAtRead flips bits of the tables under a running process, which notices when it reads them.
func TestStoreBrokenAtRead(t *testing.T) {
	s := newShop(t)
	s.start()
	s.crowd(500) // tables of many blocks: opening one reads only some
	s.buy("o1")
	s.read(0, 1)
	s.stop()
	var once sync.Once
	s.start(func(p *Pipeline) {
		p.deps.Interrupt = func(shard int32, at Step) error {
			if shard == 0 && at == AfterRestore {
				once.Do(func() {
					for _, name := range s.files(0, ".sst") {
						s.flipInPlace(name)
					}
				})
			}
			return nil
		}
	})
	s.crowd(500) // once more
	s.read(0, 1)
	if n := s.orders(0); n != 1 {
		t.Errorf("%d orders", n)
	}
	if got := s.letters(); len(got) != 0 {
		t.Errorf("dead letters %v", got)
	}
	s.contiguous()
	if n := s.counter("asiduo_store_rebuilds_total", "corrupt"); n != 1 {
		t.Errorf("%v stores were rebuilt", n)
	}
	if n := len(s.log.lines("store is set aside and will be rebuilt from the changelog")); n != 1 {
		t.Errorf("the log says so %d times", n)
	}
}

// flipInPlace changes a file that others have open.
func (s *shop) flipInPlace(name string) {
	s.t.Helper()
	f, err := s.disk.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		s.t.Fatal(err)
	}
	_, err = f.WriteAt(flipped(b), 0)
	if err := errors.Join(err, f.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// sick is a disk that is full, slow, or does not answer.
type sick struct {
	vfs.FS
	mem   *vfs.MemFS
	free  atomic.Uint64
	asked atomic.Int64           // times that somebody has asked what is free
	takes atomic.Pointer[func()] // what a sync waits for
	stuck atomic.Bool
	fails atomic.Bool // EIO at every sync of a table
	full  atomic.Bool // ENOSPC at every write of a table
	slow  atomic.Int64
	heal  chan struct{}
}

func newSick() *sick {
	mem := vfs.NewCrashableMem()
	d := &sick{FS: mem, mem: mem, heal: make(chan struct{})}
	d.free.Store(1 << 40)
	return d
}

func (d *sick) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.asked.Add(1)
	return vfs.DiskUsage{AvailBytes: d.free.Load(), TotalBytes: 1 << 40}, nil
}

func (d *sick) write() error {
	if d.stuck.Load() {
		<-d.heal
	}
	if takes := d.takes.Load(); takes != nil {
		(*takes)()
		d.slow.Add(1)
	}
	return nil
}

func (d *sick) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return sickFile{f, d, strings.HasSuffix(name, ".sst"), new(atomic.Bool)}, err
}

type sickFile struct {
	vfs.File
	d     *sick
	table bool
	lost  *atomic.Bool // a sync has failed: no later one brings back what was written, though it says so, as with Linux
}

func (f sickFile) Write(b []byte) (int, error) {
	if f.table && f.d.full.Load() {
		return 0, &os.PathError{Op: "write", Path: "table", Err: syscall.ENOSPC}
	}
	return f.File.Write(b)
}

func (f sickFile) Sync() error {
	if f.table && f.d.fails.Load() {
		f.lost.Store(true)
		return &os.PathError{Op: "sync", Path: "table", Err: syscall.EIO}
	}
	if f.lost.Load() {
		return f.d.write()
	}
	return errors.Join(f.d.write(), f.File.Sync())
}
func (f sickFile) SyncData() error { return f.Sync() }
func (f sickFile) SyncTo(int64) (bool, error) {
	return true, f.Sync()
}

// TestDiskLow stops intake while the disk has less room than state.min_free, and goes on by itself when there is a tenth
// more: at the mark itself it would stop and go with every compaction.
func TestDiskLow(t *testing.T) {
	s := newShop(t)
	disk := newSick()
	s.disk = disk
	s.start(func(p *Pipeline) { p.room = 10 * time.Millisecond })
	s.buy("o1")
	s.read(0, 1)
	disk.free.Store(100 << 20)
	const why = "only 100 MiB are free below data: intake is stopped until there is room (state.min_free)"
	s.await("intake to stop", func() bool {
		st := s.pipe.Status()
		return st[0].State == "disk_full" && st[0].Reason == why && st[1].State == "disk_full"
	})
	if err := s.pipe.Ready(); err == nil || !strings.Contains(err.Error(), "shard 0 is disk_full: "+why) {
		t.Errorf("ready says %v", err)
	}
	if n := s.gauge("asiduo_disk_free_bytes"); n != 100<<20 {
		t.Errorf("asiduo_disk_free_bytes says %v", n)
	}
	s.buy("o2")
	if at := s.pipe.Positions()["purchases"][0]; at != 1 {
		t.Errorf("the shard has gone on to %d", at)
	}
	if n := s.counter("asiduo_shard_state", "disk_full"); n != 2 {
		t.Errorf("asiduo_shard_state says %v", n)
	}
	least := uint64(s.cfg.State.MinFree.Bytes())
	disk.free.Store(least + least/10 - 1)
	asked := disk.asked.Load()
	eventually(t, "both shards to look again", func() bool { return disk.asked.Load() > asked+4 })
	if st := s.pipe.Status(); st[0].State != "disk_full" || st[1].State != "disk_full" {
		t.Errorf("with hardly more room than the mark they are %s and %s", st[0].State, st[1].State)
	}
	disk.free.Store(least + least/10)
	s.read(0, 1)
	disk.free.Store(least)
	s.buy("o3")
	s.read(0, 1) // what has not stopped goes on down to the mark
	s.await("readiness", func() bool { return s.pipe.Ready() == nil })
}

// TestDiskStuck has a disk that no longer answers, or is full and stays so. What is under way cannot be taken back, so the process
// ends and says why: others wait for its shards.
func TestDiskStuck(t *testing.T) {
	for what, fail := range map[string]func(*sick){
		"silent": func(d *sick) { d.stuck.Store(true) },
		"full":   func(d *sick) { d.full.Store(true) },
	} {
		t.Run(what, func(t *testing.T) { diskStuck(t, fail) })
	}
}

func diskStuck(t *testing.T, fail func(*sick)) {
	s := newShop(t)
	disk := newSick()
	s.disk = disk
	s.cfg.State.Memtable = 64 << 10
	p := s.process(func(p *Pipeline) { p.stuck = 300 * time.Millisecond })
	ends := make(chan error, 1)
	go func() { ends <- p.Run(t.Context()) }()
	s.buy("o1")
	s.read(0, 1)
	fail(disk)
	go func() { // until the write buffers are full
		for i := 0; t.Context().Err() == nil && i < 20_000; i++ {
			who := fmt.Sprintf("%d", rand.Uint64())
			s.cl.Produce(t.Context(), &kgo.Record{Topic: "purchases", Partition: 0, Key: []byte(who), Value: []byte(order(who, "o1")), Timestamp: time.UnixMilli(draftedAt)}, nil)
		}
	}()
	select {
	case err := <-ends:
		// The write, or, if the group takes the shard away first, its close.
		if err == nil || !strings.HasSuffix(err.Error(), ": is the disk full or broken?") {
			t.Errorf("run: %v", err)
		}
	case <-time.After(patience):
		t.Errorf("the process goes on: %+v", p.Status())
	}
	if n := s.counter("asiduo_store_background_errors_total", "0"); disk.full.Load() && n == 0 {
		t.Error("no metric tells of the full disk")
	}
	disk.full.Store(false)
	close(disk.heal)
}
