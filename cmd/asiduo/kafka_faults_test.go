//go:build kafka

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// times are what was measured, for the log.
type times []time.Duration

func (all times) String() string {
	slices.Sort(all)
	return fmt.Sprintf("%d times, median %v, longest %v", len(all), all[len(all)/2], all[len(all)-1])
}

// somewhere waits a random time, so that a fault falls anywhere in a cycle.
func somewhere(most time.Duration) { time.Sleep(time.Duration(rand.Int64N(int64(most)))) }

// TestKafkaRestart stops and starts a process again and again while the load goes on.
func TestKafkaRestart(t *testing.T) {
	w := newWorld(t, "restart")
	a := newProcess(t, w, "a")
	a.start()
	w.startLoad(100, a)
	var stops, starts times
	for time.Now().Before(w.load.lastDue()) {
		somewhere(3 * time.Second)
		stops = append(stops, a.stop().Round(time.Millisecond))
		a.start()
		starts = append(starts, awaitAll(t, 20*time.Second, "restart", 1, a))
	}
	t.Logf("SIGTERM to exit: %v; start to all shards: %v", stops, starts)
	w.finish(a)
}

// TestKafkaSIGKILL kills a process at random moments, also while it reads the past and while it takes its shards, and
// once the broker.
func TestKafkaSIGKILL(t *testing.T) {
	w := newWorld(t, "sigkill")
	a := newProcess(t, w, "a")
	for range 4 {
		a.start()
		somewhere(400 * time.Millisecond)
		a.kill()
	}
	a.start()
	w.startLoad(100, a)
	var starts times
	for n := 0; n < 6 || time.Now().Before(w.load.lastDue()); n++ {
		somewhere(2 * time.Second)
		a.kill()
		a.start()
		if n%3 == 1 { // again while it takes its shards
			somewhere(150 * time.Millisecond)
			a.kill()
			a.start()
		}
		if n == 3 {
			awaitAll(t, 20*time.Second, "restart", 4, a) // without a broker nobody starts
			somewhere(time.Second)
			began, before := time.Now(), a.shards()
			kafkaScript(t, "kill")
			kafkaScript(t, "restart")
			restarted := time.Since(began).Round(time.Millisecond)
			t.Logf("broker killed, back after %v, cycles of all shards %v later", restarted, awaitCycles(t, 60*time.Second, before, a))
			continue
		}
		starts = append(starts, awaitAll(t, 20*time.Second, "restart", 1, a))
	}
	t.Logf("start after SIGKILL to all shards: %v", starts)
	w.finish(a)
}

// TestKafkaTakeover lets processes die and freeze, and others take their shards.
func TestKafkaTakeover(t *testing.T) {
	w := newWorld(t, "takeover")
	a, b, c := newProcess(t, w, "a"), newProcess(t, w, "b"), newProcess(t, w, "c")
	a.start()
	b.start()
	awaitAll(t, 20*time.Second, "two share the shards", 1, a, b)
	w.startLoad(100, a, b)
	askFor(t, w, a, b)
	lintMetrics(t, b)

	somewhere(2 * time.Second)
	a.kill()
	t.Logf("SIGKILL of the first: the second had all shards after %v", awaitAll(t, sessionTimeout+5*time.Second, "take-over", 4, b))
	c.start()
	t.Logf("the third had its share after %v", awaitAll(t, 20*time.Second, "a third joins", 1, b, c))

	for _, pair := range [][2]*process{{b, c}, {c, b}} { // the zombie must not write when it wakes up
		zombie, other := pair[0], pair[1]
		somewhere(2 * time.Second)
		before := zombie.evicted()
		zombie.signal(syscall.SIGSTOP)
		t.Logf("SIGSTOP of one: the other had all shards after %v", awaitAll(t, sessionTimeout+5*time.Second, "take-over", 4, other))
		somewhere(2 * time.Second)
		zombie.signal(syscall.SIGCONT)
		t.Logf("SIGCONT: the zombie had its share again after %v", awaitAll(t, 20*time.Second, "the zombie comes back", 1, b, c))
		after := zombie.evicted()
		t.Logf("the zombie was fenced %v times, %v shards were taken from it", after[0]-before[0], after[1]-before[1])
		if after == before {
			t.Error("nobody has told the zombie that its shards are others'")
		}
	}
	somewhere(2 * time.Second)
	b.stop()
	b.start()
	t.Logf("restart beside the third: %v", awaitAll(t, 20*time.Second, "restart", 1, b, c))
	w.finish(b, c)
}

