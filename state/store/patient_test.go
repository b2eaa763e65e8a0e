package store

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A full disk is tried again now and then, and nobody waits for that: neither readers nor Close.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		o := options(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if full.Load() && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") {
				return syscall.ENOSPC
			}
			return nil
		})))
		var trouble atomic.Int64
		o.Report.Trouble = func(error) { trouble.Add(1) }
		s, err := Open("shard-0", o)
		if err != nil {
			t.Fatal(err)
		}
		h := history{3}
		h.write(t, s, 1)
		full.Store(true)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			began := time.Now()
			v, err := s.View()
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited > 0 {
				t.Fatalf("a reader waits %v for a full disk", waited)
			}
		}
		if n := trouble.Load(); n < 10 || n > 25 {
			t.Errorf("%d attempts in a second", n)
		}
		full.Store(false)
		time.Sleep(time.Second)
		if err := s.Close(true); err != nil {
			t.Error(err)
		}
		if s, err = Open("shard-0", o); err != nil {
			t.Fatal(err)
		}
		if n := h.check(t, s); n != 1 {
			t.Errorf("after cycle %d", n)
		}
		closed(t, s)
	})
}
