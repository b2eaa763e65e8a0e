//go:build kafka

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// victim is a process that faults happen to. Whatever ends it besides, it is started again, as an init system would.
type victim struct {
	*process
	name string
	net  *network
	busy atomic.Bool

	mu        sync.Mutex // held while the process is not to be started by supervise
	instances map[string]bool
	copies    []string
	exits     []ending      // by itself
	quitting  time.Duration // what quit took
}

func newVictim(t testing.TB, w *world, name string, net *network) *victim {
	t.Helper()
	v := &victim{process: newProcess(t, w, name, net.bootstrap...), name: name, net: net, instances: map[string]bool{}}
	if keep := os.Getenv("ASIDUO_KEEP"); keep != "" {
		t.Cleanup(func() {
			text, err := os.ReadFile(v.log)
			if err := errors.Join(err, os.MkdirAll(keep, 0o755), os.WriteFile(filepath.Join(keep, name+".log"), text, 0o644)); err != nil {
				t.Error(err)
			}
		})
	}
	return v
}

// supervise starts a process that has ended by itself.
func (v *victim) supervise(done <-chan struct{}) {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		v.mu.Lock()
		if v.cmd != nil {
			select {
			case <-v.ended:
				v.exits = append(v.exits, v.ending())
				v.start()
			default:
			}
		}
		v.mu.Unlock()
	}
}

// know notes who the process is in the group, before its directory goes and when all is over.
func (v *victim) know() {
	var is struct{ Instance string }
	b, err := os.ReadFile(filepath.Join(v.cfg.State.Dir, "identity.json"))
	if err == nil && json.Unmarshal(b, &is) == nil {
		v.instances[is.Instance] = true
	}
}

// keepCopy copies the data directory of the stopped process, if it has got as far as making one, and keeps the last three
// copies.
func (v *victim) keepCopy() error {
	if _, err := os.Stat(v.cfg.State.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil // wiped, and killed again while it asked the brokers
	}
	to := fmt.Sprintf("%s.copy-%d", v.cfg.State.Dir, time.Now().UnixNano())
	if err := os.CopyFS(to, os.DirFS(v.cfg.State.Dir)); err != nil {
		return err
	}
	if v.copies = append(v.copies, to); len(v.copies) > 3 {
		err := os.RemoveAll(v.copies[0])
		v.copies = v.copies[1:]
		return err
	}
	return nil
}

// down kills the process, does something to its directory, lets some time go by and starts it.
func (v *victim) down(away time.Duration, meanwhile func() error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kill()
	v.know()
	err := meanwhile()
	time.Sleep(away)
	v.start()
	return err
}

// terminate stops the process as an operator does, and starts it some time later.
func (v *victim) terminate(away time.Duration) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.quit(); err != nil {
		return err
	}
	time.Sleep(away)
	v.start()
	return nil
}

// quit stops the process. How it ended is noted if it did so before, or not as it should.
func (v *victim) quit() error {
	v.know()
	v.quitting = 0
	asked := time.Now()
	err := v.cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) { // by itself, before
		<-v.ended
		v.exits = append(v.exits, v.ending())
		return nil
	}
	if err != nil {
		return err
	}
	select {
	case <-v.ended:
		v.quitting = time.Since(asked)
		if e := v.ending(); v.err != nil && !e.early() {
			v.exits = append(v.exits, e)
		}
		return nil
	case <-time.After(45 * time.Second):
		return errors.New("still there 45 s after SIGTERM")
	}
}

// freeze stops the process for a while as a virtual machine that is moved, or a long pause of a collector.
func (v *victim) freeze(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cmd == nil {
		return
	}
	v.know()
	_ = v.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(d)
	_ = v.cmd.Process.Signal(syscall.SIGCONT)
}

// fault is something that happens, once it has.
type fault struct {
	kind, to string
	at       time.Time
	gone     bool // the process does nothing any more from here on
}

// planned is a fault of the schedule.
type planned struct {
	kind    string
	process int
	all     bool          // network faults: everybody's
	gap     time.Duration // before it
	long    float64       // 0 to 1, of what the kind allows
	coin    bool
}

// kinds with their weights.
var faultKinds = []struct {
	name   string
	weight int
}{
	{"kill", 9}, {"kill-away", 7}, {"kill-wipe", 6}, {"kill-stale", 8},
	{"freeze", 9}, {"freeze-short", 4}, {"term", 6}, {"term-away", 4},
	{"broker-kill", 6}, {"broker-freeze", 5},
	{"cut", 8}, {"refuse", 6}, {"delay", 6}, {"half-close", 7}, {"swallow", 9}, {"deaf", 6},
}

// schedule draws what will happen. A seed always draws the same; what it meets is not the same. It opens with a fault of each
// family, each of another process, so that none is skipped: a short run has had all.
func schedule(seed uint64) func() planned {
	rng := rand.New(rand.NewPCG(seed, 4))
	var opening []planned
	total := 0
	for _, k := range faultKinds {
		total += k.weight
	}
	draw := func() planned {
		p := planned{
			process: rng.IntN(3), all: rng.IntN(4) == 0, coin: rng.IntN(2) == 0, long: rng.Float64(),
			gap: 1500*time.Millisecond + time.Duration(rng.Int64N(int64(4*time.Second))),
		}
		n := rng.IntN(total)
		for _, k := range faultKinds {
			if n -= k.weight; n < 0 {
				p.kind = k.name
				break
			}
		}
		return p
	}
	return func() planned {
		p := draw()
		if len(opening) < faultFamilies {
			for slices.ContainsFunc(opening, p.meets) {
				p = draw()
			}
			opening = append(opening, p)
		}
		return p
	}
}

// faultFamilies are kill, stop, broker and network.
const faultFamilies = 4

func faultFamily(kind string) string {
	switch first, _, _ := strings.Cut(kind, "-"); first {
	case "kill", "broker":
		return first
	case "freeze", "term":
		return "stop"
	default:
		return "network"
	}
}

// meets says whether another fault is of the same family, or happens to the same process.
func (p planned) meets(o planned) bool {
	a, b := faultFamily(p.kind), faultFamily(o.kind)
	return a == b || a != "broker" && b != "broker" && p.process == o.process
}
