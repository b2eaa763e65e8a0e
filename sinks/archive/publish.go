package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/asiduo/asiduo/state"
)

// Manifest is the content of _manifest.json. It says nothing of when it was made, so the same parts make the same
// manifest.
type Manifest struct {
	Snapshot
	Time               string           `json:"as_of"` // RFC 3339, UTC
	Rows               int64            `json:"rows"`
	Bytes              int64            `json:"bytes"`
	NetRevenue         string           `json:"net_revenue"`
	NetRevenueLifetime string           `json:"net_revenue_lifetime"`
	Segments           map[string]int64 `json:"segments"`
	Parts              []Part           `json:"parts"` // by shard
}

// ErrForeign is returned for a snapshot in whose way there are files that are not ours to remove.
var ErrForeign = errors.New("foreign part")

// Publish puts a snapshot in the place of the one of that day once the parts of all shards are there; false if some are
// still missing, which parts of another instant or epoch are. It reads every part once. If the snapshot is published
// already, also by somebody else meanwhile, it does nothing; ErrOlder if a newer one is.
func Publish(ctx context.Context, dir, day string, asOf state.Instant, info Info) (published bool, err error) {
	if err := errors.Join(checkDay(day), info.check()); err != nil {
		return false, err
	}
	s := info.snapshot(day, asOf)
	published, err = publish(ctx, dir, s)
	if errors.Is(err, fs.ErrNotExist) { // there is none, or somebody else has it
		return isPublished(dir, s), nil
	}
	if err != nil {
		return published, fmt.Errorf("archive %s: %w", folder(day), err)
	}
	return published, nil
}

func publish(ctx context.Context, root string, s Snapshot) (bool, error) {
	d := stage(root, s)
	was, err := d.parts(s)
	if err != nil {
		return false, err
	}
	if was == nil {
		return isPublished(root, s), nil
	}
	place := dir{local(root, folder(s.Day))}
	if err := place.replaceable(s); err != nil { // before all is read
		return false, err
	}
	m, ok, err := d.manifest(ctx, s)
	if !ok || err != nil {
		return false, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return false, err
	}
	_, err = openFolder(root, path.Dir(folder(s.Day)))
	if err := errors.Join(err, place.replaceable(s), d.touch(root)); err != nil {
		return false, err
	}
	taken, err := d.take()
	if err != nil {
		return false, err
	}
	// A part that was replaced while the parts were read is not the one in the manifest. From here on none is. Only what
	// has been held against it gets the mark, without which nobody else puts it in its place.
	is, err := taken.parts(s)
	if err != nil || !slices.EqualFunc(was, is, sameFile) {
		return false, errors.Join(err, taken.giveBack(d))
	}
	if err := errors.Join(taken.sweep(), taken.putText(manifestName, append(text, '\n')), taken.putText(successName, nil)); err != nil {
		return false, errors.Join(err, taken.giveBack(d))
	}
	placed, err := taken.replace(root, s)
	if !placed {
		return false, errors.Join(err, taken.giveBack(d))
	}
	if err != nil {
		return !errors.Is(err, ErrOlder), err
	}
	return true, clean(root, s)
}

// clean removes what nobody needs once a snapshot is published: older ones of that day that are not whole.
func clean(root string, s Snapshot) error {
	d := stagingOf(root, s.App)
	entries, err := readDir(d)
	for _, e := range entries {
		if is, taken, ok := parseStage(e.Name()); ok && !taken && is.Day == s.Day && is.AsOf <= s.AsOf {
			err = errors.Join(err, dir{d.file(e.Name())}.discard())
		}
	}
	return err
}

// isPublished says whether this very snapshot is.
func isPublished(root string, s Snapshot) bool {
	m, err := ReadManifest(root, s.Day)
	return err == nil && m.Snapshot == s
}

// replaceable refuses to replace a directory in which there is something that is not of this application.
func (d dir) replaceable(s Snapshot) error {
	entries, err := readDir(d)
	for _, e := range entries {
		name := e.Name()
		if was, err := d.footer(name); err == nil && was.App != s.App || errors.Is(err, ErrForeign) {
			return fmt.Errorf("%w: %s/%s is not of application %s, and would be replaced: move it away", ErrForeign, folder(s.Day), name, s.App)
		}
		temp, _ := filepath.Match(temporary, name)
		part, _ := filepath.Match("part-*.parquet", name)
		if !temp && !part && name != manifestName && name != successName && name[0] != '.' {
			return fmt.Errorf("%w: %s/%s is no part, and would be removed: move it away", ErrForeign, folder(s.Day), name)
		}
	}
	return err
}

