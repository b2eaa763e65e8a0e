//go:build kafka

package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestKafkaRestart stops and starts a process again and again while the load goes on.
func TestKafkaRestart(t *testing.T) {
	w := newWorld(t, "restart")
	a := newProcess(t, w, "a")
	a.start()
	w.startLoad(100, a)
	for range 5 {
		time.Sleep(time.Duration(500+rand.IntN(2500)) * time.Millisecond)
		stopped := a.stop()
		a.start()
		t.Logf("stopped in %v, all shards again after %v", stopped.Round(time.Millisecond), awaitAll(t, 20*time.Second, "restart", 1, a))
	}
	w.finish(a)
}
