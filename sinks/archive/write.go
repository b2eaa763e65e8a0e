package archive

import (
	"context"
	"encoding/json"
	"io"
	"math/big"
	"strconv"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

const (
	// batchRows are made before they go into the columns.
	batchRows = 512
	// groupRows are in a row group: DuckDB's own number, so that its threads share a file. A writer holds the pages of
	// one row group, compressed.
	groupRows = 240 * batchRows
)

// partWriter turns rows into columns.
type partWriter struct {
	to       *parquet.GenericWriter[any]
	columns  []column
	optional []bool
	batch    [][]parquet.Value // by column
	row      row
	group    int // rows in the row group
	min, max string
	rows     int64
	net      [2]big.Int // in the window, ever
	segments [state.MaxSegments]int64
}

func newPartWriter(w io.Writer, info *Info) *partWriter {
	pw := &partWriter{columns: columns(info.Digits), row: row{words: newWords(info.Params.Rules)}}
	schema := schemaOf(pw.columns)
	pw.to = parquet.NewGenericWriter[any](w, schema,
		parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}),
		parquet.DataPageVersion(1), // what every reader knows
		// Readers that are made with parquet-java do not believe the statistics of texts without a version in here.
		parquet.CreatedBy("asiduo", strconv.Itoa(Format), "parquet-go"),
		parquet.DataPageStatistics(true),
		parquet.WriteBufferSize(0), // there is a buffer below
		parquet.SortingWriterConfig(parquet.SortingColumns(parquet.Ascending(pw.columns[0].name))))
	pw.batch = make([][]parquet.Value, len(pw.columns))
	pw.optional = make([]bool, len(pw.columns))
	for i, c := range pw.columns {
		pw.batch[i] = make([]parquet.Value, 0, batchRows)
		pw.optional[i] = c.node.Optional()
	}
	return pw
}

// writeRows writes a whole file from a view and completes its contents.
func writeRows(ctx context.Context, w io.Writer, v *store.View, info *Info, s Snapshot, c *Contents) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	pw := newPartWriter(w, info)
	for from, err := range v.Rows() {
		if err != nil {
			return err
		}
		if err := pw.add(from, info.Params, s.AsOf); err != nil {
			return err
		}
		if len(pw.batch[0]) == batchRows {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := pw.flush(); err != nil {
				return err
			}
		}
	}
	if err := pw.flush(); err != nil {
		return err
	}
	pw.describe(info, c)
	text, err := json.Marshal(footer{s, *c})
	if err != nil {
		return err
	}
	pw.to.SetKeyValueMetadata(FooterKey, string(text))
	if err := pw.to.Close(); err != nil {
		return err
	}
	return ctx.Err()
}

// add puts a customer into the batch.
func (w *partWriter) add(from store.Row, p *state.Parameters, asOf state.Instant) error {
	r := &w.row
	if err := r.take(from, p, asOf); err != nil {
		return err
	}
	for i := range w.columns {
		v := w.columns[i].of(r)
		level := 0
		if w.optional[i] && !v.IsNull() {
			level = 1
		}
		w.batch[i] = append(w.batch[i], v.Level(0, level, i))
	}
	if w.rows == 0 {
		w.min = from.ID
	}
	w.max = from.ID
	w.rows++
	w.segments[max(r.Published, state.Prospect)]++
	var m big.Int
	w.net[0].Add(&w.net[0], m.SetInt64(min(int64(r.Figures.Net), maxMoney)))
	w.net[1].Add(&w.net[1], m.SetInt64(min(int64(r.Figures.LifetimeNet), maxMoney)))
	return nil
}

// flush writes the batch, and the row group when it is full.
func (w *partWriter) flush() error {
	n := len(w.batch[0])
	for i, c := range w.to.ColumnWriters() {
		if _, err := c.WriteRowValues(w.batch[i]); err != nil {
			return err
		}
		w.batch[i] = w.batch[i][:0]
	}
	w.row.bytes = w.row.bytes[:0]
	if w.group += n; w.group < groupRows {
		return nil
	}
	w.group = 0
	return w.to.Flush()
}

func (w *partWriter) describe(info *Info, c *Contents) {
	c.Rows, c.MinID, c.MaxID = w.rows, w.min, w.max
	c.NetRevenue, c.NetRevenueLifetime = decimal(&w.net[0], info.Digits), decimal(&w.net[1], info.Digits)
	c.Segments = map[string]int64{}
	for g, n := range w.segments {
		if n > 0 {
			c.Segments[info.Params.Rules.SegmentName(state.Segment(g))] = n
		}
	}
}

// decimal is a number of minor units with so many digits after the point.
func decimal(minor *big.Int, digits int) string {
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
	return new(big.Rat).SetFrac(minor, unit).FloatString(digits)
}
