//go:build synctests

package pipeline_test

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state"
)

// TestSim runs whole pipelines under faults in virtual time. The seed fixes the log, the faults and when they happen, not
// how goroutines interleave. SEEDS=n runs n seeds from START=m (1), SEED=n that one; SIM_DIR is where the histories of
// those that do not pass are kept, however they end.
func TestSim(t *testing.T) {
	number := func(name string, otherwise uint64) uint64 {
		if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
			return n
		}
		return otherwise
	}
	from, n := number("START", 1), number("SEEDS", 10)
	if one := number("SEED", 0); one > 0 {
		from, n = one, 1
	}
	began, virtual, seen := time.Now(), time.Duration(0), map[string]int{}
	for seed := from; seed < from+n && !t.Failed(); seed++ {
		passed := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			defer forgiveClient(t)
			// It takes seconds; one that goes round in virtual time would do so for hours and say nothing.
			spins := time.AfterFunc(10*time.Minute, func() {
				debug.SetTraceback("all")
				panic(fmt.Sprintf("seed %d does not end; history in %s", seed, historyOf(seed)))
			})
			defer spins.Stop()
			synctest.Test(t, func(t *testing.T) {
				w := simulate(t, seed)
				virtual += time.Since(w.began) - w.down
				for what, times := range w.seen {
					seen[what] += times
				}
			})
		})
		if passed {
			_ = os.Remove(historyOf(seed))
		}
	}
	fmt.Printf("%d seeds from %d: %.1f virtual hours in %v\n", n, from, virtual.Hours(), time.Since(began).Round(time.Second))
	if os.Getenv("SIM_SEEN") != "" {
		for _, what := range slices.Sorted(maps.Keys(seen)) {
			fmt.Printf("%7d  %s\n", seen[what], what)
		}
	}
	refused := map[string]bool{}
	for _, r := range refusals {
		refused[r.key.Name()] = true
	}
	for key := range unrefused {
		refused[key.Name()] = true
	}
	for what := range seen {
		if name, sent := strings.CutPrefix(what, "sent: "); sent && !refused[name] {
			t.Errorf("[coverage] the processes send %s, which no broker refuses here", name)
		}
	}
	if n < 200 || t.Failed() {
		return
	}
	for _, what := range always() {
		// Some seeds come by a step or an answer or not, as goroutines interleave: a few of 200, many of 1,000.
		rare := slices.ContainsFunc([]string{"kill at ", "power cut at ", "fail at ", "stall at ", "lost answer: ", "refused: ", "silence of somebody "}, func(kind string) bool { return strings.HasPrefix(what, kind) })
		if seen[what] == 0 && (n >= 1000 || !rare) {
			t.Errorf("[sometimes] never in %d seeds: %s", n, what)
		}
	}
}

// forgiveClient forgives the Kafka client one goroutine that it rarely leaves behind when it is closed while it turns from
// one topic to another (franz-go v1.22.2, fetchManager), and nothing else: a bubble ends with a panic if anything is left.
func forgiveClient(t *testing.T) {
	v := recover()
	if v == nil {
		return
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	left, client := 0, 0
	for _, g := range strings.Split(string(stacks), "\n\n") {
		if head, _, _ := strings.Cut(g, "\n"); strings.Contains(head, "synctest bubble") {
			left++
			if strings.Contains(g, "kgo.(*fetchManager).manageFetchConcurrency") {
				client++
			}
		}
	}
	if !strings.Contains(fmt.Sprint(v), "blocked goroutines remain") || left != client {
		panic(v)
	}
	t.Logf("the client left %d goroutines", client)
}

// simulate is one run: a log in parts, a fault after each, then everything is well again, and what has come out is judged.
func simulate(t *testing.T, seed uint64) *world {
	c := oracle.Configs().Example(int(seed))
	log := oracle.Logs(c).Example(int(seed))
	w := newWorld(t, seed, c)
	defer w.close()
	defer w.report()
	kinds := w.swarm()
	silence := w.cfg.Time.Clock == "manual" && w.rng.IntN(2) == 0
	w.note("seed %d: %d records, %d partitions, %d shards, cycles of %d, clock %s, kinds %v", seed, len(log), c.Partitions, w.cfg.Shards, w.cfg.Cycle.Records, w.cfg.Time.Clock, len(kinds))
	pace := []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second}[w.rng.IntN(3)]
	w.crowd()
	if w.among.building { // there is a past
		n := len(log) / 3
		w.reach(log[:n])
		w.write(log[:n])
		log = log[n:]
	}
	w.endOpen()
	w.among.remember(w)
	w.start("a")
	if w.among.amid {
		w.read()
	}
	if len(kinds) == len(faults) {
		w.refuse() // so that no kind of request is left out over the seeds
	}
	log, rest := w.peace(log)
	for len(log) > 0 {
		n := min(1+w.rng.IntN(5), len(log))
		w.reach(log[:n])
		before := len(w.log)
		w.write(log[:n])
		w.cut(w.log[before:])
		log = log[n:]
		if silence && w.rng.IntN(3) == 0 {
			w.moveClock()
		}
		if w.among.amid && w.among.rng.IntN(4) == 0 {
			w.publish()
		}
		for range 1 + w.rng.IntN(2) {
			time.Sleep(w.some(pace))
			w.fault(kinds)
		}
	}
	w.growInPeace(rest)
	w.finish()
	w.check()
	if !t.Failed() {
		w.epilogue()
	}
	return w
}

