package archive

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// Names that readers know.
const (
	manifestName = "_manifest.json"
	successName  = "_SUCCESS"
)

// Personal data: not for everybody.
const (
	dirMode  = 0o750
	fileMode = 0o640
)

// temporary is the pattern of names of files that are not whole yet. Spark, Trino and Hive pass over names that begin
// with an underscore, DuckDB over those that its pattern does not match.
const temporary = "_*.tmp"

// dir is a directory in which files appear whole or not at all.
type dir struct{ path string }

// Each change of the disk asks step before it is made, so that tests can end a process between any two of them.
var (
	step          = func() error { return nil }
	exchangeFiles = exchangeNames
	syncFile      = (*os.File).Sync // of a directory
)

// openFolder makes a directory some levels below root, and makes it last.
func openFolder(root, below string) (dir, error) {
	d := dir{local(root, below)}
	if err := step(); err != nil {
		return d, err
	}
	if err := os.MkdirAll(d.path, dirMode); err != nil {
		return d, err
	}
	for at := below; at != "."; {
		at = path.Dir(at)
		if err := (dir{local(root, at)}).sync(); err != nil {
			return d, err
		}
	}
	return d, nil
}

// move gives a directory another name, at which there must be nothing.
func move(from, to dir) error {
	if err := step(); err != nil {
		return err
	}
	return os.Rename(from.path, to.path)
}

func remove(file string) error {
	if err := step(); err != nil {
		return err
	}
	return os.Remove(file)
}

// exchange gives two directories each other's name.
func exchange(a, b dir) error {
	if err := step(); err != nil {
		return err
	}
	return exchangeFiles(a.path, b.path)
}

// discard removes a directory of staging, if it is there. Before the first of its files is gone it has another name, so that
// whoever is about to put it in a place does not find it, and is no snapshot any more.
func (d dir) discard() error {
	gone, err := d.take()
	if err == nil {
		err = gone.withdraw()
	}
	if err == nil {
		err = step()
	}
	if err == nil {
		err = os.RemoveAll(gone.path)
	}
	if errors.Is(err, fs.ErrNotExist) { // somebody else does it
		return nil
	}
	return err
}

func (d dir) file(name string) string { return filepath.Join(d.path, name) }

// sync makes the names in the directory last. Some network file systems do not know that of a directory.
func (d dir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	err = syncFile(f)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// put writes a file that has its name only once it is on the disk. It returns length and digest. When anything fails
// the file has not changed and nothing is left behind.
func (d dir) put(name string, fill func(io.Writer) error) (size int64, sum string, err error) {
	if err := step(); err != nil {
		return 0, "", err
	}
	f, err := os.CreateTemp(d.path, strings.Replace(temporary, "*", strings.TrimPrefix(name, "_")+".*", 1))
	if err != nil {
		return 0, "", err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			if step() == nil {
				_ = os.Remove(f.Name())
			}
		}
	}()
	digest := sha256.New()
	buffered := bufio.NewWriterSize(io.MultiWriter(f, digest), 1<<18)
	if err := fill(buffered); err != nil {
		return 0, "", err
	}
	if err := errors.Join(buffered.Flush(), f.Chmod(fileMode), f.Sync()); err != nil {
		return 0, "", err
	}
	if size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return 0, "", err
	}
	if err := f.Close(); err != nil {
		return 0, "", err
	}
	if err := step(); err != nil {
		return 0, "", err
	}
	if err := os.Rename(f.Name(), d.file(name)); err != nil {
		return 0, "", err
	}
	// The name stays even if it cannot be made to last: the file is whole.
	return size, hex.EncodeToString(digest.Sum(nil)), d.sync()
}

// withdraw takes away the mark of a whole snapshot.
func (d dir) withdraw() error {
	err := remove(d.file(successName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.sync()
}

// sweep removes what writers that have ended in the middle have left behind.
func (d dir) sweep() error {
	names, err := d.match(temporary)
	for _, name := range names {
		if gone := remove(d.file(name)); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// match are the names in the directory that a pattern matches; the directory's own name is no pattern.
func (d dir) match(pattern string) ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	return names, err
}
