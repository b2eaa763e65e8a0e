package pipeline

import (
	"context"
	"maps"
	"time"
)

// A checkpoint without anything else is written for positions that have moved over control records alone, which retention
// takes like others, and so that the store of a quiet shard does not look old.
const (
	bareAfter = time.Minute
	freshFor  = time.Hour
)

func (s *shard) bareDue() bool {
	quiet := time.Since(s.ended)
	return quiet >= freshFor || quiet >= bareAfter && s.readOn()
}

// readOn says whether positions are not as committed.
func (s *shard) readOn() bool {
	for topic, at := range s.next {
		if !maps.Equal(at, s.mark.Inputs[topic].Next) {
			return true
		}
	}
	return false
}

// settle commits what is true beside the last cycle, before the shard is closed in good order.
func (s *shard) settle(ctx context.Context) error {
	if !s.readOn() && s.silence.played <= s.mark.Horizon {
		return nil
	}
	s.cycle.reset()
	s.overlay.reset()
	s.confess(s.missing)
	return s.commit(ctx)
}
