// Package archive writes customers to Parquet, one file per shard and snapshot, for DuckDB, Spark, Trino, Polars and
// whatever else reads it:
//
//	snapshots/dt=YYYY-MM-DD/part-<shard>.parquet   one row per customer, in the order of the ids' bytes
//	snapshots/dt=YYYY-MM-DD/_manifest.json         what the parts are: rows, sums, digests, input positions
//	snapshots/dt=YYYY-MM-DD/_SUCCESS               the manifest is true
//
// The columns are of the instant of the snapshot, but for customer_record and interactions_record, which are as they are
// stored: from them a changelog that was lost is filled again. A part carries the same name whoever owns its shard.
//
// The parts are written aside, below staging, by one process or by several that share the directory, and nobody who reads
// snapshots/ sees any of it. When all are there the directory of the day takes their place as a whole, in one step: it
// is the old snapshot or the new one, at whatever point a process is killed. Where the file system has no exchange of two
// names (Linux has it, most network file systems have not) there are two steps, and the place is free between them; the next
// process that looks fills it.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// Format is the version of the files' columns and metadata. Columns are only ever added, at the end, and nullable.
const Format = 1

// FooterKey is the key under which a file's metadata holds a JSON object of what the file is: the members of Snapshot
// and Contents.
const FooterKey = "asiduo"

// Info is what the parts of a snapshot have in common. All is needed, but Params only if views have none.
type Info struct {
	App      string
	Epoch    int
	Shards   int32
	Currency string            // ISO 4217
	Digits   int               // of a minor unit, 0 to 18: the scale of the DECIMAL columns
	Params   *state.Parameters // of a view that has none of its own
}

func (i *Info) check() error {
	switch {
	case i.App == "" || i.Currency == "":
		return errors.New("archive: no application or currency")
	case i.App[0] == '.' || strings.ContainsAny(i.App, `/\`):
		return fmt.Errorf("archive: application %q is no name of a directory", i.App)
	case i.Shards < 1:
		return fmt.Errorf("archive: %d shards", i.Shards)
	case i.Digits < 0 || i.Digits > precision:
		return fmt.Errorf("archive: %d digits of money; at most %d", i.Digits, precision)
	}
	return nil
}

// Snapshot is what the parts of one snapshot must agree in.
type Snapshot struct {
	Format   int           `json:"format"`
	App      string        `json:"app"`
	Epoch    int           `json:"epoch"`
	Shards   int32         `json:"shards"`
	Day      string        `json:"dt"`
	AsOf     state.Instant `json:"as_of_ms"`
	Currency string        `json:"currency"`
	Digits   int           `json:"digits"`
}

func (i *Info) snapshot(day string, asOf state.Instant) Snapshot {
	return Snapshot{Format, i.App, i.Epoch, i.Shards, day, asOf, i.Currency, i.Digits}
}

// Contents is what a part holds and of which state of the shard it was made.
type Contents struct {
	Shard              int32                           `json:"shard"`
	Rows               int64                           `json:"rows"`
	MinID              string                          `json:"min_id"` // empty if there are no rows
	MaxID              string                          `json:"max_id"`
	NetRevenue         string                          `json:"net_revenue"`          // sum over the window, decimal
	NetRevenueLifetime string                          `json:"net_revenue_lifetime"` // sum, decimal
	Segments           map[string]int64                `json:"segments"`             // rows by segment
	Rules              string                          `json:"rules"`                // name of the rule set
	Versions           state.Versions                  `json:"versions"`             // of the parameters the rows are made with
	Cycle              uint64                          `json:"cycle"`
	Horizon            state.Instant                   `json:"horizon_ms"`      // silence had been played up to here
	Inputs             map[string]store.InputPositions `json:"inputs"`          // next offsets, by topic
	Sweep              *store.Sweep                    `json:"sweep,omitempty"` // customers from its cursor on are stored as they were before
	CaughtUp           bool                            `json:"caught_up,omitempty"`
	LiveFrom           state.Instant                   `json:"live_from_ms,omitempty"`
	Changelog          store.Position                  `json:"changelog"`
	Made               store.Made                      `json:"made,omitzero"` // what the stored records are made with
}

// Checkpoint is the one that the shard stood at, without its owner.
func (c *Contents) Checkpoint() store.Checkpoint {
	return store.Checkpoint{
		Cycle: c.Cycle, Inputs: c.Inputs, Horizon: c.Horizon, Versions: c.Versions,
		Sweep: c.Sweep, CaughtUp: c.CaughtUp, LiveFrom: c.LiveFrom, Made: c.Made,
	}
}

// Part is one file of a snapshot.
type Part struct {
	File   string `json:"file"` // relative to the archive's directory, with slashes
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
	Contents
	AsOf state.Instant `json:"-"`
}

// footer is the metadata of a part.
type footer struct {
	Snapshot
	Contents
}

func folder(day string) string { return "snapshots/dt=" + day }

func partName(shard int32) string { return fmt.Sprintf("part-%d.parquet", shard) }

// checkDay refuses what would make another directory than the one meant.
func checkDay(day string) error {
	if t, err := time.Parse(time.DateOnly, day); err != nil || t.Format(time.DateOnly) != day {
		return fmt.Errorf("archive: day %q is not YYYY-MM-DD", day)
	}
	return nil
}

// WritePart writes the part of a shard from a view into a snapshot that was begun, replacing one that is there;
// fs.ErrNotExist if the snapshot was not, or is published meanwhile. A row is the customer
// after silence up to asOf, or as evaluated if that was later; nothing is announced and the view is not changed. It
// takes memory for one row group. An error, such as the context's or store.ErrClosed, leaves what was there before.
func WritePart(ctx context.Context, dir, day string, shard int32, asOf state.Instant, v *store.View, info Info) (Part, error) {
	if err := errors.Join(checkDay(day), info.check()); err != nil {
		return Part{}, err
	}
	if v.Params != nil {
		info.Params = v.Params
	}
	if info.Params == nil || shard < 0 || shard >= info.Shards {
		return Part{}, fmt.Errorf("archive: shard %d of %d, or no parameters", shard, info.Shards)
	}
	var err error
	name := partName(shard)
	p := Part{File: path.Join(folder(day), name), AsOf: asOf}
	p.Contents = Contents{
		Shard: shard, Rules: info.Params.Rules.Name, Versions: info.Params.Versions, Cycle: v.Mark.Cycle,
		Horizon: v.Mark.Horizon, Inputs: v.Mark.Inputs, Sweep: v.Mark.Sweep, CaughtUp: v.Mark.CaughtUp, LiveFrom: v.Mark.LiveFrom,
		Changelog: v.Mark.Position, Made: v.Mark.Made,
	}
	s := info.snapshot(day, asOf)
	p.Bytes, p.SHA256, err = stage(dir, s).put(name, func(w io.Writer) error { return writeRows(ctx, w, v, &info, s, &p.Contents) })
	if err != nil {
		return Part{}, fmt.Errorf("archive %s: %w", p.File, err)
	}
	return p, nil
}

// local is a path with slashes as one of this system, below dir.
func local(dir, name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
