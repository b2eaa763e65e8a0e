package pipeline

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// partitionID names a partition of an input.
type partitionID struct {
	topic     string
	partition int32
}

// lookout is what a process watches for all of its shards: where the inputs end, and what the clocks say.
type lookout struct {
	p      *Pipeline
	stable map[partitionID]int64 // last stable offsets at which we wait, as seen the last time
	apart  bool                  // the clocks differ
}

// look asks once for everything.
func (l *lookout) look(ctx context.Context, adm *kadm.Client) {
	l.clocks()
	inputs := InputTopics(l.p.cfg)
	ends, err := adm.ListEndOffsets(ctx, inputs...)
	if err != nil {
		return // brokers come and go
	}
	stable, err := adm.ListCommittedOffsets(ctx, inputs...)
	if err != nil {
		return
	}
	waiting, pinned := map[partitionID]int64{}, map[int32]string{}
	for topic, at := range l.p.Positions() {
		for n, next := range at {
			end, known := ends.Lookup(topic, n)
			lso, same := stable.Lookup(topic, n)
			if !known || !same || end.Err != nil || lso.Err != nil {
				continue
			}
			id, shard := partitionID{topic, n}, n%l.p.Shards()
			l.p.metrics.behind(shard, topic, n, max(end.Offset-next, 0))
			stuck := false
			if next >= lso.Offset && lso.Offset < end.Offset {
				before, waited := l.stable[id]
				waiting[id] = lso.Offset
				stuck = waited && before == lso.Offset
			}
			if stuck {
				pinned[shard] = fmt.Sprintf("lso_pinned: %s/%d cannot be read beyond offset %d, where a transaction of another producer is open; silence waits for it", topic, n, lso.Offset)
			}
			l.p.metrics.pinned.WithLabelValues(label(shard), topic, label(n)).Set(map[bool]float64{true: 1}[stuck])
		}
	}
	l.stable = waiting
	for shard, why := range l.p.pin(pinned) {
		l.p.log.Warn("input is pinned", "shard", shard, "why", why)
	}
}

const clocksApart = 5 * time.Minute // worth telling

// ClocksWrong is how far the clocks of a machine and the brokers may be apart. Beyond it one of them is wrong, and nobody
// knows which: silence waits.
const ClocksWrong = time.Hour

// clocks tells how far the clocks of the machine and of the brokers are apart.
func (l *lookout) clocks() {
	d, known := l.p.clockDifference()
	if !known {
		return
	}
	l.p.metrics.drift.Set(d.Seconds())
	apart := d.Abs() > clocksApart
	if apart && !l.apart {
		l.p.log.Warn("the machine's clock and the brokers' differ", "by", d.Round(time.Second), "silence waits", d.Abs() > ClocksWrong)
	}
	l.apart = apart
}

// clockDifference is the machine's clock minus the brokers', as a shard of this process sees them.
func (p *Pipeline) clockDifference() (time.Duration, bool) {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	for _, s := range p.board.serving {
		return s.clock.difference()
	}
	return 0, false
}

// pin posts which shards cannot read on, and returns those that could before.
func (p *Pipeline) pin(now map[int32]string) map[int32]string {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	fresh := map[int32]string{}
	for shard, why := range now {
		if p.board.pinned[shard] == "" {
			fresh[shard] = why
		}
	}
	if !maps.Equal(now, p.board.pinned) {
		p.board.tell()
	}
	p.board.pinned = now
	return fresh
}

// checkLayout notices that an input has got more partitions: the shards begin again and read them too.
func (m *membership) checkLayout(ctx context.Context) error {
	now, err := InputPartitions(ctx, kadm.NewClient(m.cl), m.p.cfg)
	if err != nil {
		return nil // brokers come and go; the shards tell what matters
	}
	if maps.Equal(now, m.p.partitions) {
		return nil
	}
	for _, n := range now {
		if n%m.p.Shards() != 0 {
			return dividesError(m.p.Shards(), now)
		}
	}
	m.p.log.Info("partitions of the inputs have changed", "now", now)
	m.p.partitions = now
	m.beginAgain(func(int32) bool { return true })
	return nil
}

// seldom lets the same thing through once a minute.
type seldom struct {
	what string
	at   time.Time
}

func (s *seldom) lets(what string) bool {
	if what == s.what && time.Since(s.at) < time.Minute {
		return false
	}
	s.what, s.at = what, time.Now()
	return true
}
