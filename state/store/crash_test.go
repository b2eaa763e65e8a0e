package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// history is what a shard writes: cycle n always writes the same. Values repeat and are deleted, and timers move.
type history struct {
	seed uint64
}

type change struct{ key, value string }

func (h history) cycle(n int) []change {
	r := rand.New(rand.NewPCG(h.seed, uint64(n)))
	changes := make([]change, 1+r.IntN(40))
	for i := range changes {
		id := fmt.Sprintf("customer-%d", r.IntN(60))
		key := CustomerKey(nil, id)
		if r.IntN(3) == 0 {
			key = InteractionsKey(nil, id)
		}
		value := ""
		if r.IntN(8) > 0 {
			value = fmt.Sprintf("cycle %d %s", n, strings.Repeat("x", r.IntN(400)))
		}
		changes[i] = change{string(key), value}
	}
	return changes
}

func (h history) write(t *testing.T, s *Store, n int) {
	t.Helper()
	write(t, s, func(b *Batch) (err error) {
		for _, c := range h.cycle(n) {
			err = errors.Join(err, b.Put([]byte(c.key), []byte(c.value)))
		}
		m := someMark
		m.Cycle, m.Offset = uint64(n), int64(10*n)
		return errors.Join(err, b.SetMark(&m))
	})
}

// after is everything that is true after cycle n.
func (h history) after(n int) map[string]string {
	state := map[string]string{}
	for i := 1; i <= n; i++ {
		for _, c := range h.cycle(i) {
			if state[c.key] = c.value; c.value == "" {
				delete(state, c.key)
			}
		}
	}
	return state
}

// check reads the whole store, which must be that after the cycle of its mark.
func (h history) check(t *testing.T, s *Store) (cycle int) {
	t.Helper()
	m, ok, err := s.Mark()
	if err != nil {
		t.Fatalf("mark: %v", err)
	}
	if ok {
		cycle = int(m.Cycle)
		if m.Offset != int64(10*cycle) {
			t.Errorf("mark %+v", m)
		}
	}
	want := h.after(cycle)
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for valid := it.First(); valid; valid = it.Next() {
		if bytes.Equal(it.Key(), metaKey("mark")) {
			continue
		}
		n++
		if string(it.Value()) != want[string(it.Key())] {
			t.Fatalf("after cycle %d: %q is %q, want %q", cycle, it.Key(), it.Value(), want[string(it.Key())])
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if n != len(want) {
		t.Errorf("after cycle %d: %d records, want %d", cycle, n, len(want))
	}
	return cycle
}

// Whatever a power cut leaves, the store is that after some cycle, data and mark together, or it says that it is
// corrupt and is rebuilt.
func TestPowerCut(t *testing.T) {
	const histories, cycles = 6, 120
	reopened, lost, advanced := 0, 0, 0
	for seed := range uint64(histories) {
		r := rand.New(rand.NewPCG(seed, 1))
		h := history{seed}
		files := vfs.NewCrashableMem()
		first := openCrashable(t, files)
		n := 0
		for n < cycles {
			n++
			h.write(t, first, n)
			if r.IntN(10) == 0 {
				if err := first.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			if r.IntN(6) > 0 {
				continue
			}
			cut := files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 100}[r.IntN(3)], RNG: r})
			again, err := Open("data/shard-0", options(t, cut))
			if err != nil {
				if !Corrupt(err) {
					t.Errorf("a store that a power cut has broken does not say so: %v", err)
				}
				lost++
				continue
			}
			reopened++
			k := h.check(t, again)
			if k > n {
				t.Errorf("cycle %d after %d", k, n)
			}
			if k > 0 {
				advanced++
			}
			// Life goes on from there.
			h.write(t, again, k+1)
			closed(t, again)
		}
		closed(t, first)
	}
	t.Logf("%d times reopened, %d of them with data, %d times corrupt", reopened, advanced, lost)
	if reopened < 20 || advanced < 10 {
		t.Errorf("only %d stores were reopened, %d with data", reopened, advanced)
	}
}

