package archive

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/asiduo/asiduo/state"
)

// Below staging/<app> of an archive there are
//
//	YYYY-MM-DD.<ms>           the parts of the snapshot of that day and instant, until it is whole
//	YYYY-MM-DD.<ms>.<random>  one that is taking its place, or that has had it until now
//
// The first is also how the processes that share an archive hear of a snapshot that one of them was asked for. Only one
// process can give it the second name, and nobody writes into it from then on.
const staging = "staging"

const (
	takes    = time.Minute    // from the second name to the place: milliseconds
	leftover = time.Hour      // a second name that lives on belongs to nobody
	patience = 24 * time.Hour // in which something must happen to a snapshot that is not whole
)

// ErrOlder is returned for a snapshot when a newer one of that day is published.
var ErrOlder = errors.New("a newer one is published")

func stagingOf(root, app string) dir { return dir{local(root, path.Join(staging, app))} }

func stageName(day string, asOf state.Instant) string { return fmt.Sprintf("%s.%d", day, asOf) }

func stage(root string, s Snapshot) dir {
	return dir{stagingOf(root, s.App).file(stageName(s.Day, s.AsOf))}
}

// Stage is a snapshot that is not whole.
type Stage struct {
	Day  string
	AsOf state.Instant
}

// parseStage reads the name of a directory; taken is one with the second name.
func parseStage(name string) (s Stage, taken, ok bool) {
	day, rest, _ := strings.Cut(name, ".")
	ms, random, taken := strings.Cut(rest, ".")
	at, err := strconv.ParseInt(ms, 10, 64)
	return Stage{day, state.Instant(at)}, taken, err == nil && checkDay(day) == nil && taken == (random != "")
}

// Begin opens a snapshot, so that its parts can be written, by whoever finds it with Pending. It does nothing if the
// snapshot is published or under way.
func Begin(root, day string, asOf state.Instant, info Info) error {
	if err := errors.Join(checkDay(day), info.check()); err != nil {
		return err
	}
	s := info.snapshot(day, asOf)
	// First what is under way, then what is published: the one becomes the other.
	if under, err := underWay(root, s); under || err != nil {
		return err
	}
	switch m, ok := Published(root, day, info); {
	case ok && m.AsOf == asOf:
		return nil
	case ok && m.AsOf > asOf:
		return fmt.Errorf("archive %s: as of %s: %w", folder(day), m.Time, ErrOlder)
	}
	return begin(root, s)
}

// BeginAgain opens a snapshot as if there were none of that day.
func BeginAgain(root, day string, asOf state.Instant, info Info) error {
	if err := errors.Join(checkDay(day), info.check()); err != nil {
		return err
	}
	s := info.snapshot(day, asOf)
	if err := stage(root, s).discard(); err != nil {
		return err
	}
	return begin(root, s)
}

func begin(root string, s Snapshot) error {
	_, err := openFolder(root, path.Join(staging, s.App, stageName(s.Day, s.AsOf)))
	if err != nil {
		return fmt.Errorf("archive %s: %w", folder(s.Day), err)
	}
	return nil
}

func underWay(root string, s Snapshot) (bool, error) {
	entries, err := readDir(stagingOf(root, s.App))
	for _, e := range entries {
		is, taken, ok := parseStage(e.Name())
		if !ok || is != (Stage{s.Day, s.AsOf}) {
			continue
		}
		if age, ok := ageOf(e); ok && (!taken || age < takes) {
			return true, nil
		}
	}
	return false, err
}

// Pending are the snapshots of an application that are not whole, the newest first, without those that nothing will
// come of. It finishes or removes what processes that were killed have left behind.
func Pending(root string, info Info) ([]Stage, error) {
	if err := info.check(); err != nil {
		return nil, err
	}
	d := stagingOf(root, info.App)
	entries, err := readDir(d)
	var list []Stage
	for _, e := range entries {
		s, taken, ok := parseStage(e.Name())
		age, there := ageOf(e)
		if !ok || !there {
			continue
		}
		if is := (dir{d.file(e.Name())}); taken {
			err = errors.Join(err, is.settle(dir{local(root, folder(s.Day))}, age))
		} else if m, ok := Published(root, s.Day, info); age > patience || ok && m.AsOf > s.AsOf {
			err = errors.Join(err, is.discard())
		} else {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Stage) int { return cmp.Compare(b.AsOf, a.AsOf) })
	return list, err
}

