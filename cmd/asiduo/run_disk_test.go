package main

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestRunDiskStuckAtStop has a process that is stopped while its disk does not answer: that it has not closed its stores is how
// it ends.
func TestRunDiskStuckAtStop(t *testing.T) {
	w := newTown(t)
	var stuck atomic.Bool
	heal := make(chan struct{})
	w.disk = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && stuck.Load() {
			<-heal
		}
		return nil
	}))
	s := w.run()
	s.ready(townShards)
	w.buy("anna", "o1", time.Now())
	w.expect("anna", "", "new", "order")
	stuck.Store(true)
	s.cancel()
	s.cancel = nil
	err := <-s.done
	close(heal)
	if err == nil || !strings.HasSuffix(err.Error(), ": is the disk full or broken?") {
		t.Errorf("run: %v", err)
	}
}