// openCrashable opens a store in a directory that has survived earlier power cuts.
func openCrashable(t *testing.T, files *vfs.MemFS) *Store {
	t.Helper()
	if err := files.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := files.OpenDir("/")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(root.Sync(), root.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := Open("data/shard-0", options(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A process that is killed loses what was in memory and nothing else; one that stops loses nothing.
func TestStopAndKill(t *testing.T) {
	h := history{42}
	for _, flush := range []bool{true, false} {
		files := vfs.NewMem()
		s, err := Open("shard-0", options(t, files))
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 10; n++ {
			h.write(t, s, n)
		}
		if err := s.Close(flush); err != nil {
			t.Fatal(err)
		}
		if s, err = Open("shard-0", options(t, files)); err != nil {
			t.Fatal(err)
		}
		switch n := h.check(t, s); {
		case flush && n != 10:
			t.Errorf("closed with a flush after cycle 10, reopened after cycle %d", n)
		case !flush && n == 10:
			t.Error("closed without a flush, and yet everything was written")
		}
		closed(t, s)
	}
}

// Bits that have changed on disk are noticed where they are read, and said to be corruption.
func TestFlippedTable(t *testing.T) {
	h := history{7}
	files := vfs.NewMem()
	s, err := Open("shard-0", options(t, files))
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 60; n++ {
		h.write(t, s, n)
	}
	closed(t, s)
	names, err := files.List("shard-0")
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			tables++
			flip(t, files, "shard-0/"+name)
		}
	}
	if tables == 0 {
		t.Fatalf("no tables in %q", names)
	}
	if s, err = Open("shard-0", options(t, files)); err == nil {
		for n := 1; n <= 60 && err == nil; n++ {
			for _, c := range h.cycle(n) {
				if _, _, err = s.Get([]byte(c.key), nil); err != nil {
					break
				}
			}
		}
		if err := s.Close(false); err != nil {
			t.Logf("close: %v", err)
		}
	}
	if !Corrupt(err) {
		t.Errorf("after flipped bits: %v", err)
	}
	if Corrupt(nil) || Corrupt(ErrClosed) {
		t.Error("what is no corruption is called so")
	}
}

// flip changes a bit in each 512 bytes of the first half of a file.
func flip(t *testing.T, files vfs.FS, name string) {
	t.Helper()
	b, err := readFile(files, name)
	if err != nil {
		t.Fatal(err)
	}
	for i := 64; i < len(b)/2; i += 512 {
		b[i] ^= 0x10
	}
	f, err := files.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestHelperManifest is not a test: it is the process of TestManifestSyncFails.
func TestHelperManifest(t *testing.T) {
	if os.Getenv("FAIL_MANIFEST") == "" {
		t.Skip("only for another test")
	}
	files := &failing{FS: vfs.NewMem()}
	s, err := Open("shard-0", options(t, files))
	if err != nil {
		t.Fatal(err)
	}
	files.now.Store(true)
	history{1}.write(t, s, 1)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute) // the process is expected to end before
}

// failing is a disk on which the manifest cannot be synced.
type failing struct {
	vfs.FS
	now atomic.Bool
}

func (f *failing) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if strings.Contains(name, "MANIFEST") {
		return failingFile{file, f}, err
	}
	return file, err
}

type failingFile struct {
	vfs.File
	f *failing
}

func (f failingFile) Sync() error {
	if f.f.now.Load() {
		return &os.PathError{Op: "sync", Path: "MANIFEST", Err: syscall.EIO}
	}
	return f.File.Sync()
}
func (f failingFile) SyncData() error { return f.Sync() }

// A disk that fails to sync what says which tables there are may have kept any part of it: asking it again would prove
// nothing, so the process ends at once, with the reason.
func TestManifestSyncFails(t *testing.T) {
	other := exec.Command(os.Args[0], "-test.run=^TestHelperManifest$")
	other.Env = append(os.Environ(), "FAIL_MANIFEST=1")
	text, err := other.CombinedOutput()
	if err == nil || !strings.Contains(string(text), "MANIFEST sync failed: sync MANIFEST: input/output error") {
		t.Errorf("%v\n%s", err, text)
	}
}
