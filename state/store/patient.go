package store

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// patient is a file system that lets no table be touched for a moment after background work has failed: Pebble tries
// again at once, and a full disk or a broken table would make that spin. Its listeners are no place to wait, since they
// are called with the lock of the database held.
type patient struct {
	vfs.FS
	until *atomic.Int64 // ns since 1970
}

// retryAfter is how long the next attempt waits.
const retryAfter = 50 * time.Millisecond

func (p patient) failed() { p.until.Store(time.Now().Add(retryAfter).UnixNano()) }

func (p patient) wait() {
	if until := p.until.Load(); until != 0 {
		time.Sleep(time.Until(time.Unix(0, until)))
	}
}

func (p patient) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := p.FS.Create(name, c)
	return p.table(name, f, err)
}

func (p patient) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := p.FS.Open(name, opts...)
	return p.table(name, f, err)
}

// Unwrap is the file system below.
func (p patient) Unwrap() vfs.FS { return p.FS }

func (p patient) table(name string, f vfs.File, err error) (vfs.File, error) {
	if !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	p.wait()
	if err != nil {
		return nil, err
	}
	return table{f, p}, nil
}

type table struct {
	vfs.File
	p patient
}

func (t table) ReadAt(b []byte, off int64) (int, error) {
	t.p.wait()
	return t.File.ReadAt(b, off)
}
