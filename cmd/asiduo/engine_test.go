package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state"
)

// fleet is several instances of the pipeline on one embedded broker, with one driven clock.
type fleet struct {
	t     *testing.T
	r     *rehearsal // broker, topics and client; its own pipeline is never run
	input []*kgo.Record
	c     oracle.Case
	live  map[string]*instance
	end   state.Instant
}

// instance is one process, as far as a goroutine can be one: it has a disk of its own, and a death that loses what was
// not synced.
type instance struct {
	pipe   *pipeline.Pipeline
	told   *prometheus.Registry
	disk   *vfs.MemFS
	killed atomic.Bool
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

var errKilled = errors.New("killed")

func newFleet(t *testing.T, name string, change func(*stage)) *fleet {
	t.Helper()
	dir := filepath.Join("testdata", "conformance", "cases", name)
	c, err := oracle.ReadCase(dir)
	if err != nil {
		t.Fatal(err)
	}
	end, err := time.Parse(time.RFC3339, c.Config.EndClock)
	if err != nil {
		t.Fatal(err)
	}
	st := stage{
		cfg: configOf(t, c.Config), partitions: c.Config.Partitions, shards: c.Config.Partitions, epoch: c.Config.Epoch, dir: "data", files: vfs.NewCrashableMem(),
		log: slog.New(slog.DiscardHandler),
	}
	st.cfg.Cycle.Records = 7
	st.cfg.Group.SessionTimeout, st.cfg.Group.Heartbeat = 2e9, 1e8
	if change != nil {
		change(&st)
	}
	r, err := rehearse(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, r: r, c: c, live: map[string]*instance{}, end: state.Instant(end.UnixMilli())}
	t.Cleanup(func() {
		for name := range f.live {
			f.stop(name)
		}
		if err := r.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, rec := range c.Input {
		k := &kgo.Record{Topic: rec.Topic, Partition: rec.Partition, Timestamp: time.UnixMilli(rec.Timestamp), Key: rec.Key, Value: rec.Value}
		for h, v := range rec.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h, Value: []byte(v)})
		}
		f.input = append(f.input, k)
	}
	return f
}

