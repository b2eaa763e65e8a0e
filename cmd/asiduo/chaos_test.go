//go:build kafka

package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
)

// TestChaos runs three processes on a real Kafka under faults of every kind that the seed draws, for as long as
// ASIDUO_CHAOS says, and then holds everything that came out and everything that is kept against the oracle.
//
// What must come out is a function of what lies in the inputs, although processes, brokers and networks fail at their
// own times, for two reasons. The inputs are stamped by the brokers when a record is appended (LogAppendTime): a record
// that had to wait in its producer is as old as its place in the log, and the horizon never reaches an instant before
// all that had been appended by then has been read, so no record is ever late. And customers' other due instants are
// hours away. Within this, orders race the silence of their customers on purpose.
//
// With three brokers there is one more condition: a record that is appended but not yet replicated is older than it
// looks to readers, and a broker that was cut off answers with what it knew. time.grace is longer than any broker is
// frozen here, or waits for a follower that is gone.
func TestChaos(t *testing.T) {
	a, seen := chaos(t, schedule)
	families := map[string]bool{}
	for kind := range seen.kinds {
		families[faultFamily(kind)] = true
	}
	if a.length >= time.Minute && len(families) < faultFamilies {
		a.t.Errorf("too tame: only faults of the families %v", slices.Sorted(maps.Keys(families)))
	}
	if a.length >= 10*time.Minute && (seen.aborted == 0 || seen.takeovers == 0 || len(seen.kinds) < len(faultKinds)) {
		a.t.Errorf("too tame: %d aborted records, %d take-overs, %d kinds of faults", seen.aborted, seen.takeovers, len(seen.kinds))
	}
	if a.length >= 10*time.Minute && (seen.whole == 0 || seen.judged == 0) {
		a.t.Errorf("too little was judged: %d changelogs without a gap, %d stores", seen.whole, seen.judged)
	}
}

