//go:build kafka

package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// pauses watches who serves the shards, and notes for each shard when nobody did. An instance that stops answers no
// longer while its last cycles end, so that a pause is seen longer than it is, never shorter.
type pauses struct {
	all  []*process
	quit chan struct{}
	done sync.WaitGroup

	since  [worldShards]time.Time // of the pause that goes on
	longer [worldShards]times     // pauses that have ended
	owners [worldShards][]int     // who served, each time it was another
}

func watchPauses(all ...*process) *pauses {
	w := &pauses{all: all, quit: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				return
			case <-tick.C:
				w.look()
			}
		}
	})
	return w
}

func (w *pauses) look() {
	asked := time.Now()
	by := serving(w.all...)
	for shard := range w.since {
		owner := -1
		for i, mine := range by {
			for _, s := range mine {
				if int(s) == shard {
					owner = i
				}
			}
		}
		switch {
		case owner < 0 && w.since[shard].IsZero():
			w.since[shard] = asked
		case owner >= 0 && !w.since[shard].IsZero():
			w.longer[shard] = append(w.longer[shard], time.Since(w.since[shard]).Round(time.Millisecond))
			w.since[shard] = time.Time{}
		}
		if n := len(w.owners[shard]); owner >= 0 && (n == 0 || w.owners[shard][n-1] != owner) {
			w.owners[shard] = append(w.owners[shard], owner)
		}
	}
}

// stop looks once more: the last pause may have ended since the last tick.
func (w *pauses) stop() {
	close(w.quit)
	w.done.Wait()
	w.look()
}

// TestKafkaRollingRestart replaces three processes one after the other, each when the one before is ready, as
// Kubernetes does. They keep their identities, so that the group moves nothing: each shard pauses once, and nothing is
// lost, told twice or out of order.
func TestKafkaRollingRestart(t *testing.T) {
	w := newWorld(t, "rolling")
	all := []*process{newProcess(t, w, "a"), newProcess(t, w, "b"), newProcess(t, w, "c")}
	for _, p := range all {
		p.start()
	}
	awaitAll(t, 30*time.Second, "three share the shards", 1, all...)
	w.startLoad(100, all...)
	watch := watchPauses(all...)
	var stops, starts times
	for _, p := range all {
		mine := strings.Count(fmt.Sprint(p.shards()), "running")
		stops = append(stops, p.stop().Round(time.Millisecond))
		p.start()
		starts = append(starts, await(t, sessionTimeout+20*time.Second, "ready again", func() bool {
			_, status := p.get(p.cfg.Admin.Listen, "/readyz")
			return status == 200 && strings.Count(fmt.Sprint(p.shards()), "running") == mine
		}))
	}
	watch.stop()
	for shard, list := range watch.longer {
		if len(list) != 1 || !watch.since[shard].IsZero() {
			t.Errorf("shard %d paused %d times (%v), not once", shard, len(list), []time.Duration(list))
		}
		if len(watch.owners[shard]) != 1 {
			t.Errorf("shard %d went from instance to instance: %v", shard, watch.owners[shard])
		}
		t.Logf("shard %d: pauses %v, served by %v", shard, []time.Duration(list), watch.owners[shard])
	}
	t.Logf("SIGTERM to exit: %v; start to ready: %v", stops, starts)
	w.finish(all...)
}
