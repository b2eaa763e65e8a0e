package api

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/asiduo/asiduo/state/store"
)

// What is read from one view before it is closed and the rows are sent. The first pages are short, so that something
// comes soon; each is then twice as long, because a view has to pass all rows before its page.
const (
	firstPage = 500     // rows
	lastPage  = 1 << 16 // rows
	pageBytes = 8 << 20 // end a page
)

// stateScan streams what is stored about the customers of a shard, one JSON object a line, in the order of the ids'
// bytes. Each page is one cycle's state, the whole is not. A scan that breaks off ends without the last chunk, so that
// a client sees it, and can go on after the last id it has.
func (s *server) stateScan(w http.ResponseWriter, r *http.Request) {
	query, ok := parameters(w, r, "shard", "after", "limit")
	if !ok {
		return
	}
	shard, err := strconv.ParseInt(query.Get("shard"), 10, 32)
	if err != nil || shard < 0 {
		fail(w, http.StatusBadRequest, "invalid_parameter", "shard is the number of a shard.")
		return
	}
	left := math.MaxInt
	if query.Has("limit") {
		if left, err = strconv.Atoi(query.Get("limit")); err != nil || left < 1 {
			fail(w, http.StatusBadRequest, "invalid_parameter", "limit is a number of rows, at least 1.")
			return
		}
	}
	p := pages{s: s, shard: int32(shard), after: query.Get("after")}
	control := http.NewResponseController(w)
	for size, begun := firstPage, false; ; size = min(2*size, lastPage) {
		rows, more, err := p.read(r.Context(), min(size, left))
		switch {
		case err != nil && begun:
			if r.Context().Err() == nil && !errors.Is(err, store.ErrClosed) {
				s.o.Log.Error("scan state", "shard", shard, "err", err)
			}
			panic(http.ErrAbortHandler)
		case errors.Is(err, store.ErrClosed):
			notServed(w)
			return
		case err != nil:
			s.broken(w, "scan state", err)
			return
		}
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(http.StatusOK)
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(p.lines.Bytes()); err != nil {
			return
		}
		_ = control.Flush()
		if left -= rows; !more || left == 0 || r.Method == http.MethodHead {
			return
		}
	}
}

// pages reads a shard page by page.
type pages struct {
	s     *server
	shard int32
	after string // the last id that has been read
	lines bytes.Buffer
}

// read makes the next page, at most so many rows; more says whether there may be another one.
func (p *pages) read(ctx context.Context, size int) (rows int, more bool, err error) {
	p.lines.Reset()
	v, err := p.s.o.Scan(ctx, p.shard)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	e := encoder(&p.lines)
	for row, err := range v.RowsAfter(p.after) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return rows, false, err
		}
		if err := e.Encode(p.s.stored(row.ID, record{customer: row.Customer, interactions: row.Interactions})); err != nil {
			return rows, false, err
		}
		p.after = row.ID
		if rows++; rows == size || p.lines.Len() >= pageBytes {
			return rows, true, nil
		}
	}
	return rows, false, nil
}
