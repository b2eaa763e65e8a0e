package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// FuzzRequest sends a request as it would come over the network: method and target of the first line, lines of headers,
// a body. Whatever they are, the answer is no fault of ours, is bounded, and keeps to what its headers say.
func FuzzRequest(f *testing.F) {
	for _, target := range []string{
		"/v1/customers/ann", "/v1/customers/a%2F%2Fb%2F..%2Fc%3Fd=e&%252F%20%C3%BC", "/v1/customers/%00%ff%e2%80%ae", "/v1/customers/", "/v1/customers/elsewhere",
		"/v1/state/customers/clicks", "/v1/state/scan?shard=0&limit=2&after=ann", "/v1/state/scan?shard=99999999999&limit=-1", "/v1/shards", "/v1/snapshot?as_of=2026-01-31T00:00:00Z",
		"/v1/snapshot?as_of=9999-12-31T23:59:59Z", "/livez", "/readyz?verbose", "/metrics", "/debug/pprof/", "/debug/pprof/heap?debug=1", "/debug/pprof/symbol?0x1",
		"http://other/v1/shards", "*", "//v1//shards",
	} {
		f.Add("GET", target, "", "")
	}
	f.Add("POST", "/v1/snapshot", "Origin: http://evil\r\nSec-Fetch-Site: cross-site", "")
	f.Add("POST", "/debug/pprof/symbol", "Content-Length: 5", "0x1+0")
	f.Add("OPTIONS", "*", "Connection: close", "")
	f.Add("GET", "/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\nAccept-Encoding: zstd, gzip;q=0", "")
	w := newWorld(f)
	w.people()
	view := w.o.View
	w.o.View = func(id string) (*store.View, error) {
		if strings.HasPrefix(id, "else") {
			return nil, store.ErrClosed
		}
		return view(id)
	}
	w.o.Owner = func(context.Context, string) (string, error) { return "http://owner:8080", nil }
	w.o.Snapshot = func(context.Context, state.Instant) ([]string, error) { return []string{"part-0.parquet"}, nil }
	listeners := []http.Handler{Public(w.o), Admin(w.o), Monitor(w.o)}
	// Profiles take as long as they are asked to, unless the server would have given up by then.
	server := &http.Server{WriteTimeout: time.Nanosecond}
	f.Fuzz(func(t *testing.T, method, target, headers, body string) {
		raw := method + " " + target + " HTTP/1.1\r\nHost: asiduo\r\n" + headers + "\r\n\r\n" + body
		for _, h := range listeners {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
			if err != nil {
				return // the server says 400
			}
			if len(headers)+len(target) > maxHeader {
				return
			}
			r = r.WithContext(context.WithValue(context.WithValue(t.Context(), http.ServerContextKey, server), http.LocalAddrContextKey, nil))
			a := httptest.NewRecorder()
			w.logs.Reset()
			h.ServeHTTP(a, r)
			checkAnswer(t, raw, r, a.Result(), a.Body)
			if log := w.logs.String(); strings.Contains(log, "panic") {
				t.Fatalf("%q: %s", raw, log)
			}
		}
	})
}

func checkAnswer(t *testing.T, raw string, r *http.Request, a *http.Response, body *bytes.Buffer) {
	profile := strings.HasPrefix(r.URL.Path, "/debug/pprof/")
	elsewhere := a.StatusCode == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "" // a shard of another process
	if a.StatusCode >= 500 && !elsewhere && !(profile && strings.Contains(body.String(), "profile")) {
		t.Fatalf("%q: %s %s", raw, a.Status, body)
	}
	most := 256 << 10
	if profile {
		most = 16 << 20
	}
	if body.Len() > most {
		t.Fatalf("%q is answered with %d bytes", raw, body.Len())
	}
	kind := a.Header.Get("Content-Type")
	if kind == "application/json" && !json.Valid(body.Bytes()) {
		t.Fatalf("%q: %s", raw, body)
	}
	if kind == "" && body.Len() > 0 && !profile {
		t.Fatalf("%q: nobody knows what this is: %q", raw, body)
	}
	if to := a.Header.Get("Location"); to != "" && a.StatusCode == http.StatusTemporaryRedirect {
		u, err := url.Parse(to)
		if err != nil || u.Scheme != "http" || u.Host != "owner:8080" || !strings.HasPrefix(u.EscapedPath(), "/v1/customers/") || u.User != nil || strings.ContainsAny(to, "\r\n ") {
			t.Fatalf("%q leads to %q", raw, to)
		}
	}
	for name, values := range a.Header {
		if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
			t.Fatalf("%q is answered with the header %q: %q", raw, name, values)
		}
	}
}

// FuzzCustomerID asks for a customer under any id: escaped as clients do, it comes back letter by letter, from both
// listeners, in a scan and through the place where the owner of a shard is told.
func FuzzCustomerID(f *testing.F) {
	for _, id := range []string{"ann", "a//b/../c?d=e&%2F ü", "\x00\n\u202e\u2028<b>", ".", "..", "%", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "\ufffd", strings.Repeat("\U0010ffff", 64)} {
		f.Add(id)
	}
	w := newWorld(f)
	var c state.Customer
	c.Reset()
	c.Apply(w.p, new(order(1, today-state.Day, 100)), state.Telling{}, nil)
	value := c.AppendTo(nil)
	public, admin := Public(w.o), Admin(w.o)
	o := w.o
	o.View = func(string) (*store.View, error) { return nil, store.ErrClosed }
	o.Owner = func(context.Context, string) (string, error) { return "http://owner:8080", nil }
	o.Registry = nil
	other := Public(o)
	f.Fuzz(func(t *testing.T, id string) {
		if id == "" || len(id) > maxID || strings.ToValidUTF8(id, "?") != id {
			return // nobody's: the decoder refuses it
		}
		w.t = t
		key := store.CustomerKey(nil, id)
		w.put(key, value)
		defer w.put(key, nil)
		var got struct {
			ID string `json:"customer_id"`
		}
		path := "/v1/customers/" + url.PathEscape(id)
		for target, h := range map[string]http.Handler{path: public, "/v1/state/customers/" + url.PathEscape(id): admin} {
			r := answerTo(h, "GET", target)
			if body := bodyOf(t, r); r.StatusCode != http.StatusOK || json.Unmarshal([]byte(body), &got) != nil || got.ID != id {
				t.Fatalf("%q under %s: %s %s", id, target, r.Status, body)
			}
		}
		r := answerTo(admin, "GET", "/v1/state/scan?shard=0")
		if line := bodyOf(t, r); r.StatusCode != http.StatusOK || json.Unmarshal([]byte(line), &got) != nil || got.ID != id {
			t.Fatalf("%q in a scan: %s %q", id, r.Status, line)
		}
		u, err := url.Parse(answerTo(other, "GET", path).Header.Get("Location"))
		if err != nil || u.Host != "owner:8080" || u.EscapedPath() != path {
			t.Fatalf("%q leads to %v: %v", id, u, err)
		}
	})
}