// reach lets the brokers' clock come to the time of the records, if it is that clock that counts. Nobody runs meanwhile.
func (w *world) reach(log []oracle.Record) {
	if w.cfg.Time.Clock != "broker" {
		return
	}
	w.hit("clock: broker")
	latest := int64(0)
	for _, r := range log {
		latest = max(latest, r.Timestamp)
	}
	if until := time.UnixMilli(latest); time.Until(until) > 0 {
		w.note("nothing runs until %s", until.UTC().Format(time.RFC3339))
		w.downtime(until)
	}
}

// read waits until everything written has been processed by somebody.
func (w *world) read() {
	w.t.Helper()
	ends := map[string]map[int32]int64{}
	for _, r := range w.log {
		if ends[r.Topic] == nil {
			ends[r.Topic] = map[int32]int64{}
		}
		ends[r.Topic][r.Partition] = max(ends[r.Topic][r.Partition], r.Offset+1)
	}
	w.await("the inputs to be read", func() bool {
		for topic, ends := range ends {
			for n, end := range ends {
				reached := false
				for _, p := range w.live {
					reached = reached || p.pipe.Positions()[topic][n] >= end
				}
				if !reached {
					return false
				}
			}
		}
		return true
	})
}

// finish lets somebody read everything and play silence to the end, and stops.
func (w *world) finish() {
	w.t.Helper()
	w.heal()
	w.read()
	end, err := time.Parse(time.RFC3339, w.c.EndClock)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.cfg.Time.Clock == "manual" {
		w.set(state.Instant(end.UnixMilli()))
		end = time.UnixMilli(int64(w.now))
	} else {
		end = time.Now()
	}
	w.c.EndClock = end.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	w.await("silence to be played", func() bool {
		return shardsAre(w.cfg.Shards, w.live, func(s pipeline.ShardStatus) bool { return int64(s.Horizon) >= end.UnixMilli() })
	})
	w.telling()
	for _, name := range slices.Sorted(maps.Keys(w.live)) {
		w.stop(name)
	}
	// Somebody may have been fenced and not have known it. One more life in peace, and everything is settled.
	w.note("once more")
	w.start("a")
	w.read()
	w.underCuts()
	time.Sleep(5 * time.Second) // markers of transactions come after the last records
	w.underCuts()
	for _, name := range slices.Sorted(maps.Keys(w.live)) {
		w.stop(name)
	}
}

// configOf is the product's configuration for one of the oracle's.
func configOf(t *testing.T, c oracle.Config) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.App, cfg.Currency, cfg.MinorDigits = c.App, c.Currency, c.MinorDigits
	cfg.Inputs.Purchases, cfg.Inputs.Interactions = c.Inputs.Purchases, c.Inputs.Interactions
	cfg.Time.EventTime, cfg.Time.Zone, cfg.Time.Backfill = c.EventTime, c.TimeZone, c.Backfill
	from := "1970-01-01T00:00:00Z" // everything is live, and nothing is built before
	if c.LiveFrom != nil {
		from = *c.LiveFrom
	}
	if err := cfg.Time.LiveFrom.UnmarshalText([]byte(from)); err != nil {
		t.Fatal(err)
	}
	cfg.Rules.WindowDays = c.Rules.WindowDays
	copy(cfg.Rules.RecencyDays[:], c.Rules.RecencyDays)
	copy(cfg.Rules.Frequency[:], c.Rules.Frequency)
	for i, m := range c.Rules.Money.Cuts {
		cfg.Rules.Money.Cuts[i] = config.Decimal(m)
	}
	cfg.Churn = config.Churn{
		Method: c.Churn.Method, HorizonDays: c.Churn.HorizonDays, Params: config.ChurnParams(c.Churn.Params),
		Bands:      [2]config.Decimal{config.Decimal(c.Churn.Bands[0]), config.Decimal(c.Churn.Bands[1])},
		Hysteresis: config.Decimal(c.Churn.Hysteresis), Jump: config.Decimal(c.Churn.Jump),
	}
	cfg.State.Memtable = 128 << 10 // made anew at each acquisition
	cfg.Limits.MaxRecordBytes, cfg.Limits.FutureHours = c.Limits.MaxRecordBytes, int(c.Limits.FutureHours)
	return cfg
}