// manifest is made from all parts; false if some are still missing.
func (d dir) manifest(ctx context.Context, s Snapshot) (m Manifest, ok bool, err error) {
	m = Manifest{
		Snapshot: s, Time: time.UnixMilli(int64(s.AsOf)).UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Segments: map[string]int64{},
	}
	for shard := range s.Shards {
		p, ok, err := d.part(ctx, shard, s)
		if !ok || err != nil {
			return m, false, err
		}
		m.Parts = append(m.Parts, p)
	}
	return m, true, m.sum()
}

// sum fills in the sums over the parts.
func (m *Manifest) sum() error {
	var net, lifetime big.Rat
	for _, p := range m.Parts {
		m.Rows += p.Rows
		m.Bytes += p.Bytes
		for segment, n := range p.Segments {
			m.Segments[segment] += n
		}
		var a, b big.Rat
		_, ok := a.SetString(p.NetRevenue) // #nosec G113 -- an instance of ours has written it
		if !ok {
			return fmt.Errorf("%s: net revenue %q is not a number", p.File, p.NetRevenue)
		}
		_, ok = b.SetString(p.NetRevenueLifetime) // #nosec G113 -- so it has this
		if !ok {
			return fmt.Errorf("%s: net revenue %q is not a number", p.File, p.NetRevenueLifetime)
		}
		net.Add(&net, &a)
		lifetime.Add(&lifetime, &b)
	}
	m.NetRevenue, m.NetRevenueLifetime = net.FloatString(m.Digits), lifetime.FloatString(m.Digits)
	return nil
}

// ReadManifest reads what a published snapshot says about itself.
func ReadManifest(root, day string) (m Manifest, err error) {
	if err := checkDay(day); err != nil {
		return m, err
	}
	if m, err = (dir{local(root, folder(day))}).readManifest(); err != nil {
		return m, fmt.Errorf("archive %s: %w", folder(day), err)
	}
	return m, nil
}

func (d dir) readManifest() (m Manifest, err error) {
	if _, err := os.Stat(d.file(successName)); errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("it has no %s: it is not whole, or no snapshot", successName)
	} else if err != nil {
		return m, err
	}
	text, err := os.ReadFile(d.file(manifestName))
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}

// parts are the files of all shards, nil if some are missing.
func (d dir) parts(s Snapshot) ([]fs.FileInfo, error) {
	names, err := d.match("*.parquet")
	if err != nil {
		return nil, err
	}
	files := make([]fs.FileInfo, 0, s.Shards)
	for shard := range s.Shards {
		i := slices.Index(names, partName(shard))
		if i < 0 {
			return nil, nil
		}
		names = slices.Delete(names, i, i+1)
		f, err := os.Stat(d.file(partName(shard)))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("%w: %s is none of %d shards, but readers would find it: remove it", ErrForeign, names[0], s.Shards)
	}
	return files, nil
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// part reads a part; false if it is one of another instant or epoch.
func (d dir) part(ctx context.Context, shard int32, s Snapshot) (_ Part, ok bool, err error) {
	name := partName(shard)
	f, err := os.Open(d.file(name))
	if err != nil {
		return Part{}, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	digest := sha256.New()
	size, err := io.Copy(digest, reader{ctx, f})
	if err != nil {
		return Part{}, false, err
	}
	is, err := readFooter(f, size)
	if err != nil {
		return Part{}, false, fmt.Errorf("%s: %w", name, err)
	}
	if is.App != s.App || is.Shard != shard {
		return Part{}, false, fmt.Errorf("%w: %s is shard %d of application %s", ErrForeign, name, is.Shard, is.App)
	}
	return Part{
		File: path.Join(folder(s.Day), name), Bytes: size, SHA256: hex.EncodeToString(digest.Sum(nil)),
		Contents: is.Contents, AsOf: is.AsOf,
	}, is.Snapshot == s, nil
}

// footer is what a file says about itself, if it is one of Parquet.
func (d dir) footer(name string) (_ footer, err error) {
	f, err := os.Open(d.file(name))
	if err != nil {
		return footer{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return footer{}, err
	}
	return readFooter(f, st.Size())
}

// readFooter reads what a file says about itself.
func readFooter(r io.ReaderAt, size int64) (f footer, err error) {
	file, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return f, err
	}
	text, ok := file.Lookup(FooterKey)
	if !ok {
		return f, fmt.Errorf("%w: its metadata has no %q", ErrForeign, FooterKey)
	}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return f, fmt.Errorf("metadata: %w", err)
	}
	if f.Rows != file.NumRows() {
		return f, fmt.Errorf("metadata: %d rows; there are %d", f.Rows, file.NumRows())
	}
	return f, nil
}

func (d dir) putText(name string, text []byte) error {
	_, _, err := d.put(name, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	return err
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
