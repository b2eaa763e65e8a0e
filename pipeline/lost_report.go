package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/state/store"
)

// LostInput is a part of an input that nobody can read any more, as a shard would find it when it is acquired.
type LostInput struct {
	Topic     string
	Partition int32
	Why       string
}

// LostInputs are those of shards with these last checkpoints. It only asks.
func LostInputs(ctx context.Context, adm *kadm.Client, c config.Config, states map[int32]store.Checkpoint) (all []LostInput, err error) {
	look, err := lookAround(ctx, adm, c)
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(states)) {
		s := &shard{p: &Pipeline{cfg: c}, id: id, adm: adm, mark: store.Mark{Checkpoint: states[id]}}
		missing, err := s.resumeAt(ctx, look)
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", id, err)
		}
		for _, l := range missing {
			all = append(all, LostInput{l.topic, l.partition, l.why})
		}
	}
	return all, nil
}

// LostChangelogs has an error for each shard that has none of these last checkpoints and had one in this epoch, as far as the
// group remembers. It only asks.
func LostChangelogs(ctx context.Context, adm *kadm.Client, c config.Config, epoch int, states map[int32]store.Checkpoint) error {
	shards, err := ShardsOf(ctx, adm, c)
	if err != nil {
		return err
	}
	p := &Pipeline{cfg: c}
	p.shards.Store(shards)
	var lost []error
	for id := range shards {
		if _, known := states[id]; !known {
			s := &shard{p: p, id: id, adm: adm, made: store.Made{Epoch: epoch}}
			lost = append(lost, s.changelogLost(ctx))
		}
	}
	return errors.Join(lost...)
}
