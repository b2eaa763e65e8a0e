package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// Every answer there is, to the byte.
func TestGolden(t *testing.T) {
	away := func(o *Options) { o.View = func(string) (*store.View, error) { return nil, store.ErrClosed } }
	owner := func(url string, err error) func(*Options) {
		return func(o *Options) {
			away(o)
			o.Owner = func(context.Context, string) (string, error) { return url, err }
		}
	}
	restoring := func(o *Options) {
		o.Shards = func() []Shard {
			return []Shard{{Shard: 0, State: "running"}, {Shard: 2, State: "restoring", Reason: "4711 records to go"}}
		}
	}
	archive := func(err error) func(*Options) {
		return func(o *Options) {
			o.Snapshot = func(_ context.Context, at state.Instant) ([]string, error) {
				return []string{"snapshots/dt=2026-03-01/part-0.parquet"}, err
			}
		}
	}
	for _, test := range []struct {
		name, method, target string
		admin                bool
		change               func(*Options)
	}{
		{"customer", "GET", "/v1/customers/ann", false, nil},
		{"customer-head", "HEAD", "/v1/customers/ann", false, nil},
		{"customer-no-clock", "GET", "/v1/customers/ann", false, func(o *Options) { o.Now = nil }},
		{"customer-no-model", "GET", "/v1/customers/ann", false, func(o *Options) {
			p := *o.Params()
			p.Churn.Method = state.NoChurn
			o.Params = func() *state.Parameters { return &p }
		}},
		{"customer-yen", "GET", "/v1/customers/ann", false, func(o *Options) { o.Currency, o.Digits = "JPY", 0 }},
		{"customer-escaped", "GET", "/v1/customers/a%2f%2Fb%2F..%2Fc%3Fd=e%26%252F%20%C3%BC", false, nil},
		{"customer-slashes", "GET", "/v1/customers/a//b/../c%3Fd=e&%252F%20%C3%BC", false, nil},
		{"customer-lost", "GET", "/v1/customers/6ba7b810-9dad-11d1-80b4-00c04fd430c8", false, nil},
		{"customer-never-bought", "GET", "/v1/customers/never", false, nil},
		{"customer-interactions-only", "GET", "/v1/customers/clicks", false, nil},
		{"customer-ahead", "GET", "/v1/customers/early", false, nil},
		{"customer-unknown", "GET", "/v1/customers/nobody", false, nil},
		{"customer-no-id", "GET", "/v1/customers/", false, nil},
		{"customer-post", "POST", "/v1/customers/ann", false, nil},
		{"customer-redirect", "GET", "/v1/customers/a%2Fb%20c?x=1", false, owner("http://other:8080/", nil)},
		{"customer-owner-unknown", "GET", "/v1/customers/ann", false, owner("", nil)},
		{"customer-owner-broken", "GET", "/v1/customers/ann", false, owner("http://other", errors.New("no group"))},
		{"customer-owner-here", "GET", "/v1/customers/ann", false, owner("http://example.com", nil)}, // httptest's host
		{"customer-not-served", "GET", "/v1/customers/ann", false, away},
		{"customer-broken", "GET", "/v1/customers/ann", false, func(o *Options) {
			o.View = func(string) (*store.View, error) { return nil, errors.New("the disk is on fire") }
		}},
		{"customer-panic", "GET", "/v1/customers/ann", false, func(o *Options) {
			o.View = func(string) (*store.View, error) { panic("no") }
		}},
		{"nothing", "GET", "/v1/customers", false, nil},
		{"nothing-admin", "GET", "/metrics", false, nil},
		{"livez", "GET", "/livez", false, nil},
		{"readyz", "GET", "/readyz", false, nil},
		{"readyz-not", "GET", "/readyz", false, restoring},
		{"readyz-none", "GET", "/readyz", true, func(o *Options) { o.Shards = func() []Shard { return nil } }},
		{"readyz-reasons", "GET", "/readyz", true, func(o *Options) {
			restoring(o)
			o.Ready = func() error {
				return errors.Join(errors.New("no brokers"), errors.Join(errors.New("shard 2 is restoring")))
			}
		}},
		{"shards", "GET", "/v1/shards", false, nil},
		{"shards-none", "GET", "/v1/shards", true, func(o *Options) { o.Shards = func() []Shard { return nil } }},
		{"state-customer", "GET", "/v1/state/customers/ann", true, nil},
		{"state-interactions-only", "GET", "/v1/state/customers/clicks", true, nil},
		{"state-unknown", "GET", "/v1/state/customers/nobody", true, nil},
		{"state-not-served", "GET", "/v1/state/customers/ann", true, owner("http://other", nil)},
		{"state-scan", "GET", "/v1/state/scan?shard=0", true, nil},
		{"state-scan-head", "HEAD", "/v1/state/scan?shard=0", true, nil},
		{"state-scan-page", "GET", "/v1/state/scan?shard=0&after=ann&limit=2", true, nil},
		{"state-scan-not-served", "GET", "/v1/state/scan?shard=1", true, nil},
		{"state-scan-no-shard", "GET", "/v1/state/scan?shard=x", true, nil},
		{"state-scan-limit", "GET", "/v1/state/scan?shard=0&limit=0", true, nil},
		{"state-records", "GET", "/v1/state/records?shard=0", true, nil},
		{"state-records-not-served", "GET", "/v1/state/records?shard=1", true, nil},
		{"state-records-no-shard", "GET", "/v1/state/records", true, nil},
		{"state-scan-unexpected", "GET", "/v1/state/scan?shard=0&shard=1", true, nil},
		{"snapshot", "POST", "/v1/snapshot", true, archive(nil)},
		{"snapshot-as-of", "POST", "/v1/snapshot?as_of=2026-02-01T01:00:00%2B01:00", true, archive(nil)},
		{"snapshot-future", "POST", "/v1/snapshot?as_of=2026-03-02T00:00:00Z", true, archive(nil)},
		{"snapshot-no-time", "POST", "/v1/snapshot?as_of=yesterday", true, archive(nil)},
		{"snapshot-no-clock", "POST", "/v1/snapshot", true, func(o *Options) { archive(nil)(o); o.Now = nil }},
		{"snapshot-incomplete", "POST", "/v1/snapshot", true, archive(fmt.Errorf("%w: shards [1]", ErrIncomplete))},
		{"snapshot-failed", "POST", "/v1/snapshot", true, archive(errors.New("disk full"))},
		{"snapshot-not-served", "POST", "/v1/snapshot", true, archive(store.ErrClosed)},
		{"snapshot-no-archive", "POST", "/v1/snapshot", true, nil},
		{"snapshot-get", "GET", "/v1/snapshot", true, archive(nil)},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.people()
			if test.change != nil {
				test.change(&w.o)
			}
			h := Public(w.o)
			if test.admin {
				h = Admin(w.o)
			}
			golden(t, test.name, test.method+" "+test.target, answerTo(h, test.method, test.target))
		})
	}
}

// Ids of any length that is allowed, and what is not an id.
func TestIDs(t *testing.T) {
	w := newWorld(t)
	h := Public(w.o)
	for _, test := range []struct {
		length, code int
	}{{0, http.StatusBadRequest}, {1, http.StatusNotFound}, {256, http.StatusNotFound}, {257, http.StatusBadRequest}} {
		id := ""
		for range test.length {
			id += "%2f"
		}
		if r := answerTo(h, "GET", "/v1/customers/"+id); r.StatusCode != test.code {
			t.Errorf("%d bytes: %s", test.length, r.Status)
		}
	}
}