// readAll runs the pipeline over the whole input.
func (f *fleet) readAll() {
	f.t.Helper()
	if err := f.r.write(f.t.Context(), func(yield func(*kgo.Record, error) bool) {
		for _, r := range f.input {
			if !yield(r, nil) {
				return
			}
		}
	}, func(int) {}); err != nil {
		f.t.Fatal(err)
	}
	f.r.start(f.t.Context())
	if err := f.r.readAll(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// start runs an instance on a disk. With a step, it is killed when a shard reaches that step for the n-th time.
func (f *fleet) start(name string, disk *vfs.MemFS, step pipeline.Step, n int64) {
	f.t.Helper()
	i := &instance{disk: disk, done: make(chan struct{}), told: prometheus.NewRegistry()}
	var times atomic.Int64
	pipe, err := pipeline.New(f.r.cfg, pipeline.Deps{
		Log: slog.New(slog.DiscardHandler), Registry: i.told, FS: disk, Manual: f.r.clock,
		Interrupt: func(_ int32, at pipeline.Step) error {
			if at == step && times.Add(1) == n {
				i.killed.Store(true)
			}
			if i.killed.Load() {
				return errKilled
			}
			return nil
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	i.pipe = pipe
	ctx, cancel := context.WithCancel(context.Background())
	i.cancel = cancel
	go func() {
		defer close(i.done)
		i.err = pipe.Run(ctx)
	}()
	f.live[name] = i
}

// stop ends an instance as SIGTERM does, and returns its disk.
func (f *fleet) stop(name string) *vfs.MemFS {
	i := f.live[name]
	delete(f.live, name)
	i.cancel()
	<-i.done
	if i.err != nil {
		f.t.Errorf("instance %s: %v", name, i.err)
	}
	return i.disk
}

// kill ends an instance as SIGKILL and a power cut do: at whatever step it is, and with only what was synced on disk.
func (f *fleet) kill(name string) *vfs.MemFS {
	i := f.live[name]
	i.killed.Store(true)
	disk := i.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: rand.New(rand.NewPCG(1, 2))})
	f.stop(name)
	return disk
}

// write puts the next part of the log into the inputs.
func (f *fleet) write(part, of int) {
	f.t.Helper()
	from, to := len(f.input)*part/of, len(f.input)*(part+1)/of
	if err := f.r.write(f.t.Context(), func(yield func(*kgo.Record, error) bool) {
		for _, r := range f.input[from:to] {
			if !yield(r, nil) {
				return
			}
		}
	}, func(int) {}); err != nil {
		f.t.Fatal(err)
	}
}

// await waits until the instances together satisfy a condition.
func (f *fleet) await(what string, until func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	for !until() {
		var any sync.Once
		var listening sync.WaitGroup // nothing that happens from then on is missed
		changed := make(chan struct{})
		once, stop := context.WithCancel(ctx)
		for _, i := range f.live {
			looked := false
			listening.Add(1)
			go func() {
				_ = i.pipe.Wait(once, func() bool {
					if looked {
						return true
					}
					looked = true
					listening.Done()
					return false
				})
				any.Do(func() { close(changed) })
			}()
		}
		listening.Wait()
		if until() {
			stop()
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			stop()
			f.t.Fatalf("waiting for %s: %v; %s", what, ctx.Err(), f.status())
		}
		stop()
	}
}

func (f *fleet) status() (s string) {
	for name, i := range f.live {
		s += fmt.Sprintf("%s: %+v\n", name, i.pipe.Status())
	}
	return s
}

// read waits until everything written has been processed by somebody.
func (f *fleet) read() {
	f.t.Helper()
	f.await("the inputs to be read", func() bool {
		for topic, ends := range f.r.ends {
			for p, end := range ends {
				reached := false
				for _, i := range f.live {
					reached = reached || i.pipe.Positions()[topic][p] >= end
				}
				if !reached {
					return false
				}
			}
		}
		return true
	})
}

// finish plays the silence at the end of the log and judges what came out.
func (f *fleet) finish() {
	f.t.Helper()
	f.read()
	f.r.clock.Set(f.end)
	f.await("silence to be played", func() bool {
		played := map[int32]bool{}
		for _, i := range f.live {
			for _, s := range i.pipe.Status() {
				played[s.Shard] = played[s.Shard] || s.Horizon >= f.end
			}
		}
		for s := range f.c.Config.Partitions {
			if !played[s] {
				return false
			}
		}
		return true
	})
	dir := f.t.TempDir()
	if err := f.r.dump(f.t.Context(), dir); err != nil {
		f.t.Fatal(err)
	}
	got, err := oracle.ReadOutputs(dir, f.c.Config.App)
	if err != nil {
		f.t.Fatal(err)
	}
	report(f.t, oracle.Diff(f.c.Want, got))
}

// TestRestart stops and starts an instance between parts of the log: nothing is lost, repeated or reordered.
func TestRestart(t *testing.T) {
	f := newFleet(t, "21-random", nil)
	disk := vfs.NewCrashableMem()
	for part := range 6 {
		f.start("a", disk, "", 0)
		f.write(part, 6)
		if part%2 == 0 {
			f.read()
		}
		if part < 5 {
			disk = f.stop("a")
		}
	}
	f.finish()
}

// TestKill kills an instance at each step of an acquisition and of a cycle, and starts it again on what a power cut
// leaves of its disk.
func TestKill(t *testing.T) {
	steps := []pipeline.Step{
		pipeline.BeforeInit, pipeline.AfterInit, pipeline.BeforeOwner, pipeline.AfterOwner, pipeline.WithinRestore, pipeline.AfterRestore,
		pipeline.AfterResume, pipeline.BeforeProduce, pipeline.BeforeEnd, pipeline.AfterEnd, pipeline.WithinApply, pipeline.AfterApply,
	}
	f := newFleet(t, "21-random", nil)
	disk := vfs.NewCrashableMem()
	for part, step := range steps {
		f.write(part, len(steps))
		f.start("a", disk, step, int64(1+part%3))
		i := f.live["a"]
		f.await("the instance to be killed at "+string(step), func() bool { return i.killed.Load() || f.done() })
		disk = f.kill("a")
	}
	f.start("a", disk, "", 0)
	f.finish()
	if n := f.live["a"].counted(t, "asiduo_restored_records_total", ""); n == 0 {
		t.Error("no metric tells of what the last one has read from the changelog")
	}
}

// counted is the sum of a counter of an instance, over its series that have a label with that value; all for none.
func (i *instance) counted(t *testing.T, name, value string) (n float64) {
	t.Helper()
	families, err := i.told.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && strings.Contains(m.String(), value) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// done says whether everything written has been read, so that no further cycle will come.
func (f *fleet) done() bool {
	for topic, ends := range f.r.ends {
		for p, end := range ends {
			for _, i := range f.live {
				if i.pipe.Positions()[topic][p] < end {
					return false
				}
			}
		}
	}
	return true
}

// TestTakeOver kills one of two instances while both work; the other takes its shards without it ever coming back.
func TestTakeOver(t *testing.T) {
	f := newFleet(t, "cdnow-sample", func(st *stage) { st.cfg.Cycle.Records = 200 })
	f.write(0, 4)
	f.start("a", vfs.NewCrashableMem(), "", 0)
	f.read()
	f.start("b", vfs.NewCrashableMem(), "", 0)
	f.write(1, 4)
	f.await("the instances to share the shards", func() bool {
		return len(f.live["a"].pipe.Status()) == 2 && len(f.live["b"].pipe.Status()) == 2
	})
	f.write(2, 4)
	f.kill("a")
	f.write(3, 4)
	f.finish()
}

// TestWipedDirectory rebuilds the state of a lost disk from the changelog.
func TestWipedDirectory(t *testing.T) {
	f := newFleet(t, "cdnow-sample", func(st *stage) { st.cfg.Cycle.Records = 500 })
	for part := range 3 {
		f.start("a", vfs.NewCrashableMem(), "", 0)
		f.write(part, 3)
		f.read()
		if part < 2 {
			f.kill("a")
		}
	}
	f.finish()
}

// TestTwoOwners starts two instances with one identity: whatever they do to each other, the outputs stay right, and the
// one that sees that it is fenced for good ends with the reason.
func TestTwoOwners(t *testing.T) {
	f := newFleet(t, "21-random", nil)
	disk := vfs.NewCrashableMem()
	f.start("a", disk, "", 0)
	f.write(0, 2)
	f.read()
	copied := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
	f.start("b", copied, "", 0)
	f.write(1, 2)
	f.finish()
	for name, i := range f.live {
		select {
		case <-i.done:
			delete(f.live, name) // it has given up; its error is the reason
		default:
		}
	}
}
