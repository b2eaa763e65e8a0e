// Package api answers over HTTP: questions about customers, health, metrics, and what an operator asks of a running
// process. It knows neither Kafka nor the pipeline: what it answers from is given to it.
//
// Every error is {"error": {"code", "message"}} with a code that stays the same; none names a customer.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// Shard is how one shard of this process does.
type Shard struct {
	Shard   int32
	State   string // running: it serves; any other: it does not
	Reason  string // why it does not, may be empty
	Cycle   uint64
	Horizon state.Instant // silence has been played up to here; 0: not known

	Versions state.Versions // of the parameters, as adopted
	Sweep    *Sweep         // of the customers to them; nil: none is under way
	Building bool           // nothing is announced yet
	LiveFrom state.Instant  // changes are news from then on; 0: all of them
}

// Sweep is how far the move of a shard's customers to new parameters is.
type Sweep struct {
	Family string
	Done   int64    // customers
	Share  *float64 // of all; nil: not known
}

// Options are what the answers are made from. View, Shards, Params and, for Admin, Gatherer are needed. Functions are
// called from many goroutines, and their errors must not name customers: they are logged.
type Options struct {
	App      string
	Params   func() *state.Parameters // the newest; views may have others of their own
	Currency string                   // ISO 4217
	Digits   int                      // of the currency's minor unit

	// View is the committed state of a customer's shard; store.ErrClosed if it is not served here now.
	View func(customer string) (*store.View, error)
	// Owner is where the process that serves a customer answers, such as http://host:8080; empty if unknown. It may be
	// nil.
	Owner func(ctx context.Context, customer string) (baseURL string, err error)
	// Shards are those of this process, by number.
	Shards func() []Shard
	// Ready is nil when the process is ready, else the reasons, joined. Without it, a process is ready when all its
	// shards run.
	Ready func() error
	// Now is the business clock; false, or no function: there is none, and customers are shown as of their evaluation.
	Now func() (state.Instant, bool)
	// Scan is the committed state of a shard, to be read from one end to the other; store.ErrClosed if it is not served
	// here now. It is called once for each page.
	Scan func(ctx context.Context, shard int32) (*store.View, error)
	// Snapshot makes an archive of all shards as of an instant and returns the files' names; ErrIncomplete if other
	// processes do not write their parts. Without it there is no archive.
	Snapshot func(ctx context.Context, at state.Instant) (paths []string, err error)
	// Moves counts what rules or a model, as JSON, would change for the customers of this process; a *BadCandidateError
	// if they cannot be. Without it nobody is told.
	Moves func(ctx context.Context, candidate []byte) (answer any, err error)

	// Guard is who may ask this listener; nil: everybody. Health is told to everybody.
	Guard    *Guard
	Gatherer prometheus.Gatherer
	Registry prometheus.Registerer // of the metrics of HTTP itself; may be nil
	Log      *slog.Logger          // may be nil
	Version  string                // of the program
}

// Public answers what applications ask: customers, shards and health.
func Public(o Options) http.Handler {
	s := newServer(o)
	s.handle(http.MethodGet, "/v1/customers/{id}", s.customer)
	s.handle(http.MethodGet, "/v1/shards", s.shards)
	s.health()
	return s
}

// Admin answers what operators and Prometheus ask. Its listener must be private or guarded: it shows the whole state and
// the insides of the process.
func Admin(o Options) http.Handler {
	s := newServer(o)
	s.handle(http.MethodGet, "/metrics", s.scrape())
	s.handle(http.MethodPost, "/v1/snapshot", s.snapshot)
	s.handle(http.MethodPost, "/v1/moves", s.heavy(s.moves))
	s.handle(http.MethodGet, "/v1/state/customers/{id}", s.stateCustomer)
	s.handle(http.MethodGet, "/v1/state/scan", s.heavy(s.stateScan))
	s.handle(http.MethodGet, "/v1/state/records", s.heavy(s.stateRecords))
	s.handle(http.MethodGet, "/v1/shards", s.shards)
	s.health()
	s.profiling()
	return s
}

// Monitor answers probes and Prometheus, from wherever they ask: no answer names a customer, changes anything or is
// expensive to make.
func Monitor(o Options) http.Handler {
	s := newServer(o)
	s.handle(http.MethodGet, "/metrics", s.scrape())
	s.health()
	return s
}

// server is one listener's answers.
type server struct {
	o            Options
	routes       []route
	metrics      *metrics
	origins      *http.CrossOriginProtection
	snapshotting sync.Mutex
	reading      chan struct{} // holds who makes a heavy answer
}

func newServer(o Options) *server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = func() (state.Instant, bool) { return 0, false }
	}
	return &server{
		o: o, metrics: newMetrics(o.Registry), origins: http.NewCrossOriginProtection(), reading: make(chan struct{}, maxHeavy),
	}
}
