package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// endsStuck waits until a process has ended because its disk does not answer, with the reason.
func endsStuck(t *testing.T, p *Pipeline, disk *sick) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ends := make(chan error, 1)
	go func() { ends <- p.Run(ctx) }()
	select {
	case err := <-ends:
		if err == nil || !strings.HasSuffix(err.Error(), ": is the disk full or broken?") {
			t.Errorf("run: %v", err)
		}
	case <-time.After(patience):
		t.Errorf("the process goes on: ready %v, %+v", p.Ready(), p.Status())
	}
	close(disk.heal)
}

// TestDiskStuckAtClose has a shard that ends for another reason, and a disk that no longer answers when its store is
// closed: nobody would ever serve the shard again.
func TestDiskStuckAtClose(t *testing.T) {
	s := newShop(t)
	disk := newSick()
	s.disk = disk
	s.buy("o1")
	endsStuck(t, s.process(func(p *Pipeline) {
		p.stuck = 300 * time.Millisecond
		p.deps.Interrupt = func(shard int32, step Step) error {
			if shard == 0 && step == AfterApply && disk.stuck.CompareAndSwap(false, true) {
				return errDiverged
			}
			return nil
		}
	}), disk)
}

// TestDiskStuckAtStop has a process that is asked to end while its disk does not answer: what it leaves has not been
// closed, and whoever stopped it hears that.
func TestDiskStuckAtStop(t *testing.T) {
	s := newShop(t)
	disk := newSick()
	s.disk = disk
	p := s.process(func(p *Pipeline) { p.stuck = 300 * time.Millisecond })
	ctx, stop := context.WithCancel(t.Context())
	ends := make(chan error, 1)
	go func() { ends <- p.Run(ctx) }()
	s.buy("o1")
	s.read(0, 1)
	disk.stuck.Store(true)
	stop()
	if err := <-ends; err == nil || !strings.HasSuffix(err.Error(), ": is the disk full or broken?") {
		t.Errorf("run: %v", err)
	}
	close(disk.heal)
}

// TestDiskStuckInQuiet has a disk that no longer answers while little happens: no write ever waits for it but the regular one
// of what is in memory.
func TestDiskStuckInQuiet(t *testing.T) {
	s := newShop(t)
	disk := newSick()
	s.disk, s.cfg.State.FlushEvery = disk, 1e8
	s.cfg.State.Memtable = 64 << 10
	s.buy("o1")
	endsStuck(t, s.process(func(p *Pipeline) {
		p.stuck = 300 * time.Millisecond
		p.deps.Interrupt = func(shard int32, step Step) error {
			disk.stuck.Store(disk.stuck.Load() || step == AfterApply)
			return nil
		}
	}), disk)
}

