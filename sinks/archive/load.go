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
	"iter"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"

	"github.com/asiduo/asiduo/state/store"
)

// Loaded is a published snapshot whose stored records can be read.
type Loaded struct {
	Manifest
	Digest string // of the manifest, SHA-256, hexadecimal
	dir    dir
}

// Load opens a snapshot by its directory, such as archive/snapshots/dt=2026-06-01. It reads every file, and proves that
// they are those of the manifest and hold what an import needs.
func Load(ctx context.Context, path string) (*Loaded, error) {
	l := &Loaded{dir: dir{filepath.Clean(path)}}
	if _, err := os.Stat(l.dir.file(successName)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("snapshot %s: it has no %s: it is not whole, or no snapshot", path, successName)
	} else if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", path, err)
	}
	text, err := os.ReadFile(l.dir.file(manifestName))
	if err == nil {
		err = json.Unmarshal(text, &l.Manifest)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: read manifest: %w", path, err)
	}
	digest := sha256.Sum256(text)
	l.Digest = hex.EncodeToString(digest[:])
	if l.Format > Format {
		return nil, fmt.Errorf("snapshot %s: its format %d is newer than this release, which knows %d", path, l.Format, Format)
	}
	if len(l.Parts) != int(l.Shards) || l.Shards < 1 {
		return nil, fmt.Errorf("snapshot %s: the manifest lists %d parts of %d shards", path, len(l.Parts), l.Shards)
	}
	for i, p := range l.Parts {
		if int(p.Shard) != i {
			return nil, fmt.Errorf("snapshot %s: the manifest lists shard %d in the place of %d", path, p.Shard, i)
		}
		if p.Made == (store.Made{}) {
			return nil, fmt.Errorf("snapshot %s: it was written by a release that did not keep the stored records: take one of a newer release", path)
		}
		if _, err := l.size(ctx, p.Shard); err != nil {
			return nil, l.failed(p.Shard, err)
		}
	}
	return l, nil
}

// size is that of a part in bytes, after it was held against its digest.
func (l *Loaded) size(ctx context.Context, shard int32) (int64, error) {
	is, _, err := l.dir.part(ctx, shard, l.Snapshot)
	if err != nil {
		return 0, err
	}
	if want := l.Parts[shard]; is.SHA256 != want.SHA256 {
		return 0, fmt.Errorf("it is not the file of the manifest: SHA-256 %s instead of %s", is.SHA256, want.SHA256)
	}
	return is.Bytes, nil
}

func (l *Loaded) failed(shard int32, err error) error {
	return fmt.Errorf("snapshot %s: %s: %w", l.dir.path, partName(shard), err)
}

// storedRow are the columns that are read.
type storedRow struct {
	ID           string `parquet:"customer_id"`
	Customer     []byte `parquet:"customer_record,optional"`
	Interactions []byte `parquet:"interactions_record,optional"`
}

// Records are the stored records of a shard by their keys in store and changelog, after the file was held against its
// digest. The bytes are valid until the next record.
func (l *Loaded) Records(ctx context.Context, shard int32) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		err := l.read(ctx, shard, func(r store.Record) bool { return yield(r, nil) })
		if err != nil {
			yield(store.Record{}, l.failed(shard, err))
		}
	}
}

func (l *Loaded) read(ctx context.Context, shard int32, record func(store.Record) bool) (err error) {
	size, err := l.size(ctx, shard) // again: much may have happened to it since
	if err != nil {
		return err
	}
	f, err := os.Open(l.dir.file(partName(shard)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	file, err := parquet.OpenFile(f, size)
	if err != nil {
		return err
	}
	rows := parquet.NewGenericReader[storedRow](file)
	defer func() { err = errors.Join(err, rows.Close()) }()
	batch := make([]storedRow, batchRows)
	for {
		n, err := rows.Read(batch)
		for i := range batch[:n] {
			row := &batch[i]
			if len(row.Customer) > 0 && !record(store.Record{Key: store.CustomerKey(nil, row.ID), Value: row.Customer}) {
				return nil
			}
			if len(row.Interactions) > 0 && !record(store.Record{Key: store.InteractionsKey(nil, row.ID), Value: row.Interactions}) {
				return nil
			}
			*row = storedRow{}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
}