// Progress is how far a snapshot is that was begun.
type Progress struct {
	Open    bool    // parts can be written
	Whole   bool    // it is published
	Missing []int32 // shards without a part, of one that is open
	Trace   string  // changes as long as somebody writes
}

// Look says how far a snapshot is; ErrOlder if nothing will come of it.
func Look(root, day string, asOf state.Instant, info Info) (p Progress, err error) {
	if err := errors.Join(checkDay(day), info.check()); err != nil {
		return p, err
	}
	s := info.snapshot(day, asOf)
	d := stage(root, s)
	entries, err := os.ReadDir(d.path)
	if err == nil {
		var trace strings.Builder
		for _, e := range entries {
			if st, err := e.Info(); err == nil {
				fmt.Fprintln(&trace, e.Name(), st.Size(), st.ModTime())
			}
		}
		p = Progress{Open: true, Trace: trace.String()}
		for shard := range s.Shards {
			if is, err := d.footer(partName(shard)); err != nil || is.Snapshot != s || is.Shard != shard {
				p.Missing = append(p.Missing, shard)
			}
		}
		return p, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("archive %s: %w", folder(day), err)
	}
	m, ok := Published(root, day, info)
	if ok && m.AsOf > asOf {
		return p, fmt.Errorf("archive %s: as of %s: %w", folder(day), m.Time, ErrOlder)
	}
	p.Whole = ok && m.AsOf == asOf
	return p, nil
}

// Published is what the published snapshot of a day says about itself, if it is of this origin and all its files are
// there.
func Published(root, day string, info Info) (m Manifest, ok bool) {
	m, err := ReadManifest(root, day)
	if err != nil || m.App != info.App || m.Epoch != info.Epoch || m.Shards != info.Shards {
		return Manifest{}, false
	}
	for _, p := range m.Parts {
		if st, err := os.Stat(local(root, p.File)); err != nil || st.Size() != p.Bytes {
			return Manifest{}, false
		}
	}
	return m, true
}

// take gives a snapshot that is whole its second name.
func (d dir) take() (dir, error) {
	taken := dir{d.path + "." + rand.Text()}
	return taken, move(d, taken)
}

// settle deals with a snapshot that has its second name and perhaps nobody any more: where there is no exchange of
// names, the place is free for a moment, and whoever was killed then has left both the old snapshot and the new one.
func (d dir) settle(place dir, age time.Duration) error {
	if _, err := os.Lstat(place.path); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(d.file(successName)); err == nil {
			if err := errors.Join(os.MkdirAll(filepath.Dir(place.path), dirMode), move(d, place)); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
				return errors.Join(err, dir{filepath.Dir(place.path)}.sync())
			}
			return nil // somebody was faster
		}
	}
	if age < leftover {
		return nil
	}
	return d.discard()
}

// swap puts a snapshot in its place. What was there has the snapshot's second name then, or one of its own.
func (d dir) swap(place dir) (was dir, err error) {
	for range 10 {
		err := exchange(d, place)
		if err == nil {
			return d, nil
		}
		if _, there := os.Lstat(place.path); errors.Is(there, fs.ErrNotExist) {
			err = move(d, place)
		} else if errors.Is(err, errors.ErrUnsupported) {
			was = dir{d.path + "." + rand.Text()}
			if err := move(place, was); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return was, err
			}
			if err = move(d, place); err != nil && !errors.Is(err, fs.ErrExist) {
				_ = move(was, place) // or the next process that looks does it
			}
		}
		if !errors.Is(err, fs.ErrExist) { // else somebody has put back what was there
			return was, err
		}
	}
	return was, fmt.Errorf("%s: somebody is at it all the time", place.path)
}

func readDir(d dir) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// ageOf is how long ago something has changed in a directory; false if it is gone.
func ageOf(e fs.DirEntry) (time.Duration, bool) {
	st, err := e.Info()
	if err != nil {
		return 0, false
	}
	return time.Since(st.ModTime()), true
}
