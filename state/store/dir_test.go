package store

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func hold(t *testing.T, files vfs.FS, app string) *Dir {
	t.Helper()
	d, err := Hold(files, "data", app)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func release(t *testing.T, d *Dir) {
	t.Helper()
	if err := d.Release(); err != nil {
		t.Errorf("release: %v", err)
	}
}

func put(t *testing.T, files vfs.FS, name, text string) {
	t.Helper()
	if err := writeFile(files, "data", name, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// The identity is made once and stays; it names the process in the consumer group.
func TestIdentity(t *testing.T) {
	files := vfs.NewMem()
	d := hold(t, files, "shop")
	first := d.Instance
	if len(first) < 20 {
		t.Errorf("instance %q", first)
	}
	if got := d.Shard(12); got != "data/shard-12" {
		t.Errorf("shard 12 is in %s", got)
	}
	release(t, d)
	d = hold(t, files, "shop")
	if d.Instance != first {
		t.Errorf("instance %q, was %q", d.Instance, first)
	}
	release(t, d)
	other := hold(t, vfs.NewMem(), "shop")
	if other.Instance == first {
		t.Error("two directories have the same identity")
	}
	b, err := readFile(files, "data/identity.json")
	if want := `{"app":"shop","instance":"` + first + `"}`; err != nil || string(b) != want {
		t.Errorf("identity.json is %s, want %s; %v", b, want, err)
	}
	release(t, other)
}

func TestIdentityFaults(t *testing.T) {
	const unreadable = "data directory data: data/identity.json is not readable: remove the directory, or set state.dir to another"
	for _, test := range []struct{ name, text, want string }{
		{"of another application", `{"app":"bank","instance":"X"}`, `data directory data belongs to application "bank", not "shop": set state.dir to another`},
		{"empty", "", unreadable},
		{"cut", `{"app":"shop","inst`, unreadable},
		{"without instance", `{"app":"shop"}`, unreadable},
		{"not an object", `7`, unreadable},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := vfs.NewMem()
			release(t, hold(t, files, "shop"))
			put(t, files, "data/identity.json", test.text)
			if _, err := Hold(files, "data", "shop"); err == nil || err.Error() != test.want {
				t.Errorf("%v\nwant %s", err, test.want)
			}
			// The lock was given back: when the fault is gone the directory can be held.
			put(t, files, "data/identity.json", `{"app":"shop","instance":"X"}`)
			release(t, hold(t, files, "shop"))
		})
	}
}

func TestInUse(t *testing.T) {
	files := vfs.NewMem()
	d := hold(t, files, "shop")
	_, err := Hold(files, "data", "shop")
	if want := "data directory data is in use by another process: resource temporarily unavailable"; err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	release(t, d)
	release(t, hold(t, files, "shop"))
}

// TestHelperHold is not a test: it is the other process of TestInUseByProcess.
func TestHelperHold(t *testing.T) {
	path := os.Getenv("HOLD_DIRECTORY")
	if path == "" {
		t.Skip("only for another test")
	}
	d, err := Hold(vfs.Default, path, "shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.WriteString("held\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is closed, or the process is killed
	release(t, d)
}

// Two processes never hold one directory; a killed process leaves nothing to be cleaned up.
func TestInUseByProcess(t *testing.T) {
	path := t.TempDir()
	other := exec.Command(os.Args[0], "-test.run=^TestHelperHold$")
	other.Env = append(os.Environ(), "HOLD_DIRECTORY="+path)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	if d, err := Hold(vfs.Default, path, "shop"); err == nil || !strings.Contains(err.Error(), " is in use by another process: ") {
		t.Errorf("held twice: %+v, %v", d, err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it was killed
	d, err := Hold(vfs.Default, path, "shop")
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := d.Free(); !ok || n == 0 {
		t.Errorf("%d bytes free, %v", n, ok)
	}
	release(t, d)
}

// faulty is a file system one of whose operations fails.
type faulty struct {
	vfs.FS
	op  string
	err error
}

func (f faulty) fails(op, name string) error {
	if op != f.op {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: f.err}
}

func (f faulty) MkdirAll(dir string, mode os.FileMode) error {
	if err := f.fails("mkdir", dir); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir, mode)
}

func (f faulty) Lock(name string) (io.Closer, error) {
	if err := f.fails("lock", name); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

func (f faulty) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if err := f.fails("open", name); err != nil {
		return nil, err
	}
	return f.FS.Open(name, o...)
}

func (f faulty) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.fails("create", "FILE"); err != nil {
		return nil, err
	}
	return f.FS.Create(name, c)
}

func (f faulty) Rename(from, to string) error {
	if err := f.fails("rename", to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f faulty) RemoveAll(name string) error {
	if err := f.fails("remove", name); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

func (f faulty) GetDiskUsage(name string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{}, vfs.ErrUnsupported
}

func TestUnusableDirectory(t *testing.T) {
	for _, test := range []struct {
		op   string
		err  error
		want string
	}{
		{"mkdir", syscall.EROFS, "data directory data: mkdir data: read-only file system"},
		{"lock", syscall.EACCES, "data directory data cannot be written: lock data/LOCK: permission denied"},
		{"lock", syscall.EAGAIN, "data directory data is in use by another process: lock data/LOCK: resource temporarily unavailable"},
		{"open", syscall.EIO, "data directory data: open data/identity.json: input/output error"},
		{"create", syscall.EACCES, "data directory data cannot be written: create FILE: permission denied"},
		{"rename", syscall.ENOSPC, "write data/identity.json: rename data/identity.json: no space left on device"},
	} {
		files := faulty{vfs.NewMem(), test.op, test.err}
		_, err := Hold(files, "data", "shop")
		if err == nil || err.Error() != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %v\nwant %s", test.op, err, test.want)
		}
		if test.op != "mkdir" && test.op != "lock" {
			release(t, hold(t, files.FS, "shop"))
		}
	}
}

func TestSetAside(t *testing.T) {
	files := vfs.NewMem()
	d := hold(t, files, "shop")
	defer release(t, d)
	if err := d.SetAside(3); err != nil {
		t.Errorf("a store that does not exist: %v", err)
	}
	for n := range 2 {
		s, err := Open(d.Shard(3), options(t, files))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Mark(); ok || err != nil {
			t.Errorf("round %d: the new store has a mark: %v %v", n, ok, err)
		}
		m := someMark
		m.Cycle = uint64(n + 1)
		write(t, s, func(b *Batch) error { return b.SetMark(&m) })
		closed(t, s)
		if err := d.SetAside(3); err != nil {
			t.Fatal(err)
		}
		aside, err := Open(d.Shard(3)+".set-aside", options(t, files))
		if err != nil {
			t.Fatal(err)
		}
		if m, ok, err := aside.Mark(); !ok || err != nil || m.Cycle != uint64(n+1) {
			t.Errorf("round %d: set aside was cycle %d, %v %v", n, m.Cycle, ok, err)
		}
		closed(t, aside)
	}
	for op, want := range map[string]string{
		"remove": "set store aside: remove data/shard-3.set-aside: input/output error",
		"rename": "set store aside: rename data/shard-3.set-aside: input/output error",
	} {
		d := Dir{FS: faulty{files, op, syscall.EIO}, Path: "data"}
		if err := d.SetAside(3); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	if n, ok := (&Dir{FS: faulty{FS: files}, Path: "data"}).Free(); ok {
		t.Errorf("%d bytes free where nobody can tell", n)
	}
}

// A store that is removed is gone or as it was, also where the process was killed on the way: half of one would be set aside.
func TestRemove(t *testing.T) {
	files := vfs.NewMem()
	d := hold(t, files, "shop")
	defer func() { release(t, d) }()
	fill := func() {
		s, err := Open(d.Shard(3), options(t, files))
		if err != nil {
			t.Fatal(err)
		}
		write(t, s, func(b *Batch) error { return b.SetMark(&someMark) })
		closed(t, s)
	}
	fill()
	for op, want := range map[string]string{
		"remove": "remove store: remove data/removed-3: input/output error",
		"rename": "remove store: rename data/removed-3: input/output error",
	} {
		d := Dir{FS: faulty{files, op, syscall.EIO}, Path: "data"}
		if err := d.Remove(3); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
		s, err := Open(d.Shard(3), options(t, files))
		if err != nil {
			t.Fatal(err)
		}
		if m, ok, err := s.Mark(); !ok || err != nil || m.Cycle != someMark.Cycle {
			t.Errorf("after a fault of %s: %+v, %v %v", op, m, ok, err)
		}
		closed(t, s)
	}
	if err := files.MkdirAll("data/removed-3/left", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (&Dir{FS: faulty{files, "remove", syscall.EIO}, Path: "data"}).tidy(); err == nil || err.Error() != "data directory data: remove data/removed-3: input/output error" {
		t.Errorf("%v", err)
	}
	release(t, d)
	if _, err := Hold(files, "data", "another"); err == nil {
		t.Error("another application may use the directory")
	}
	if err := files.MkdirAll("data/removed-notes", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Stat("data/removed-3/left"); err != nil {
		t.Errorf("another application has removed what is not its own: %v", err)
	}
	d = hold(t, files, "shop")
	if _, err := files.Stat("data/removed-3"); err == nil {
		t.Error("what was left is still there")
	}
	if _, err := files.Stat("data/removed-notes"); err != nil {
		t.Errorf("somebody else's notes are gone: %v", err)
	}
	for range 2 {
		if err := d.Remove(3); err != nil {
			t.Fatal(err)
		}
		if names, err := files.List("data"); err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, "-3") }) {
			t.Errorf("left are %v: %v", names, err)
		}
		fill()
	}
}

func TestOpenFault(t *testing.T) {
	_, err := Open("data/shard-0", options(t, faulty{vfs.NewMem(), "mkdir", syscall.EACCES}))
	if err == nil || !strings.HasPrefix(err.Error(), "open store data/shard-0: ") || !errors.Is(err, syscall.EACCES) || Corrupt(err) {
		t.Errorf("%v", err)
	}
}
