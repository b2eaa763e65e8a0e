//go:build kafka

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestUpgrade changes two processes to this release and back to a former one, one after the other, while orders come: each reads
// the stores, the changelog and the parameters that the other release has written, beside instances of it, and nothing is lost,
// told twice or out of order. The first start reads a past that the former release has put away.
func TestUpgrade(t *testing.T) {
	former := os.Getenv("ASIDUO_FORMER")
	if former == "" {
		t.Fatal("ASIDUO_FORMER is not the program of a former release: run make upgrade-test")
	}
	w := newWorld(t, "upgrade")
	current := w.binary
	all := []*process{newProcess(t, w, "a"), newProcess(t, w, "b")}
	for _, p := range all {
		p.binary = former
		p.start()
	}
	awaitAll(t, 30*time.Second, "two of the former release share the shards", 1, all...)
	w.startLoad(100, all...)
	for _, to := range []struct{ name, binary string }{{"this release", current}, {"the former one", former}, {"this release again", current}} {
		for _, p := range all {
			mine := strings.Count(fmt.Sprint(p.shards()), "running")
			p.stop()
			p.binary = to.binary
			p.start()
			took := await(t, sessionTimeout+20*time.Second, to.name+" is ready", func() bool {
				_, status := p.get(p.cfg.Admin.Listen, "/readyz")
				return status == 200 && strings.Count(fmt.Sprint(p.shards()), "running") == mine
			})
			t.Logf("%s: ready after %v", to.name, took)
		}
		if n := all[0].setAside("") + all[1].setAside(""); n != 0 {
			t.Errorf("%s: %d stores were set aside", to.name, n)
		}
	}
	w.finish(all...)
}
