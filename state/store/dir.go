package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Dir is the data directory of a process: its identity, and one database per shard. While it is held no other process
// can use it.
type Dir struct {
	FS       vfs.FS
	Path     string
	Instance string // identity of the process in the consumer group
	lock     io.Closer
}

type identity struct {
	App      string `json:"app"`
	Instance string `json:"instance"`
}

// Hold takes the data directory for an application, making it if there is none.
func Hold(files vfs.FS, path, app string) (*Dir, error) {
	if err := files.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	lock, err := files.Lock(files.PathJoin(path, "LOCK"))
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("data directory %s cannot be written: %w", path, err)
		}
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", path, err)
	}
	d := &Dir{FS: files, Path: path, lock: lock}
	if err = d.identify(app); err == nil { // it is ours
		err = d.tidy()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func (d *Dir) identify(app string) error {
	file := d.FS.PathJoin(d.Path, "identity.json")
	b, err := readFile(d.FS, file)
	if err == nil {
		var is identity
		if err := json.Unmarshal(b, &is); err != nil || is.Instance == "" {
			return fmt.Errorf("data directory %s: %s is not readable: remove the directory, or set state.dir to another", d.Path, file)
		}
		if is.App != app {
			return fmt.Errorf("data directory %s belongs to application %q, not %q: set state.dir to another", d.Path, is.App, app)
		}
		d.Instance = is.Instance
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory %s: %w", d.Path, err)
	}
	d.Instance = rand.Text()
	b, err = json.Marshal(identity{app, d.Instance})
	if err != nil {
		return err
	}
	if err := writeFile(d.FS, d.Path, file, b); err != nil {
		return err
	}
	return syncDir(d.FS, d.FS.PathDir(d.Path)) // a lost identity would be a new member of the group
}

// Shard is the directory of a shard's database.
func (d *Dir) Shard(s int32) string { return d.FS.PathJoin(d.Path, fmt.Sprintf("shard-%d", s)) }

// SetAside moves a shard's database out of the way, for somebody to look at; one is kept. The next Open makes a new
// one, which the changelog fills.
func (d *Dir) SetAside(s int32) error {
	from, to := d.Shard(s), d.Shard(s)+".set-aside"
	if err := d.FS.RemoveAll(to); err != nil {
		return fmt.Errorf("set store aside: %w", err)
	}
	if err := d.FS.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set store aside: %w", err)
	}
	return nil
}

// removed begins the names of databases that are being removed.
const removed = "removed-"

// Remove removes a shard's database. It is renamed first: what is left of one would be taken for a damaged store, and set aside.
func (d *Dir) Remove(s int32) error {
	gone := d.FS.PathJoin(d.Path, fmt.Sprint(removed, s))
	err := d.FS.RemoveAll(gone)
	if err == nil {
		err = d.FS.Rename(d.Shard(s), gone)
	}
	if err == nil {
		err = d.FS.RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("remove store: %w", err)
	}
	return nil
}

// tidy removes what a process that was killed has left of a database.
func (d *Dir) tidy() error {
	names, err := d.FS.List(d.Path)
	for _, name := range names {
		shard, is := strings.CutPrefix(name, removed)
		if _, bad := strconv.ParseUint(shard, 10, 31); is && bad == nil {
			err = errors.Join(err, d.FS.RemoveAll(d.FS.PathJoin(d.Path, name)))
		}
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", d.Path, err)
	}
	return nil
}

// Free is how many bytes can still be written; false if the file system does not tell.
func (d *Dir) Free() (uint64, bool) {
	u, err := d.FS.GetDiskUsage(d.Path)
	return u.AvailBytes, err == nil && u.TotalBytes > 0
}

// Release lets the directory go.
func (d *Dir) Release() error { return d.lock.Close() }

func readFile(files vfs.FS, name string) (_ []byte, err error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer closeInto(f, &err)
	return io.ReadAll(f)
}

// writeFile writes aside and renames, so that a crash leaves the old file or the new one.
func writeFile(files vfs.FS, dir, name string, b []byte) (err error) {
	tmp := fmt.Sprintf("%s.%d.tmp", name, time.Now().UnixNano())
	f, err := files.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("data directory %s cannot be written: %w", dir, err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := files.Rename(tmp, name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(files, dir)
}

func syncDir(files vfs.FS, path string) error {
	d, err := files.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
