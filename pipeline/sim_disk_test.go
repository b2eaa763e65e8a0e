//go:build synctests

package pipeline_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// disk is what a process keeps its stores on. It can fill up, fail to read or to open, and say that it is nearly full.
// Faults are counted, not drawn, so that the seed alone says what happens.
type disk struct {
	vfs.FS
	mem *vfs.MemFS

	mu    sync.Mutex
	full  bool // tables cannot be written
	short bool // they once could not, in the life of this process
	low   bool // little is free
	reads int  // the next reads of tables fail
	opens int  // the next stores do not open
	hit   func(string)
}

func newDisk(mem *vfs.MemFS, hit func(string)) *disk {
	d := &disk{mem: mem, hit: hit}
	d.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(d.inject))
	return d
}

// newMem is the disk of the intruder.
func newMem(w *world) *vfs.MemFS {
	mem := vfs.NewCrashableMem()
	err := mem.MkdirAll("data", 0o700)
	f, e := mem.Create("data/identity.json", vfs.WriteCategoryUnspecified)
	if err = errors.Join(err, e); err == nil {
		_, err = fmt.Fprintf(f, `{"app":%q,"instance":%q}`, w.cfg.App, intruder)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return mem
}

// inject fails operations on stores. What Pebble calls fatal on a goroutine of its own, a manifest that cannot be
// written, would end the test as it ends a process: so only tables fail.
func (d *disk) inject(op errorfs.Op) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	table := strings.HasSuffix(op.Path, ".sst")
	switch {
	case d.full && table && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite):
		d.short = true
		d.hit("store: no space")
		return syscall.ENOSPC
	case d.reads > 0 && table && op.Kind == errorfs.OpFileReadAt:
		d.reads--
		d.hit("store: read fails")
		return syscall.EIO
	case d.opens > 0 && op.Kind == errorfs.OpList && strings.Contains(op.Path, "shard-"):
		d.opens--
		d.hit("store: open fails")
		return syscall.EIO
	}
	return nil
}

// GetDiskUsage tells what state.min_free is held against.
func (d *disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	const size = 1 << 40
	if d.low {
		d.hit("disk: nearly full")
		return vfs.DiskUsage{AvailBytes: 1 << 10, TotalBytes: size}, nil
	}
	return vfs.DiskUsage{AvailBytes: size / 2, TotalBytes: size}, nil
}

func (d *disk) set(f func(d *disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

func (d *disk) heal() {
	d.set(func(d *disk) { d.full, d.low, d.reads, d.opens = false, false, 0, 0 })
}

func (d *disk) wasFull() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.short
}

// clone is what a crash leaves of the disk: percent of what was not synced.
func (d *disk) clone(percent int, rng *rand.Rand) *disk {
	return newDisk(d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}), d.hit)
}

// spoiled is a file in a store of which we have changed or removed tables: that it does not open is no surprise. It goes
// where the store goes, out of the way too.
const spoiled = "/spoiled-by-us"

func (d *disk) isFlawed(store string) bool {
	_, err := d.mem.Stat(store + spoiled)
	return err == nil
}

// mark makes that file, for power cuts too.
func (d *disk) mark(store string) error {
	f, err := d.mem.Create(store+spoiled, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	dir, err := d.mem.OpenDir(store)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close(), dir.Sync(), dir.Close())
}

// spoil does something to the tables of every store.
func (d *disk) spoil(spoil func(name string) error) error {
	dirs, err := d.mem.List("data")
	if err != nil {
		return nil // it has none
	}
	for _, dir := range dirs {
		if !strings.HasPrefix(dir, "shard-") || strings.HasSuffix(dir, ".set-aside") {
			continue
		}
		names, err := d.mem.List("data/" + dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".sst") {
				if err := errors.Join(spoil("data/"+dir+"/"+name), d.mark("data/"+dir)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// flip changes bits of a file.
func (d *disk) flip(name string) (err error) {
	f, err := d.mem.Open(name)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for i := 32; i < len(b)/2; i += 256 {
		b[i] ^= 0x10
	}
	w, err := d.mem.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return errors.Join(err, w.Sync(), w.Close())
}
