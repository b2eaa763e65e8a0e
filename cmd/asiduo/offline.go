package main

import (
	"context"
	"errors"
	"log/slog"
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
			if cfg.Shards == 0 {
				return o.find(customer)
			}
			place, err := pipeline.NewPartitioner(cfg.Inputs.Partitioner)
			if err != nil {
				return nil, err
			}
			return shard(place([]byte(customer), cfg.Shards))
		},
		Scan: func(_ context.Context, id int32) (*store.View, error) { return shard(id) },
		Shards: func() (list []api.Shard) {
			for _, s := range slices.Sorted(mapKeys(o.stores)) {
				list = append(list, api.Shard{Shard: s, State: "offline"})
			}
			return list
		},
		Ready:    func() error { return errNotRunning },
		Now:      func() (state.Instant, bool) { return state.Instant(time.Now().UnixMilli()), true },
		Gatherer: registry, Registry: registry, Log: slog.New(slog.DiscardHandler), Version: buildInfo().Version,
	}
}

// find is a view of the store that knows a customer, or of any. A directory does not tell the number of shards, without
// which nobody can say where a customer belongs: the process may have served only some of them.
func (o *offline) find(customer string) (v *store.View, err error) {
	var c state.Customer
	var n state.Interactions
	for _, id := range slices.Sorted(mapKeys(o.stores)) {
		if v != nil {
			if err := v.Close(); err != nil {
				return nil, err
			}
		}
		if v, err = o.stores[id].View(); err != nil {
			return nil, err
		}
		bought, err := v.Customer(customer, &c)
		if err != nil {
			return nil, errors.Join(err, v.Close())
		}
		touched, err := v.Interactions(customer, &n)
		if err != nil {
			return nil, errors.Join(err, v.Close())
		}
		if bought || touched {
			break
		}
	}
	return v, nil
}
