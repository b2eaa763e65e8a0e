package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/sinks/api"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// offlineOptions answer questions from a data directory.
func offlineOptions(cfg config.Config, o *offline, params *state.Parameters) api.Options {
	shard := func(id int32) (*store.View, error) {
		s, ok := o.stores[id]
		if !ok {
			return nil, store.ErrClosed
		}
		return s.View()
	}
	registry := prometheus.NewRegistry()
	return api.Options{
		App: cfg.App, Params: params, Currency: cfg.Currency, Digits: cfg.Digits(),
		View: func(customer string) (*store.View, error) {
			shards, err := o.shards()
			if err != nil {
				return nil, err
			}
			place, err := pipeline.NewPartitioner(cfg.Inputs.Partitioner)
			if err != nil {
				return nil, err
			}
			return shard(place([]byte(customer), shards))
		},
		Scan: func(_ context.Context, id int32) (*store.View, error) { return shard(id) },
		Shards: func() (list []api.Shard) {
			for _, s := range slices.Sorted(maps.Keys(o.stores)) {
				list = append(list, api.Shard{Shard: s, State: "offline"})
			}
			return list
		},
		Ready:    func() error { return errNotRunning },
		Now:      func() (state.Instant, bool) { return state.Instant(time.Now().UnixMilli()), true },
		Gatherer: registry, Registry: registry, Log: slog.New(slog.DiscardHandler), Version: buildInfo().Version,
	}
}

// shards is the number of shards of the application, as the stores say.
func (o *offline) shards() (int32, error) {
	for _, s := range o.stores {
		m, ok, err := s.Mark()
		if err != nil {
			return 0, err
		}
		if ok {
			return m.Made.Shards, nil
		}
	}
	return 0, fmt.Errorf("the stores in %s are empty", o.dir.Path)
}
