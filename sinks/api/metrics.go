package api

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// otherRoute is the label of what has no route, so that labels stay few whatever is asked for.
const otherRoute = "other"

// metrics are those of HTTP. Both listeners share them.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "asiduo_http_requests_total", Help: "Answered HTTP requests.",
		}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "asiduo_http_request_duration_seconds", Help: "Time to answer HTTP requests.",
			Buckets:                     prometheus.ExponentialBucketsRange(1e-4, 60, 14),
			NativeHistogramBucketFactor: 1.2, NativeHistogramMaxBucketNumber: 100,
		}, []string{"route"}),
	}
	if reg != nil {
		m.requests, m.seconds = register(reg, m.requests), register(reg, m.seconds)
	}
	return m
}

// register returns the collector that is registered under the name, be it that of the other listener.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return there.ExistingCollector.(C)
	}
	if err != nil {
		panic(err) // the name is taken by something else
	}
	return c
}

// begin makes the metrics of a route exist before its first request.
func (m *metrics) begin(method, pattern string) {
	m.requests.WithLabelValues(pattern, method, strconv.Itoa(http.StatusOK))
	m.seconds.WithLabelValues(pattern)
}

func (m *metrics) answered(method, pattern string, code int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(pattern, method, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(pattern).Observe(took.Seconds())
}

// scrape answers Prometheus. A collector that fails does not take the others with it.
func (s *server) scrape() http.HandlerFunc {
	return promhttp.HandlerFor(s.o.Gatherer, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: maxScrapes, ErrorHandling: promhttp.ContinueOnError,
		ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelError),
	}).ServeHTTP
}
