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

// ErrForeign is returned for a snapshot in whose directory there are parts that do not belong to it and that nobody
// will replace.
var ErrForeign = errors.New("foreign part")

// Publish writes _manifest.json and then _SUCCESS once the parts of all shards are there for that day and instant;
// false if some are still missing, which parts of another instant or epoch are: somebody will replace them. It reads
// every part once. If the snapshot is published already, it does nothing: ask before a part is written again.
func Publish(ctx context.Context, dir, day string, asOf state.Instant, info Info) (published bool, err error) {
	if err := errors.Join(checkDay(day), info.check()); err != nil {
		return false, err
	}
	published, err = publish(ctx, dir, info.snapshot(day, asOf))
	if err != nil {
		return false, fmt.Errorf("archive %s: %w", folder(day), err)
	}
	return published, nil
}

func publish(ctx context.Context, root string, s Snapshot) (bool, error) {
	d := dir{local(root, folder(s.Day))}
	if done, err := d.published(s); done || err != nil {
		return done, err
	}
	was, err := d.parts(s)
	if was == nil || err != nil {
		return false, err
	}
	m := Manifest{
		Snapshot: s, Time: time.UnixMilli(int64(s.AsOf)).UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Segments: map[string]int64{},
	}
	for shard := range s.Shards {
		p, ok, err := d.part(ctx, shard, s)
		if !ok || err != nil {
			return false, err
		}
		m.Parts = append(m.Parts, p)
	}
	if err := m.sum(); err != nil {
		return false, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return false, err
	}
	if err := d.putText(manifestName, append(text, '\n'), d.withdraw); err != nil {
		return false, err
	}
	if err := d.putText(successName, nil, func() error { return nil }); err != nil {
		return false, err
	}
	// A part that was replaced while the parts were read is not the one in the manifest. One that is replaced from
	// here on takes _SUCCESS away itself.
	is, err := d.parts(s)
	if err != nil || !slices.EqualFunc(was, is, sameFile) {
		return false, errors.Join(err, d.withdraw())
	}
	return true, d.sweep()
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
		if _, ok := a.SetString(p.NetRevenue); !ok {
			return fmt.Errorf("%s: net revenue %q is not a number", p.File, p.NetRevenue)
		}
		if _, ok := b.SetString(p.NetRevenueLifetime); !ok {
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
	d := dir{local(root, folder(day))}
	if _, err := os.Stat(d.file(successName)); errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("archive %s: it has no %s: it is not whole, or no snapshot", folder(day), successName)
	} else if err != nil {
		return m, fmt.Errorf("archive %s: %w", folder(day), err)
	}
	text, err := os.ReadFile(d.file(manifestName))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return m, fmt.Errorf("archive %s: %w", folder(day), err)
	}
	return m, nil
}

// Has says whether the part of a shard is there, of this very instant.
func Has(ctx context.Context, root, day string, shard int32, asOf state.Instant, info Info) (bool, error) {
	if err := errors.Join(checkDay(day), info.check()); err != nil {
		return false, err
	}
	_, ok, err := dir{local(root, folder(day))}.part(ctx, shard, info.snapshot(day, asOf))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return ok, err
}

// published says whether the snapshot is there and is this one.
func (d dir) published(s Snapshot) (bool, error) {
	if _, err := os.Stat(d.file(successName)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	text, err := os.ReadFile(d.file(manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var m Manifest
	if err != nil || json.Unmarshal(text, &m) != nil {
		return false, err // not readable: it will be written again
	}
	return m.Snapshot == s, nil
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

func (d dir) putText(name string, text []byte, before func() error) error {
	_, _, err := d.put(name, before, func(w io.Writer) error {
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
