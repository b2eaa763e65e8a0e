package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// ErrIncomplete is returned for a snapshot that lacks parts of other processes.
var ErrIncomplete = errors.New("the snapshot is not whole")

// snapshot writes an archive as of ?as_of=, an RFC 3339 time, or now. It takes as long as it takes, and ends if the client
// goes away.
func (s *server) snapshot(w http.ResponseWriter, r *http.Request) {
	query, ok := parameters(w, r, "as_of")
	if !ok {
		return
	}
	if s.o.Snapshot == nil {
		fail(w, http.StatusNotImplemented, "no_archive", "This process has no archive: archive.dir is not set.")
		return
	}
	at, clock := s.o.Now()
	if query.Has("as_of") {
		t, err := time.Parse(time.RFC3339, query.Get("as_of"))
		if asked := state.Instant(t.UnixMilli()); err != nil || (clock && asked > at) {
			fail(w, http.StatusBadRequest, "invalid_parameter", "as_of is a time such as 2026-01-31T00:00:00Z that has come.")
			return
		}
		at, clock = state.Instant(t.UnixMilli()), true
	}
	if !clock {
		unavailable(w, "no_clock", "It is not known yet what time it is; give one with as_of.")
		return
	}
	if !s.snapshotting.TryLock() {
		fail(w, http.StatusConflict, "snapshot_running", "A snapshot is already being written.")
		return
	}
	defer s.snapshotting.Unlock()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	paths, err := s.o.Snapshot(r.Context(), at)
	switch {
	case errors.Is(err, store.ErrClosed) || (err != nil && r.Context().Err() != nil):
		notServed(w)
	case errors.Is(err, ErrIncomplete):
		s.o.Log.Warn("write snapshot", "err", err)
		fail(w, http.StatusConflict, "snapshot_incomplete", err.Error())
	case err != nil:
		s.o.Log.Error("write snapshot", "err", err)
		fail(w, http.StatusInternalServerError, "snapshot_failed", err.Error())
	default:
		write(w, http.StatusOK, wireSnapshot{timeText(at, true), append([]string{}, paths...)})
	}
}
