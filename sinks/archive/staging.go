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

const clockFile = ".clock.*" // in staging

// clock is the disk's own, by which what lies there has its times: the machines that share it may not agree.
func clock(root string) (time.Time, error) {
	if err := step(); err != nil {
		return time.Time{}, err
	}
	f, err := os.CreateTemp(local(root, staging), clockFile)
	if err != nil {
		return time.Time{}, err
	}
	st, err := f.Stat()
	if err = errors.Join(err, f.Close()); err == nil {
		err = remove(f.Name())
	}
	if err != nil {
		return time.Time{}, err
	}
	return st.ModTime(), nil
}

// sweepClocks removes the files of processes that were killed while they asked for the time.
func sweepClocks(root string, now time.Time) error {
	d := dir{local(root, staging)}
	entries, err := readDir(d)
	for _, e := range entries {
		is, _ := filepath.Match(clockFile, e.Name())
		if age, there := ageOf(e, now); !is || !there || age < leftover {
			continue
		}
		if gone := remove(d.file(e.Name())); !errors.Is(gone, fs.ErrNotExist) { // else somebody else does it
			err = errors.Join(err, gone)
		}
	}
	return err
}

// touch makes a directory new, so that its second name counts from now. No file is made for that: it would be left behind
// if somebody else takes the directory meanwhile.
func (d dir) touch(root string) error {
	now, err := clock(root)
	if err != nil {
		return err
	}
	return os.Chtimes(d.path, now, now)
}

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

// BeginAgain opens a snapshot as if there were none of that day: a newer one is none from now on.
func BeginAgain(root, day string, asOf state.Instant, info Info) error {
	if err := errors.Join(checkDay(day), info.check()); err != nil {
		return err
	}
	s := info.snapshot(day, asOf)
	if err := stage(root, s).discard(); err != nil {
		return err
	}
	if m, ok := Published(root, day, info); ok && m.AsOf > asOf {
		if err := (dir{local(root, folder(day))}).withdraw(); err != nil {
			return err
		}
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
		if !taken {
			return true, nil
		}
		now, err := clock(root)
		if err != nil {
			return false, err
		}
		if age, ok := ageOf(e, now); ok && age < takes {
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
	if len(entries) == 0 {
		return nil, err
	}
	now, failed := clock(root) // then nothing is old
	err = errors.Join(err, failed, sweepClocks(root, now))
	var list []Stage
	for _, e := range entries {
		s, taken, ok := parseStage(e.Name())
		age, there := ageOf(e, now)
		if !ok || !there {
			continue
		}
		if is := (dir{d.file(e.Name())}); taken {
			err = errors.Join(err, is.settle(root, info.snapshot(s.Day, s.AsOf), age))
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
	return dir{local(root, folder(day))}.published(info.snapshot(day, 0))
}

// published is what a snapshot says about itself that is whole, and of one day and origin with another.
func (d dir) published(s Snapshot) (m Manifest, ok bool) {
	m, err := d.readManifest()
	if err != nil || m.App != s.App || m.Epoch != s.Epoch || m.Shards != s.Shards || m.Day != s.Day {
		return Manifest{}, false
	}
	for _, p := range m.Parts {
		if st, err := os.Stat(d.file(partName(p.Shard))); err != nil || st.Size() != p.Bytes {
			return Manifest{}, false
		}
	}
	return m, true
}

// take gives a snapshot its second name, or another one.
func (d dir) take() (dir, error) {
	taken := d.second()
	return taken, move(d, taken)
}

func (d dir) second() dir {
	s, _, _ := parseStage(filepath.Base(d.path))
	return dir{filepath.Join(filepath.Dir(d.path), stageName(s.Day, s.AsOf)+"."+rand.Text())}
}

// giveBack gives a snapshot its first name again.
func (d dir) giveBack(first dir) error {
	if err := d.withdraw(); err != nil {
		return err
	}
	return move(d, first)
}

// replace puts a snapshot in its place, and removes what was there. That is a newer one if somebody has published it while
// this process stood still: it is put back, ErrOlder. Unless placed, the snapshot has not moved.
func (d dir) replace(root string, s Snapshot) (placed bool, err error) {
	place := dir{local(root, folder(s.Day))}
	was, err := d.swap(place)
	if errors.Is(err, fs.ErrNotExist) && isPublished(root, s) { // somebody who looked has done it
		err = nil
	}
	if err != nil {
		return false, err
	}
	if m, ok := was.published(s); ok && m.AsOf > s.AsOf {
		if _, err = was.replace(root, m.Snapshot); errors.Is(err, fs.ErrNotExist) { // somebody who looked does it
			err = nil
		}
		return true, errors.Join(ErrOlder, err)
	}
	// The old one goes only once the new one is sure to be there after a power cut.
	if err := errors.Join(dir{filepath.Dir(place.path)}.sync(), stagingOf(root, s.App).sync()); err != nil {
		return true, err
	}
	return true, was.discard()
}

// settle deals with a snapshot that has its second name and perhaps nobody any more: where there is no exchange of
// names, the place is free for a moment, and whoever was killed then has left both the old snapshot and the new one. One
// that is newer than its name had its place until an older one took it, whose process has not put it back.
func (d dir) settle(root string, s Snapshot, age time.Duration) error {
	place := dir{local(root, folder(s.Day))}
	if _, err := os.Lstat(place.path); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(d.file(successName)); err == nil {
			if err := errors.Join(os.MkdirAll(filepath.Dir(place.path), dirMode), move(d, place)); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
				return errors.Join(err, dir{filepath.Dir(place.path)}.sync())
			}
			return nil // somebody was faster
		}
	}
	if m, ok := d.published(s); age < leftover && !(ok && m.AsOf > s.AsOf) {
		return nil
	}
	// Nobody exchanges what has a name of ours, so it is still what we see when we deal with it.
	d, err := d.take()
	if err == nil {
		err = d.putBack(root, place, s, age)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrOlder) { // somebody was faster, with this one or a newer one
		return nil
	}
	return err
}

// putBack puts a snapshot in its place if it is newer than the one there, and removes it otherwise; not yet one that is
// whole while nobody can say what is in the place: it is free for moments, and a read may fail.
func (d dir) putBack(root string, place dir, s Snapshot, age time.Duration) error {
	m, whole := d.published(s)
	there, ok := place.published(s)
	if whole && ok && m.AsOf > there.AsOf {
		_, err := d.replace(root, m.Snapshot)
		return err
	}
	if _, err := os.Lstat(place.path); whole && !ok && (age < leftover || errors.Is(err, fs.ErrNotExist)) {
		return nil // the next look knows
	}
	return d.discard()
}

// swap puts a snapshot in its place. What was there has the snapshot's second name then, or one of its own.
func (d dir) swap(place dir) (was dir, err error) {
	for range 10 {
		was, err = d, exchange(d, place)
		if err == nil {
			return was, nil
		}
		if _, there := os.Lstat(place.path); errors.Is(there, fs.ErrNotExist) {
			err = move(d, place)
		} else if errors.Is(err, errors.ErrUnsupported) {
			was = d.second()
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
func ageOf(e fs.DirEntry, now time.Time) (time.Duration, bool) {
	st, err := e.Info()
	if err != nil {
		return 0, false
	}
	return now.Sub(st.ModTime()), true
}
