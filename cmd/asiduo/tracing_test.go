package main

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// gathered is a collector of OTLP over HTTP.
type gathered struct {
	t    *testing.T
	url  string
	mu   sync.Mutex
	all  []*spans.Span
	from map[string]string // the resource
	asks []http.Header
	text bytes.Buffer // everything, to search
}

func newGathered(t *testing.T) *gathered {
	g := &gathered{t: t, from: map[string]string{}}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	g.url = s.URL
	return g
}

func (g *gathered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/traces" {
		g.t.Errorf("asked for %s", r.URL.Path)
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			g.t.Error(err)
			return
		}
	}
	b, err := io.ReadAll(body)
	var sent collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(b, &sent) != nil {
		g.t.Errorf("not OTLP: %v", err)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asks = append(g.asks, r.Header)
	for _, rs := range sent.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			g.from[a.Key] = a.Value.GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			g.all = append(g.all, ss.Spans...)
		}
	}
	g.text.WriteString(sent.String())
}

// named are the spans of a name.
func (g *gathered) named(name string) (found []*spans.Span) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.all {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// tracedOrder writes an order in a trace of its producer.
func (w *town) tracedOrder(customer, trace, flags string) {
	w.t.Helper()
	value := fmt.Sprintf(`{"order_id":"o1","customer_id":%q,"ordered_at":%q,"amount":"12.50","currency":"EUR"}`, customer, time.Now().UTC().Format(time.RFC3339))
	r := &kgo.Record{Topic: "purchases", Partition: w.place([]byte(customer), townShards), Key: []byte(customer), Value: []byte(value),
		Headers: []kgo.RecordHeader{{Key: "traceparent", Value: fmt.Appendf(nil, "00-%s-00f067aa0ba902b7-%s", trace, flags)}}}
	if err := w.cl.ProduceSync(w.t.Context(), r).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// TestTracing has an order that comes in a trace: the cycle that takes it links to it, its event carries the cycle's, and the
// histograms name traces as exemplars. No span names a customer.
func TestTracing(t *testing.T) {
	const theirs, unrecorded = "4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4736"
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=let-me-in")
	w := newTown(t)
	g := newGathered(t)
	s := w.run("log: {", fmt.Sprintf("tracing: {endpoint: %q, sample: 1}\nlog: {", g.url))
	s.ready(townShards)
	w.tracedOrder("canary-ana", theirs, "01")
	w.expect("canary-ana", "", "new", "order")
	w.tracedOrder("canary-bob", unrecorded, "00")
	w.expect("canary-bob", "", "new", "order")
	_, metrics := s.openMetrics()
	s.stop() // and what is left is sent

	acquired := g.named("acquire")
	if len(acquired) != townShards {
		t.Fatalf("%d acquisitions are told, want %d", len(acquired), townShards)
	}
	var steps []string
	for _, e := range acquired[0].Events {
		steps = append(steps, e.Name)
	}
	if got, want := strings.Join(steps, " "), "before_init after_init before_owner after_owner after_restore after_resume"; got != want {
		t.Errorf("an acquisition goes by %s, want %s", got, want)
	}
	var cycle *spans.Span
	for _, c := range g.named("cycle") {
		for _, link := range c.Links {
			switch hex.EncodeToString(link.TraceId) {
			case theirs:
				cycle = c
			case unrecorded:
				t.Error("a cycle links to a trace that nobody recorded")
			}
		}
	}
	if cycle == nil {
		t.Fatal("no cycle links to the trace of the order")
	}
	for _, phase := range []string{"work", "commit", "store"} {
		below := 0
		for _, p := range g.named(phase) {
			if bytes.Equal(p.ParentSpanId, cycle.SpanId) && p.StartTimeUnixNano >= cycle.StartTimeUnixNano && p.EndTimeUnixNano <= cycle.EndTimeUnixNano {
				below++
			}
		}
		if below != 1 {
			t.Errorf("the cycle has %d phases %s", below, phase)
		}
	}
	if got := w.traceOf("canary-ana"); got != hex.EncodeToString(cycle.TraceId)+"-"+hex.EncodeToString(cycle.SpanId) {
		t.Errorf("the event is in trace %s, its cycle in %x-%x", got, cycle.TraceId, cycle.SpanId)
	}
	for _, name := range []string{"cycle_phase_duration_seconds", "commit_duration_seconds", "acquire_duration_seconds"} {
		if !regexp.MustCompile(`(?m)^asiduo_` + name + `_bucket\{.*# \{trace_id="[0-9a-f]{32}"\}`).MatchString(metrics) {
			t.Errorf("asiduo_%s has no exemplar:\n%s", name, metrics)
		}
	}
	if g.from["service.name"] != "shop" || g.from["service.version"] == "" {
		t.Errorf("the spans say that they are from %v", g.from)
	}
	for _, h := range g.asks {
		if h.Get("X-Key") != "let-me-in" {
			t.Errorf("the collector is not shown what the environment says: %v", h)
		}
	}
	if strings.Contains(g.text.String(), "canary-") {
		t.Error("a span names a customer")
	}
}

// traceOf is the trace and span that the first event about a customer carries; empty if it carries none.
func (w *town) traceOf(customer string) string {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.broker), kgo.ConsumeTopics("shop.segment-changes"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	for w.t.Context().Err() == nil {
		for r := range cl.PollFetches(w.t.Context()).RecordsAll() {
			if string(r.Key) != customer {
				continue
			}
			for _, h := range r.Headers {
				if h.Key == "traceparent" {
					return strings.TrimSuffix(strings.TrimPrefix(string(h.Value), "00-"), "-01")
				}
			}
			return ""
		}
	}
	return ""
}

// openMetrics are the metrics as a Prometheus that stores exemplars asks for them.
func (s *service) openMetrics() (kind, text string) {
	s.t.Helper()
	_, text, h := s.get(s.admin+"/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	return h.Get("Content-Type"), text
}

// TestNoTracing has nobody who wants traces: events carry none.
func TestNoTracing(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	w.tracedOrder("ana", "4bf92f3577b34da6a3ce929d0e0e4736", "01")
	w.expect("ana", "", "new", "order")
	if got := w.traceOf("ana"); got != "" {
		t.Errorf("the event is in trace %s", got)
	}
	if kind, text := s.openMetrics(); !strings.HasPrefix(kind, "application/openmetrics-text") || strings.Contains(text, "trace_id") {
		t.Errorf("%s with exemplars: %s", kind, text)
	}
}

// TestCollectorAway has a collector that nobody listens at: the log says so, and nothing else is touched.
func TestCollectorAway(t *testing.T) {
	w := newTown(t)
	s := w.run("log: {", fmt.Sprintf("tracing: {endpoint: %q, sample: 1}\nlog: {", "http://"+unused(t)))
	s.ready(townShards)
	w.tracedOrder("ana", "4bf92f3577b34da6a3ce929d0e0e4736", "01")
	w.expect("ana", "", "new", "order")
	s.stop()
	if text := s.log.String(); strings.Count(text, "traces are lost") != 1 {
		t.Errorf("the log says:\n%s", text)
	}
}
