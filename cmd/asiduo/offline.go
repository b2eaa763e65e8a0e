package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/sinks/api"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// offlineOptions answer questions from a data directory.
func offlineOptions(cfg config.Config, o *offline) (api.Options, error) {
	shard := func(id int32) (*store.View, error) { return o.view(cfg, id) }
	set, err := o.published(cfg)
	if err != nil {
		return api.Options{}, err
	}
	newest, err := pipeline.Parameters(cfg, set, set.Latest(state.Versions{}))
	if err != nil {
		return api.Options{}, err
	}
	registry := prometheus.NewRegistry()
	return api.Options{
		App: cfg.App, Params: func() *state.Parameters { return newest }, Currency: cfg.Currency, Digits: cfg.Digits(),
		View: func(customer string) (*store.View, error) {
			made, err := o.made()
			if err != nil {
				return nil, err
			}
			place, err := pipeline.NewPartitioner(cfg.Inputs.Partitioner)
			if err != nil {
				return nil, err
			}
			return shard(place([]byte(customer), made.Shards))
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
	}, nil
}

// view is a shard's customers under the parameters that it has adopted.
func (o *offline) view(cfg config.Config, shard int32) (*store.View, error) {
	s, ok := o.stores[shard]
	if !ok {
		return nil, store.ErrClosed
	}
	v, err := s.View()
	if err != nil {
		return nil, err
	}
	set, err := publishedIn(cfg, v)
	if err == nil {
		err = pipeline.Adopt(cfg, set, v)
	}
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// published is the newest that the stores know of what is published.
func (o *offline) published(cfg config.Config) (*parameters.Set, error) {
	newest, err := pipeline.FirstSet(cfg)
	for _, s := range o.stores {
		if err != nil {
			return nil, err
		}
		var v *store.View
		if v, err = s.View(); err != nil {
			return nil, err
		}
		var set *parameters.Set
		if set, err = publishedIn(cfg, v); err == nil && set.Newest.Rules >= newest.Newest.Rules {
			newest = set
		}
		err = errors.Join(err, v.Close())
	}
	return newest, err
}

// publishedIn is what a store knows of what is published; what the file says if it is of a release that published
// nothing.
func publishedIn(cfg config.Config, v *store.View) (*parameters.Set, error) {
	b, err := v.Parameters()
	if err != nil {
		return nil, err
	}
	if b == nil {
		return pipeline.FirstSet(cfg)
	}
	return parameters.ReadExtract(b)
}

// made is what the state is made with, as the stores say.
func (o *offline) made() (store.Made, error) {
	for _, s := range o.stores {
		m, ok, err := s.Mark()
		if err != nil {
			return m.Made, err
		}
		if ok {
			return m.Made, nil
		}
	}
	return store.Made{}, fmt.Errorf("the stores in %s are empty", o.dir.Path)
}