// chaos runs it with the faults of a schedule.
func chaos(of *testing.T, faults func(seed uint64) func() planned) (*arena, sights) {
	t := newWitness(of)
	length, err := time.ParseDuration(os.Getenv("ASIDUO_CHAOS"))
	if err != nil {
		t.Fatalf("ASIDUO_CHAOS is no duration: run make chaos (%v)", err)
	}
	seed, err := strconv.ParseUint(os.Getenv("ASIDUO_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	brokers := realBroker(t)
	t.Logf("%v on %d brokers, SEED=%d", length, len(brokers), seed)
	people := max(200, int(length.Seconds()))
	w := newWorldOf(t, "chaos", brokers, scale{live: people, quiet: people, span: length + 10*time.Second, close: true}, seed, func(w *world) {
		c := &w.cfg
		c.Log.Format = "json"
		c.Cycle.Records, c.Cycle.TransactionTimeout = 300, config.Duration(10*time.Second)
		if len(brokers) > 1 {
			c.Outputs.ReplicationFactor, c.Time.Grace = 3, config.Duration(10*time.Second)
		}
	})
	alter(t, w, map[string]string{"message.timestamp.type": "LogAppendTime"}, pipeline.InputTopics(w.cfg)...)
	alter(t, w, map[string]string{ // the cleaner works all the time, and deletions are soon forgotten
		"segment.ms": "5000", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "10000", "delete.retention.ms": "60000",
	}, w.cfg.App+".changelog")

	a := newArena(t, w, len(brokers))
	committed, everything := newTail(t, w, true), newTail(t, w, false)
	for _, v := range a.all {
		v.start()
	}
	a.length = length
	end := time.Now().Add(length)
	loads, stopLoads := context.WithCancel(context.Background())
	a.running.Go(func() { a.loadPlain(loads, 80) })
	a.running.Go(func() {
		a.loadTransactions(loads, newLoad("t", w.judge.Inputs, w.load.scale, seed+1, w.load.began), 20)
	})
	a.running.Go(func() { a.watchLag(loads, committed) })
	t.Cleanup(func() { stopLoads(); a.running.Wait() })
	done := make(chan struct{})
	for _, v := range a.all {
		a.running.Go(func() { v.supervise(done) })
	}
	a.rage(faults(seed), end)
	stopLoads()
	close(done)
	a.running.Wait()
	a.settle(committed)
	want := w.settle()

	for _, v := range a.all {
		if err := v.quit(); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
	}
	nothingOpen(t, w)
	committed.catchUp(t, w.adm)
	everything.catchUp(t, w.adm)
	return a, a.judge(committed, everything, want)
}

// alter changes settings of topics.
func alter(t testing.TB, w *world, settings map[string]string, topics ...string) {
	t.Helper()
	var list []kadm.AlterConfig
	for k, v := range settings {
		list = append(list, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v})
	}
	done, err := w.adm.AlterTopicConfigs(t.Context(), list, topics...)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range done {
		if d.Err != nil {
			t.Fatal(d.Err, d.ErrMessage)
		}
	}
}

// newArena makes the processes, each with a network of its own.
func newArena(t testing.TB, w *world, brokers int) *arena {
	t.Helper()
	a := &arena{t: t, w: w, brokers: brokers, acked: map[string]map[int32]int64{}, refused: map[string]int{}}
	links := strings.Fields(os.Getenv("ASIDUO_LINKS"))
	if len(links) != 3 {
		t.Fatalf("ASIDUO_LINKS has %d links, 3 are needed: run make chaos", len(links))
	}
	t.Cleanup(a.brokersLive)
	for i, link := range links {
		a.all = append(a.all, newVictim(t, w, string(rune('a'+i)), newNetwork(t, link)))
	}
	return a
}

// rage lets faults happen until the end.
func (a *arena) rage(draw func() planned, end time.Time) {
	for {
		p := draw()
		if time.Now().Add(p.gap).After(end) {
			break
		}
		time.Sleep(p.gap)
		if !a.inflict(p) {
			a.skipped++
		}
	}
	a.busy.Wait()
}

// settle waits until everything written has been processed, with all processes and brokers there, for as long as they
// get on.
func (a *arena) settle(l *tail) {
	a.t.Helper()
	began, moved, least := time.Now(), time.Now(), int64(-1)
	for {
		ends, err := a.w.adm.ListEndOffsets(a.t.Context(), pipeline.InputTopics(a.w.cfg)...)
		if err == nil && ends.Error() == nil {
			next, _ := l.positions()
			behind := int64(0)
			ends.Each(func(o kadm.ListedOffset) { // a marker at the end alone makes no cycle
				behind += max(0, o.Offset-1-next[o.Topic][o.Partition])
			})
			if behind == 0 {
				break
			}
			if least < 0 || behind < least {
				moved, least = time.Now(), behind
			}
		}
		if time.Since(moved) > 90*time.Second {
			a.t.Fatalf("%d records are not processed, and nothing moves", least)
		}
		time.Sleep(100 * time.Millisecond)
	}
	a.t.Logf("everything is processed %v after the last fault", time.Since(began).Round(time.Millisecond))
}

// sights are what a run has met with, without which it would show little.
type sights struct {
	kinds     map[string]int // of faults
	aborted   int            // records of the changelog
	takeovers int            // by another process
	unmarked  int            // transactions of which the brokers have left out a marker
	whole     int            // changelogs that were read without a gap
	judged    int            // stores that were held against them
}

// bySilence counts events that nobody's doing has caused.
func bySilence(want []oracle.Output) (n int) {
	for _, o := range want {
		if o.Value["cause"] == "timer" {
			n++
		} else if tr, ok := o.Value["transition"].(map[string]any); ok && tr["cause"] == "timer" {
			n++
		}
	}
	return n
}

// judge is the verdict, and the report.
func (a *arena) judge(committed, everything *tail, want []oracle.Output) sights {
	t, w := a.t, a.w
	t.Helper()
	report(t, oracle.Diff(want, w.got()))
	gaps := make([]int, worldShards)
	fenced, whole := 0, 0
	for i := range gaps {
		gaps[i] = everything.shards[i].gaps
		fenced += everything.shards[i].stale
		if gaps[i] == 0 {
			whole++
		}
		// Compaction may be faster than either of the two who read along; what neither has seen was never written.
		missed := slices.DeleteFunc(slices.Clone(committed.shards[i].missed), func(n uint64) bool { return everything.shards[i].done[n] })
		if len(missed) > 0 && gaps[i] == 0 {
			t.Errorf("the cycles %d of shard %d are missing in the changelog", missed, i)
		}
	}
	committed.add(everything)
	slow := map[string]bool{}
	for _, v := range a.all {
		slow[v.cfg.State.Dir] = v.quitting >= 2*time.Second // what is left to a transaction under way
	}
	opened, judged := judgeStores(t, w, committed, gaps, slow, want)
	left, offsets := compacted(t, w, committed)
	if left > offsets*9/10 {
		t.Errorf("%d of %d offsets of the changelog are left: did the cleaner run?", left, offsets)
	}
	aborted := map[string]int{}
	read := 0
	for name, n := range everything.counts {
		read += n
		aborted[name] = n - committed.counts[name]
	}
	kinds := map[string]int{}
	for _, f := range a.faults {
		kinds[f.kind]++
	}
	silent := bySilence(want)
	g := a.readLogs()
	slices.Sort(g.bad)
	for _, s := range slices.Compact(g.bad) {
		t.Errorf("must not be: %s", s)
	}
	all := a.takeovers(committed)
	others := a.distribution(all, func(o takeover) bool { return !o.itself })
	if least := min(100, int(a.length/(9*time.Second))); len(a.faults) < least {
		t.Errorf("only %d faults in %v, want %d", len(a.faults), a.length, least)
	}
	if silent == 0 {
		t.Error("too tame: no events by silence")
	}
	t.Logf("%d faults: %s; %d more met somebody who had one already", len(a.faults), counted(kinds), a.skipped)
	t.Logf("from kill or freeze to the first cycle of another process: %v", others)
	t.Logf("... while nothing else was wrong: %v", a.distribution(all, func(o takeover) bool { return !o.itself && o.alone }))
	t.Logf("to the first cycle of the same process: %v", a.distribution(all, func(o takeover) bool { return o.itself }))
	for _, o := range all[:min(len(all), 5)] {
		t.Logf("among the longest: %v, shard %d after fault %d", o.took.Round(10*time.Millisecond), o.shard, o.fault+1)
	}
	t.Logf("%d ownership flaps, %d acquisitions, %d transactions not marked, shards closed: %s", a.flaps(committed), g.restored, g.unmarked, counted(g.closed))
	t.Logf("largest lag: %d records; %d records written, %d taken back by their producer, refused: %s", a.lag, a.records, a.aborted, counted(a.refused))
	t.Logf("checked: %d events and dead letters wanted (%d by silence), %d records of the pipeline read, %d of them by owners that had been fenced, aborted: %s", len(want), silent, read, fenced, counted(aborted))
	t.Logf("changelog: %d offsets, %d left by the cleaner; %d of %d shards read without a gap, gaps: %v", offsets, left, whole, worldShards, gaps)
	t.Logf("stores: %d opened, %d of them judged; rebuilt: %s; processes ended by themselves: %s", opened, judged, counted(g.rebuilt), counted(g.exits))
	return sights{kinds, aborted["changelog"], len(others), g.unmarked, whole, judged}
}
