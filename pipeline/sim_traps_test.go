//go:build synctests

package pipeline_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/asiduo/asiduo/pipeline"
)

var steps = []pipeline.Step{
	pipeline.BeforeInit, pipeline.AfterInit, pipeline.BeforeOwner, pipeline.AfterOwner, pipeline.WithinRestore, pipeline.AfterRestore,
	pipeline.BeforeProduce, pipeline.BeforeEnd, pipeline.AfterEnd, pipeline.AfterApply,
}

var cycleSteps = steps[slices.Index(steps, pipeline.BeforeProduce):]

var laterSteps = []pipeline.Step{pipeline.AfterResume, pipeline.WithinApply}

// trap is something that happens when a process reaches a step for the n-th time.
type trap struct {
	step pipeline.Step
	n    int
	do   string // kill, cut the power, fail or stall
	wait time.Duration
}

var (
	errKilled   = errors.New("killed")
	errStumbled = errors.New("stumbled")
)

// newTrap makes one of some steps of a process the place of a fault.
func (w *world) newTrap(rng *rand.Rand, name string, among []pipeline.Step) *trap {
	t := &trap{
		step: among[rng.IntN(len(among))], n: 1 + rng.IntN(3),
		do: []string{"kill", "power cut", "fail", "stall"}[rng.IntN(4)], wait: time.Duration(rng.Int64N(int64(18 * time.Second))),
	}
	if t.acquires() {
		t.n = 1
	}
	w.note("%s will %s at %s for the %d. time", name, t.do, t.step, t.n)
	return t
}

// acquires says whether the step is one of an acquisition.
func (t *trap) acquires() bool {
	return t.step != pipeline.WithinApply && !slices.Contains(cycleSteps, t.step)
}

// trap sets one for a process, which begins again if it would not come there.
func (w *world) trap(p *process) {
	t := w.newTrap(w.rng, p.name, steps)
	if t.acquires() {
		w.stop(p.name)
		w.start(p.name, t)
		return
	}
	p.set(t)
}

func (p *process) set(t *trap) {
	p.mu.Lock()
	p.traps = append(p.traps, t)
	p.mu.Unlock()
}

// trapLater sets a trap for each process, wherever it may come some day, or lets no store take the next cycle.
func (w *world) trapLater() {
	if !w.later.traps || w.later.rng.IntN(2) == 0 {
		return
	}
	if w.later.rng.IntN(2) == 0 {
		for _, name := range slices.Sorted(maps.Keys(w.live)) {
			t := w.newTrap(w.later.rng, name, slices.Concat(steps, laterSteps, laterSteps))
			t.n = 1
			w.live[name].set(t)
		}
		return
	}
	do, wait := []string{"fail", "fail", "stall"}[w.later.rng.IntN(3)], time.Duration(w.later.rng.Int64N(int64(40*time.Second)))
	w.note("all will %s at %s", do, pipeline.WithinApply)
	for _, p := range w.live {
		p.set(&trap{step: pipeline.WithinApply, n: 1, do: do, wait: wait})
	}
}

// at is called by the shards between steps.
func (p *process) at(step pipeline.Step) error {
	if p.w.among.amid && step == pipeline.BeforeProduce {
		time.Sleep(100 * time.Millisecond) // so that records come while customers are still moved
	}
	p.mu.Lock()
	var sprung *trap
	for i, t := range p.traps {
		if t.step == step {
			if t.n--; t.n <= 0 {
				sprung = t
				p.traps = slices.Delete(p.traps, i, i+1)
			}
			break
		}
	}
	p.mu.Unlock()
	if sprung != nil && !p.killed.Load() {
		p.w.hit(sprung.do + " at " + string(step))
		p.w.note("%s: %s at %s", p.name, sprung.do, step)
		switch sprung.do {
		case "power cut", "kill":
			p.w.hit("crash at " + string(step))
			p.killed.Store(true)
			p.net.cut(true)
			if sprung.do == "power cut" {
				left := p.disk.clone(0, nil)
				p.mu.Lock()
				p.left = left
				p.mu.Unlock()
			}
		case "fail":
			return errStumbled
		case "stall":
			if sprung.wait >= 10*time.Second { // what a write may take, and half of what a shard may take to close
				p.stalls.Store(true)
			}
			time.Sleep(sprung.wait)
		}
	}
	if p.killed.Load() {
		return errKilled
	}
	return nil
}
