package api

import (
	"bufio"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// RawLine is a line of /v1/state/records: first the mark, then records and timers, last the number of lines before it.
type RawLine struct {
	Mark  *store.Mark   `json:"mark,omitempty"`
	Key   []byte        `json:"k,omitempty"`
	Value []byte        `json:"v,omitempty"`
	At    state.Instant `json:"at,omitempty"` // of a timer
	ID    string        `json:"id,omitempty"`
	Lines int           `json:"lines,omitempty"`
}

// stateRecords streams a shard as it is stored, from one view, so that all of it is the state of one cycle. The view is
// held until all is sent; if the shard is closed meanwhile the answer breaks off.
func (s *server) stateRecords(w http.ResponseWriter, r *http.Request) {
	query, ok := parameters(w, r, "shard")
	if !ok {
		return
	}
	shard, err := strconv.ParseInt(query.Get("shard"), 10, 32)
	if err != nil || shard < 0 {
		fail(w, http.StatusBadRequest, "invalid_parameter", "shard is the number of a shard.")
		return
	}
	v, err := s.o.Scan(r.Context(), int32(shard))
	if errors.Is(err, store.ErrClosed) {
		notServed(w)
		return
	}
	if err != nil {
		s.broken(w, "read state", err)
		return
	}
	defer func() { _ = v.Close() }()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	buffered := bufio.NewWriterSize(w, 1<<16)
	lines, e := 0, json.NewEncoder(buffered)
	for line, err := range RawLines(v) {
		if err == nil {
			if lines++; lines%1000 == 1 {
				_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
			}
		}
		if err = errors.Join(err, r.Context().Err()); err == nil {
			err = e.Encode(line)
		}
		if err != nil {
			if r.Context().Err() == nil && !errors.Is(err, store.ErrClosed) {
				s.o.Log.Error("read state", "shard", shard, "err", err)
			}
			panic(http.ErrAbortHandler)
		}
	}
	if err := errors.Join(e.Encode(RawLine{Lines: lines}), buffered.Flush()); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// RawLines are those of a view, but for the last.
func RawLines(v *store.View) iter.Seq2[RawLine, error] {
	return func(yield func(RawLine, error) bool) {
		if !yield(RawLine{Mark: &v.Mark}, nil) {
			return
		}
		for r, err := range v.Records() {
			if !yield(RawLine{Key: r.Key, Value: r.Value}, err) || err != nil {
				return
			}
		}
		for t, err := range v.Timers() {
			if !yield(RawLine{At: t.At, ID: t.ID}, err) || err != nil {
				return
			}
		}
	}
}
