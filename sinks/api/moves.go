package api

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/asiduo/asiduo/state/store"
)

// maxCandidate is the longest body of rules or a model.
const maxCandidate = 1 << 20

// BadCandidateError is rules or a model that cannot be.
type BadCandidateError struct{ Err error }

func (e *BadCandidateError) Error() string { return e.Err.Error() }
func (e *BadCandidateError) Unwrap() error { return e.Err }

// moves counts what rules or a model, the body, would change for the customers of this process.
func (s *server) moves(w http.ResponseWriter, r *http.Request) {
	if s.o.Moves == nil {
		fail(w, http.StatusNotImplemented, "no_parameters", "This process cannot tell.")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCandidate))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, "too_large", "The body is too long.")
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	answer, err := s.o.Moves(r.Context(), body)
	bad, wrong := errors.AsType[*BadCandidateError](err)
	switch {
	case wrong:
		fail(w, http.StatusBadRequest, "invalid_parameters", bad.Error())
	case errors.Is(err, store.ErrClosed) || (err != nil && r.Context().Err() != nil):
		notServed(w)
	case err != nil:
		s.broken(w, "count moves", err)
	default:
		write(w, http.StatusOK, answer)
	}
}
