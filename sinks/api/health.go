package api

import (
	"net/http"
	"net/http/pprof"

	"github.com/asiduo/asiduo/state"
)

const running = "running" // the state of a shard that serves

// Those that probes ask. They have no token, and restart or cut off a process that does not answer.
const (
	livePath  = "/livez"
	readyPath = "/readyz"
)

func (s *server) health() {
	s.handle(http.MethodGet, livePath, s.live)
	s.handle(http.MethodGet, readyPath, s.ready)
}

// live is 200 as long as the process answers.
func (s *server) live(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, wireHealth{Status: "ok"})
}

// ready is 200, or 503 with the reasons; either way it lists the shards.
func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	health, code := wireHealth{Status: "ready", Shards: []wireShardHealth{}}, http.StatusOK
	waiting := false
	for _, sh := range s.o.Shards() {
		health.Shards = append(health.Shards, wireShardHealth{sh.Shard, sh.State, sh.Reason})
		waiting = waiting || sh.State != running
	}
	if s.o.Ready != nil {
		err := s.o.Ready()
		waiting, health.Reasons = err != nil, reasons(err)
	}
	if waiting {
		health.Status, code = "not_ready", http.StatusServiceUnavailable
	}
	write(w, code, health)
}

// reasons takes joined errors apart.
func reasons(err error) []string {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var all []string
	for _, e := range joined.Unwrap() {
		all = append(all, reasons(e)...)
	}
	return all
}

func (s *server) shards(w http.ResponseWriter, _ *http.Request) {
	list := wireShards{App: s.o.App, Version: s.o.Version, Shards: []wireShard{}}
	for _, sh := range s.o.Shards() {
		line := wireShard{
			Shard: sh.Shard, State: sh.State, Reason: sh.Reason, Cycle: sh.Cycle, Horizon: timeText(sh.Horizon, sh.Horizon > 0 && sh.Horizon != state.Never),
			Building: sh.Building, LiveFrom: timeText(sh.LiveFrom, sh.LiveFrom > 0),
		}
		if sh.Versions != (state.Versions{}) {
			line.Versions = versions(sh.Versions)
		}
		if sw := sh.Sweep; sw != nil {
			line.Sweep = &wireSweep{sw.Family, sw.Done, sw.Share}
		}
		list.Shards = append(list.Shards, line)
	}
	write(w, http.StatusOK, list)
}

// profiling adds what the runtime tells about itself.
func (s *server) profiling() {
	s.handle(http.MethodGet, "/debug/pprof/cmdline", pprof.Cmdline)
	s.handle(http.MethodGet, "/debug/pprof/profile", s.heavy(pprof.Profile))
	s.handle(http.MethodGet, "/debug/pprof/symbol", pprof.Symbol)
	s.handle(http.MethodGet, "/debug/pprof/trace", s.heavy(pprof.Trace))
	s.handle(http.MethodGet, "/debug/pprof/", s.heavy(pprof.Index))
}
