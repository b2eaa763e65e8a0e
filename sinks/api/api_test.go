package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// Whatever goes wrong, neither the answer nor the log names the customer.
func TestErrorsNameNobody(t *testing.T) {
	const canary = "canary"
	for name, view := range map[string]func(*world) (*store.View, error){
		"unknown": func(w *world) (*store.View, error) { return w.s.View() },
		"corrupt": func(w *world) (*store.View, error) {
			w.put(store.CustomerKey(nil, canary), []byte("nonsense"))
			return w.s.View()
		},
		"newer": func(w *world) (*store.View, error) {
			w.put(store.CustomerKey(nil, canary), []byte{99, 0})
			return w.s.View()
		},
		"closed": func(*world) (*store.View, error) { return nil, store.ErrClosed },
		"broken": func(*world) (*store.View, error) { return nil, errors.New("fire") },
		"panic":  func(*world) (*store.View, error) { panic("fire: " + canary) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.o.View = func(string) (*store.View, error) { return view(w) }
			w.o.Owner = func(context.Context, string) (string, error) { return "", errors.New("nobody") }
			for _, request := range [][2]string{
				{"GET", "/v1/customers/" + canary}, {"POST", "/v1/customers/" + canary}, {"GET", "/v1/state/customers/" + canary},
				{"GET", "/v1/customers/" + strings.Repeat(canary, 50)}, {"GET", "/v2/" + canary},
			} {
				for _, h := range []http.Handler{Public(w.o), Admin(w.o)} {
					r := answerTo(h, request[0], request[1])
					if body := bodyOf(t, r); r.StatusCode < 400 || strings.Contains(body, canary) || strings.Contains(fmt.Sprint(r.Header), canary) {
						t.Errorf("%s: %s %v %s", request, r.Status, r.Header, body)
					}
				}
			}
			if strings.Contains(w.logs.String(), canary) {
				t.Errorf("logged %s", w.logs.String())
			}
		})
	}
}

// hook is a client that does something when it is sent the first bytes.
type hook struct {
	httptest.ResponseRecorder
	first func()
}

func (h *hook) Write(b []byte) (int, error) {
	if h.first != nil {
		h.first()
		h.first = nil
	}
	return h.ResponseRecorder.Write(b)
}

// A store can be closed while an answer is being sent: a slow client does not hold up a shard that has to go.
func TestSlowClientsHoldNothing(t *testing.T) {
	for _, target := range []string{"/v1/state/customers/ann", "/v1/state/scan?shard=0"} {
		w := newWorld(t)
		w.people()
		h := &hook{ResponseRecorder: *httptest.NewRecorder(), first: w.close}
		Admin(w.o).ServeHTTP(h, httptest.NewRequest("GET", target, nil))
		if h.Code != http.StatusOK || !w.closed {
			t.Errorf("%s: %d, closed %v", target, h.Code, w.closed)
		}
	}
}