// TestReaderDoesNotRead has somebody who took a view and does not go on, as one whose connection is stuck, when a shard has to
// be closed: it is served again all the same.
func TestReaderDoesNotRead(t *testing.T) {
	s := newShop(t)
	var fails atomic.Bool
	s.start(func(p *Pipeline) {
		p.stuck = time.Second
		p.deps.Interrupt = func(shard int32, step Step) error {
			if shard == 0 && step == BeforeEnd && fails.CompareAndSwap(true, false) {
				return errors.New("any fault")
			}
			return nil
		}
	})
	s.buy("o1")
	s.read(0, 1)
	v, err := s.pipe.View(0)
	if err != nil {
		t.Fatal(err)
	}
	fails.Store(true)
	s.buy("o2")
	s.read(0, 1)
	if _, err := v.Customer(s.who[0], new(state.Customer)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("the view of the closed store: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if n := s.orders(0); n != 2 {
		t.Errorf("%d orders", n)
	}
	if len(s.log.lines("shard closed, acquiring it again")) == 0 {
		t.Error("the log does not say so")
	}
}

// TestDiskStuckInRestore has a disk that no longer answers while the changelog is read back.
func TestDiskStuckInRestore(t *testing.T) {
	s := newShop(t)
	s.cfg.State.Memtable = 64 << 10
	s.crowd(20_000)
	s.start()
	s.read(0, 1)
	s.stop()
	disk := newSick()
	s.disk = disk
	endsStuck(t, s.process(func(p *Pipeline) {
		p.stuck, p.share = 300*time.Millisecond, 1<<10
		p.deps.Interrupt = func(_ int32, step Step) error {
			if step == WithinRestore {
				disk.stuck.Store(true)
			}
			return nil
		}
	}), disk)
}

// TestRestoreInterrupted ends a restore after it has written records for which no checkpoint had come yet. They are no
// state that ever was, so the store is built anew. It would have been taken for an empty one, and after a reset the
// customers in it for some that were told before.
func TestRestoreInterrupted(t *testing.T) {
	for _, marked := range []bool{false, true} { // or with a checkpoint that it had come to
		t.Run(fmt.Sprint(marked), func(t *testing.T) { restoreInterrupted(t, marked) })
	}
}

func restoreInterrupted(t *testing.T, marked bool) {
	s := newShop(t)
	s.cfg.Cycle.Records, s.cfg.Cycle.Bytes = 50_000, 16<<20 // few checkpoints
	s.cfg.State.Memtable = 64 << 10                         // what is written is there after a crash
	s.crowd(20_000)
	s.start()
	s.read(0, 1)
	s.stop()
	told := len(s.out("segment-changes"))
	if told == 0 {
		t.Fatal("nothing was told")
	}
	s.put("shop.changelog", 0, "zzz", "what nobody knows")
	s.disk = vfs.NewMem()
	small := func(p *Pipeline) { p.share = 1 << 10 }
	s.start(small)
	s.await("the shard to stop", func() bool {
		return slices.ContainsFunc(s.pipe.Status(), func(st ShardStatus) bool {
			return st.Shard == 0 && st.State == "stopped" && strings.Contains(st.Reason, "unknown key")
		})
	})
	s.stop()
	opt := s.pipe.storeOptions(0)
	opt.Cache = pebble.NewCache(8 << 20)
	defer opt.Cache.Unref()
	left, err := store.Open("data/shard-0", opt)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := left.Bare()
	if marked {
		b := left.NewBatch()
		err = errors.Join(err, b.SetMark(&store.Mark{Checkpoint: store.Checkpoint{Owner: "somebody", Made: s.pipe.made(1)}, Position: store.Position{TopicID: "its"}}), b.Commit())
	}
	if err := errors.Join(err, left.Close(marked)); err != nil || bare {
		t.Fatalf("nothing was written before the restore ended: %v", err)
	}
	const better = "data/shard-0.set-aside/better"
	if err := s.disk.MkdirAll(better, 0o700); err != nil {
		t.Fatal(err)
	}

	r, err := PlanReset(t.Context(), s.adm, Connector(s.cfg.Kafka), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.start(small)
	s.read(0, 1)
	if s.counter("asiduo_store_rebuilds_total", "diverged") == 0 {
		t.Error("what was left was not built anew")
	}
	s.stop()
	if again := len(s.out("segment-changes")) - told; again != told {
		t.Errorf("%d changes were told before the reset, %d after it", told, again)
	}
	if _, err := s.disk.Stat(better); err != nil {
		t.Errorf("what was left has taken the place of what was set aside: %v", err)
	}
}

// TestRestoreInPieces ends the restore at every seventh of the first writes: no way of being interrupted may be seen in
// the state.
func TestRestoreInPieces(t *testing.T) {
	s := newShop(t)
	s.cfg.Cycle.Records = 200
	s.cfg.State.Memtable = 64 << 10 // a piece may be there after the store was closed
	s.crowd(2_000)
	s.start()
	s.read(0, 1)
	want := s.orders(0) + s.orders(1)
	s.stop()
	s.disk = vfs.NewMem()
	var writes atomic.Int64
	s.start(func(p *Pipeline) {
		p.share, p.backoff = 1<<10, time.Millisecond
		p.deps.Interrupt = func(_ int32, step Step) error {
			if step != WithinRestore {
				return nil
			}
			if n := writes.Add(1); n%7 == 0 && n < 200 {
				return errors.New("interrupted")
			}
			return nil
		}
	})
	s.await("both shards to serve", func() bool {
		st := s.pipe.Status()
		return len(st) == 2 && st[0].State == "running" && st[1].State == "running"
	})
	if got := s.orders(0) + s.orders(1); got != want || writes.Load() < 7 {
		t.Errorf("%d orders after %d writes, want %d", got, writes.Load(), want)
	}
	if s.counter("asiduo_store_rebuilds_total", "diverged") == 0 {
		t.Error("no part of a store was built anew")
	}
}

// takenBack writes a checkpoint of the first shard that is aborted, and puts its place into the store, as of a cycle that Kafka had
// acknowledged, left without a marker, and taken back with the next one (follows). records are what that cycle has left there.
func (s *shop) takenBack(next int64, records map[string][]byte) {
	t := s.t
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.cluster.ListenAddrs()...), kgo.TransactionalID("taken-back"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{Topic: "shop.changelog", Key: []byte(checkpointKey)}
	if err := errors.Join(cl.ProduceSync(t.Context(), r).FirstErr(), cl.EndTransaction(t.Context(), kgo.TryAbort)); err != nil {
		t.Fatal(err)
	}
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	db, err := store.Open(s.pipe.dir.Shard(0), store.Options{FS: s.disk, Cache: cache, Memtable: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := db.Mark()
	m.Cycle++
	m.Offset, m.Inputs["purchases"].Next[0] = r.Offset, next
	b := db.NewBatch()
	for key, value := range records {
		err = errors.Join(err, b.Put([]byte(key), value))
	}
	if err := errors.Join(err, b.SetMark(&m), b.Commit(), db.Close(true)); err != nil {
		t.Fatal(err)
	}
}

// TestTakenBack: nothing of the changelog was cut, and no later checkpoint is in it. The store is not believed.
func TestTakenBack(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	s.stop()
	s.takenBack(2, nil)
	s.buy("o2")
	s.start()
	s.read(0, 1)
	if n := s.orders(0); n != 2 {
		t.Errorf("%d orders", n)
	}
	if n := len(s.log.lines("store is set aside and will be rebuilt")); n != 1 {
		t.Errorf("%d stores were set aside", n)
	}
}

// TestTakenBackElsewhere has another process get on before the shard comes back to the store: there is a later checkpoint now, and none of
// it says that the store's cycle was true. What it had in it would make the orders of that cycle old news, and nobody would be told of them.
func TestTakenBackElsewhere(t *testing.T) {
	twin := newShop(t) // in which the cycle is true
	twin.start()
	twin.buy("o1")
	twin.read(0, 1)
	twin.buy("o2")
	twin.read(0, 1)
	twin.stop()
	phantom := map[string][]byte{}
	for _, r := range twin.out("changelog") {
		if r.Partition == 0 && store.IsCustomerKey(r.Key) {
			phantom[string(r.Key)] = r.Value
		}
	}

	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	s.stop()
	s.takenBack(2, phantom)
	disk := s.disk
	s.disk = vfs.NewMem()
	s.start()
	s.put("purchases", 0, s.who[0], "{}") // a dead letter: the other process gets on, and not as far
	s.read(0)
	s.stop()
	s.disk = disk
	s.buy("o2")
	s.start()
	s.read(0, 1)
	s.stop()
	told := func(s *shop) (n int) {
		for _, e := range s.out(events.SegmentChanges) {
			if string(e.Key) == s.who[0] {
				n++
			}
		}
		return n
	}
	if got, want := told(s), told(twin); got != want || want < 2 {
		t.Errorf("%d changes of segment were told, want %d", got, want)
	}
	if n := len(s.log.lines("store is set aside and will be rebuilt")); n != 1 {
		t.Errorf("%d stores were set aside", n)
	}
}

// TestRestoreManyAborted has a changelog with more of aborted transactions than one response may unpack to: of a part of it the client has
// nothing to give.
func TestRestoreManyAborted(t *testing.T) {
	s := newShop(t)
	s.buy("o1")
	s.start()
	s.read(0, 1)
	s.stop()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.cluster.ListenAddrs()...), kgo.TransactionalID("aborted"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.BrokerMaxWriteBytes(1<<29), kgo.ProducerBatchMaxBytes(1<<28), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for range 3 * unpackedBatches {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "shop.changelog", Value: make([]byte, 9000<<10)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	s.disk = vfs.NewMem()
	s.buy("o2")
	s.start()
	s.read(0, 1)
	s.unharmed(map[string]int{s.who[0]: 2, s.who[1]: 2})
}
