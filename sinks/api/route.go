package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// route is a pattern and what answers it. {id} at the end stands for the rest of the path, unescaped; a slash at the
// end, for anything below.
type route struct {
	method, pattern string
	answer          http.HandlerFunc
}

const idMark = "{id}"

// handle adds a route. GET takes HEAD as well.
func (s *server) handle(method, pattern string, answer http.HandlerFunc) {
	s.routes = append(s.routes, route{method, pattern, answer})
	s.metrics.begin(method, pattern)
}

// find is the route of an escaped path. http.ServeMux would do, if it did not clean paths: the ids "a//b" and "a/../b"
// are as good as any.
func (s *server) find(path string) *route {
	for i := range s.routes {
		r := &s.routes[i]
		prefix, open := strings.CutSuffix(r.pattern, idMark)
		if path == r.pattern || ((open || strings.HasSuffix(prefix, "/")) && strings.HasPrefix(path, prefix)) {
			return r
		}
	}
	return nil
}

// ServeHTTP finds the route and counts the answer.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w}
	h := a.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	found, pattern := s.find(r.URL.EscapedPath()), otherRoute
	if found != nil {
		pattern = found.pattern
	}
	began := time.Now()
	defer func() {
		fault := recover()
		if fault != nil && fault != http.ErrAbortHandler {
			s.o.Log.Error("answer HTTP request: panic", "route", pattern, "panic", told(fault), "stack", string(debug.Stack()))
			if a.code == 0 {
				fail(a, http.StatusInternalServerError, "internal", "The request could not be answered.")
				fault = nil
			}
		}
		s.metrics.answered(r.Method, pattern, a.status(), time.Since(began))
		if fault != nil {
			panic(http.ErrAbortHandler) // the client must not take a part for the whole
		}
	}()
	probe := pattern == livePath || pattern == readyPath
	switch {
	case !probe && !s.o.Guard.admit(r):
		h.Set("Retry-After", "1")
		fail(a, http.StatusTooManyRequests, "too_many_requests", "More requests than one address may send in a second.")
	case !probe && s.o.Guard.certify(r) != nil:
		h.Set("Connection", "close") // another certificate needs another handshake
		fail(a, http.StatusUnauthorized, "unauthorized", "Connect with a certificate that this listener's authorities have signed and that is valid now.")
	case !probe && s.o.Guard.authorize(r) != nil:
		h.Set("WWW-Authenticate", `Bearer realm="asiduo"`)
		fail(a, http.StatusUnauthorized, "unauthorized", "Send a token of this listener: Authorization: Bearer TOKEN.")
	case found == nil:
		fail(a, http.StatusNotFound, "not_found", "There is nothing here.")
	case !found.takes(r.Method):
		h.Set("Allow", found.allow())
		fail(a, http.StatusMethodNotAllowed, "method_not_allowed", "Allowed here: "+found.allow()+".")
	case s.origins.Check(r) != nil:
		fail(a, http.StatusForbidden, "cross_origin", "Pages of other sites may not ask for this.")
	default:
		found.answer(a, r)
	}
}

func (r *route) takes(method string) bool {
	return method == r.method || (method == http.MethodHead && r.method == http.MethodGet)
}

func (r *route) allow() string {
	if r.method == http.MethodGet {
		return "GET, HEAD"
	}
	return r.method
}

// answer is a response that knows its status.
type answer struct {
	http.ResponseWriter
	code int // 0: not begun
}

func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.code == 0 {
		a.code = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) status() int {
	if a.code == 0 {
		return http.StatusOK
	}
	return a.code
}

// write sends v as JSON.
func write(w http.ResponseWriter, code int, v any) {
	var b bytes.Buffer
	if err := encoder(&b).Encode(v); err != nil {
		panic(err) // our own types, without anything that could not be JSON
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // a client that has gone away is no fault
}

func encoder(b *bytes.Buffer) *json.Encoder {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return e
}

// fail sends an error. Neither code nor message may hold anything of the request.
func fail(w http.ResponseWriter, status int, code, message string) {
	write(w, status, wireFault{wireError{code, message}})
}

// unavailable sends 503 and when to ask again.
func unavailable(w http.ResponseWriter, code, message string) {
	w.Header().Set("Retry-After", "1")
	fail(w, http.StatusServiceUnavailable, code, message)
}

// broken sends 500 and logs why.
func (s *server) broken(w http.ResponseWriter, what string, err error) {
	s.o.Log.Error("answer HTTP request: "+what, "err", err)
	fail(w, http.StatusInternalServerError, "internal", "The request could not be answered.")
}

// maxID is the length in bytes of the longest customer id.
const maxID = 256

// customerID is the id at the end of the path; false if it was none and the client has been told.
func customerID(w http.ResponseWriter, r *http.Request, pattern string) (string, bool) {
	id, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), strings.TrimSuffix(pattern, idMark)))
	if err != nil || id == "" || len(id) > maxID {
		fail(w, http.StatusBadRequest, "invalid_id", "A customer id is 1 to "+strconv.Itoa(maxID)+" bytes long.")
		return "", false
	}
	return id, true
}

// parameters are those of the query, which may only be the named ones, each once; false if the client has been told.
func parameters(w http.ResponseWriter, r *http.Request, names ...string) (url.Values, bool) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	for name, values := range query {
		if !slices.Contains(names, name) || len(values) != 1 {
			err = errors.New("unexpected")
		}
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_parameter", "Parameters here: "+strings.Join(names, ", ")+", each at most once.")
		return nil, false
	}
	return query, true
}

// told is what a log may say of a panic: what the runtime says names nobody, other texts may have the customer in them.
func told(fault any) string {
	if err, ok := fault.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", fault)
}