// crowd are more customers than a page has, of both forms of ids, some with interactions only; in the order of ids.
func crowd(w *world) (ids []string) {
	b := w.s.NewBatch()
	for i := range 2 * firstPage {
		var c state.Customer
		c.Reset()
		c.Apply(w.p, new(order(uint64(i), start, 100)), state.Telling{}, nil)
		n := state.Interactions{LastAt: start}
		id := fmt.Sprintf("%08x-0000-4000-8000-%012x", i*4_294_967, i)
		if i%2 == 1 {
			id = fmt.Sprintf("%x/%d", i%16, i)
		}
		var err error
		if i%3 > 0 {
			err = b.Put(store.CustomerKey(nil, id), c.AppendTo(nil))
		}
		if i%3 < 2 {
			err = errors.Join(err, b.Put(store.InteractionsKey(nil, id), n.AppendTo(nil)))
		}
		if err != nil {
			w.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := b.Commit(); err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

// rowIDs are the customers of a scan.
func rowIDs(t *testing.T, body string) (ids []string) {
	for line := range strings.Lines(body) {
		id, ok := strings.CutPrefix(line, `{"customer_id":"`)
		id, _, more := strings.Cut(id, `"`)
		if !ok || !more || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("row %q", line)
		}
		ids = append(ids, id)
	}
	return ids
}

func TestScanPages(t *testing.T) {
	w := newWorld(t)
	ids := crowd(w)
	views := 0
	scan := w.o.Scan
	w.o.Scan = func(ctx context.Context, shard int32) (*store.View, error) {
		views++
		return scan(ctx, shard)
	}
	h := Admin(w.o)
	if got := rowIDs(t, bodyOf(t, answerTo(h, "GET", "/v1/state/scan?shard=0"))); !slices.Equal(got, ids) {
		t.Errorf("got %d rows, want %d in their order", len(got), len(ids))
	}
	if views != 2 {
		t.Errorf("%d views for 2 pages", views)
	}
	for _, limit := range []int{1, firstPage - 1, firstPage, firstPage + 1, 2 * firstPage, 3 * firstPage} {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page := rowIDs(t, bodyOf(t, answerTo(h, "GET", fmt.Sprintf("/v1/state/scan?shard=0&limit=%d&after=%s", limit, after))))
			got = append(got, page...)
			if len(page) < limit || (limit == 1 && len(got) == 20) {
				break
			}
		}
		if want := ids[:min(len(got), len(ids))]; !slices.Equal(got, want) || (limit > 1 && len(got) != len(ids)) {
			t.Errorf("limit %d: got %d rows, not all or not in their order", limit, len(got))
		}
	}
	for _, after := range []string{"7", "7fffffff-0000-4000-8000-000000000000x", ids[700], ids[700] + "\x00", "zzz"} {
		want := ids[len(ids):]
		if i := slices.IndexFunc(ids, func(id string) bool { return id > after }); i >= 0 {
			want = ids[i:]
		}
		got := rowIDs(t, bodyOf(t, answerTo(h, "GET", "/v1/state/scan?shard=0&after="+strings.ReplaceAll(after, "\x00", "%00"))))
		if !slices.Equal(got, want) {
			t.Errorf("after %q: got %d rows, want %d", after, len(got), len(want))
		}
	}
}

// A shard that goes away in the middle of a scan must not look like its end.
func TestScanBreaksOff(t *testing.T) {
	w := newWorld(t)
	ids := crowd(w)
	scans := make(chan struct{}, 1)
	scans <- struct{}{}
	scan := w.o.Scan
	w.o.Scan = func(ctx context.Context, shard int32) (*store.View, error) {
		select {
		case <-scans:
			return scan(ctx, shard)
		default:
			return nil, store.ErrClosed
		}
	}
	s := httptest.NewServer(Admin(w.o))
	defer s.Close()
	client := s.Client()
	r, err := client.Get(s.URL + "/v1/state/scan?shard=0")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	_, err = b.ReadFrom(r.Body)
	_ = r.Body.Close()
	if err == nil || r.StatusCode != http.StatusOK {
		t.Errorf("%s, read %d bytes, %v", r.Status, b.Len(), err)
	}
	if got := rowIDs(t, b.String()); !slices.Equal(got, ids[:firstPage]) {
		t.Errorf("got %d rows, want the first page", len(got))
	}
}

// One snapshot at a time; a client that goes away ends it.
func TestSnapshotAlone(t *testing.T) {
	w := newWorld(t)
	began := make(chan struct{})
	w.o.Snapshot = func(ctx context.Context, at state.Instant) ([]string, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	h := Admin(w.o)
	ctx, cancel := context.WithCancel(t.Context())
	first, done := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(first, httptest.NewRequestWithContext(ctx, "POST", "/v1/snapshot", nil))
	}()
	<-began
	golden(t, "snapshot-running", "POST /v1/snapshot", answerTo(h, "POST", "/v1/snapshot"))
	cancel()
	<-done
	if first.Code != http.StatusServiceUnavailable {
		t.Errorf("answered %d", first.Code)
	}
}

// A page of another site, opened by who can reach the listener, cannot start anything.
func TestCrossOrigin(t *testing.T) {
	w := newWorld(t)
	w.o.Snapshot = func(context.Context, state.Instant) ([]string, error) {
		t.Error("called")
		return nil, nil
	}
	r := httptest.NewRequest("POST", "/v1/snapshot", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	rec := httptest.NewRecorder()
	Admin(w.o).ServeHTTP(rec, r)
	golden(t, "cross-origin", "POST /v1/snapshot, Sec-Fetch-Site: cross-site", rec.Result())
}

func TestProfiling(t *testing.T) {
	h := Admin(newWorld(t).o)
	for target, code := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/heap": 200, "/debug/pprof/cmdline": 200, "/debug/pprof/symbol": 200,
		"/debug/pprof/nothing": 404, "/debug/pprof": 404,
	} {
		if r := answerTo(h, "GET", target); r.StatusCode != code {
			t.Errorf("%s: %s", target, r.Status)
		}
	}
}

// Prometheus finds every route's figures before its first request, under names that its linter likes, and no others
// whatever is asked for.
func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.people()
	public, admin := Public(w.o), Admin(w.o)
	for _, target := range []string{"/v1/customers/ann", "/v1/customers/b", "/x/y", "/x/z", "/v1/state/scan?shard=0", "/v1/state/scan?shard=9"} {
		for _, h := range []http.Handler{public, admin} {
			for _, method := range []string{"GET", "BREW"} {
				answerTo(h, method, target)
			}
		}
	}
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	rec := httptest.NewRecorder()
	admin.ServeHTTP(rec, r)
	if kind := rec.Header().Get("Content-Type"); rec.Code != 200 || !strings.HasPrefix(kind, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("%d %s", rec.Code, kind)
	}
	var counts strings.Builder
	for line := range strings.Lines(rec.Body.String()) {
		if strings.HasPrefix(line, "asiduo_http_requests_total") || strings.HasPrefix(line, "asiduo_http_request_duration_seconds_count") {
			counts.WriteString(line)
		}
	}
	counts.WriteString(rec.Body.String()[max(0, rec.Body.Len()-6):])
	golden(t, "metrics", "the metrics, without sums and buckets", &http.Response{Status: "-", Body: readCloser(counts.String())})

	families, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 || len(families) != 2 {
		t.Errorf("%d families: %v, %v", len(families), problems, err)
	}
}

// What may be asked from anywhere tells how the process does, and nothing else.
func TestMonitor(t *testing.T) {
	w := newWorld(t)
	w.people()
	open := map[string]bool{"/livez": true, "/readyz": true, "/metrics": true}
	tried := 0
	for _, h := range []http.Handler{Public(w.o), Admin(w.o)} {
		for _, r := range h.(*server).routes {
			target := strings.NewReplacer("{id}", "ann").Replace(r.pattern)
			got := answerTo(Monitor(w.o), r.method, target)
			body := bodyOf(t, got)
			if want := map[bool]int{true: http.StatusOK, false: http.StatusNotFound}[open[target]]; got.StatusCode != want {
				t.Errorf("%s %s: status %d, want %d: %s", r.method, target, got.StatusCode, want, body)
			}
			if strings.Contains(body, "ann\"") {
				t.Errorf("%s names a customer: %s", target, body)
			}
			tried++
		}
	}
	if tried < 15 {
		t.Errorf("only %d routes", tried)
	}
}