// evicted is how often a process was fenced, and how many shards the group has taken from it: one or the other is what it
// sees first when it wakes up.
func (p *process) evicted() (n [2]float64) {
	p.t.Helper()
	n[0], _ = p.metric("asiduo_shard_closed_total", `reason="fenced"`)
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	n[1] = float64(strings.Count(string(text), "shard lost") + strings.Count(string(text), "shard revoked"))
	return n
}

// askFor asks two instances for customers: one of them knows, the other says where.
func askFor(t *testing.T, w *world, a, b *process) {
	t.Helper()
	redirects := 0
	for _, customer := range w.load.people[w.load.live : w.load.live+20] {
		path := "/v1/customers/" + customer.id
		for _, asked := range [][2]*process{{a, b}, {b, a}} {
			to, status := asked[0].get(asked[0].cfg.API.Listen, path)
			if status == http.StatusOK {
				continue
			}
			redirects++
			at, known := strings.CutPrefix(to, "http://"+asked[1].cfg.API.Listen)
			if status != http.StatusTemporaryRedirect || !known {
				t.Errorf("%s: status %d, %s", path, status, to)
			} else if text, status := asked[1].get(asked[1].cfg.API.Listen, at); status != http.StatusOK || !strings.Contains(text, customer.id) {
				t.Errorf("%s: the owner answers %d: %s", at, status, text)
			}
		}
	}
	if redirects != 20 {
		t.Errorf("%d redirects for 20 customers of two instances", redirects)
	}
}

// lintMetrics holds the metrics of a process that works against the linter.
func lintMetrics(t *testing.T, p *process) {
	t.Helper()
	text, status := p.get(p.cfg.Admin.Listen, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("metrics: status %d", status)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, problem := range problems {
		t.Errorf("metric %s: %s", problem.Metric, problem.Text)
	}
}

// TestKafkaWipedDirectory takes the data directory away from a process: the topics have everything.
func TestKafkaWipedDirectory(t *testing.T) {
	w := newWorld(t, "wiped")
	a := newProcess(t, w, "a")
	wipe := func() {
		t.Helper()
		if err := os.RemoveAll(a.cfg.State.Dir); err != nil {
			t.Fatal(err)
		}
		a.start()
		t.Logf("wiped: all shards again after %v", awaitAll(t, sessionTimeout+10*time.Second, "restart with an empty directory", 4, a))
	}
	a.start()
	w.startLoad(100, a)
	for range 2 {
		somewhere(3 * time.Second)
		a.kill()
		wipe()
	}
	for file := range strings.Lines(a.command("snapshot")) {
		if found, err := os.Stat(strings.TrimSpace(file)); err != nil || found.Size() == 0 {
			t.Errorf("snapshot: %v", err)
		}
	}
	if published, _ := filepath.Glob(filepath.Join(w.cfg.Archive.Dir, "snapshots", "*", "_SUCCESS")); len(published) != 1 {
		t.Errorf("published snapshots: %v", published)
	}
	w.settle()
	before := a.command("state", "scan")
	if n := strings.Count(before, "\n"); n < len(w.load.people)/2 {
		t.Errorf("the scan has %d customers", n)
	}
	a.kill()
	wipe()
	sameState(t, "after the directory was wiped", before, a.command("state", "scan"))
	a.stop()
	sameState(t, "of the stopped process", before, a.command("state", "scan"))
	w.finish(a)
}

// sameState compares what "asiduo state scan" printed.
func sameState(t *testing.T, what, want, got string) {
	t.Helper()
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("state %s: wanted %s\ngot %s", what, a[i], b[i])
			return
		}
	}
	if len(a) != len(b) {
		t.Errorf("state %s: %d lines, wanted %d", what, len(b), len(a))
	}
}
