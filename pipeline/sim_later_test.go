//go:build synctests

package pipeline_test

import "math/rand/v2"

// later is what has come to the simulation when the seeds were known. It draws by itself: what else a seed does stays what it is.
type later struct {
	rng   *rand.Rand
	old   bool // brokers whose clients say beforehand which partitions a transaction will have; Kafka 4 is not told
	traps bool // there are more traps, many of them where the store takes a cycle
}

func (w *world) newLater() {
	w.later.rng = rand.New(rand.NewPCG(w.seed, 3))
	w.later.old, w.later.traps = w.later.rng.IntN(4) == 0, w.later.rng.IntN(2) == 0
}
