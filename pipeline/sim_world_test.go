//go:build synctests

package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state"
)

// world is a broker, its network, a clock, and the processes that come and go. One goroutine drives it; what it draws
// depends on the seed alone.
type world struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	c       oracle.Config
	cfg     config.Config
	network kfake.VirtualNetwork
	cluster *kfake.Cluster
	cl      *kgo.Client // of the test: never cut
	loader  *kgo.Client // its transactional producer
	adm     *kadm.Client
	tail    *tail
	place   pipeline.Partitioner

	clock      pipeline.Manual
	now        state.Instant // of the manual clock
	partitions map[string]int32
	remade     string         // an input that is another one now, at the end
	log        []written      // in the order in which it must be read
	ghosts     int            // orders in aborted transactions
	open       bool           // a transaction of the loader is open
	versions   state.Versions // the newest
	rules      []oracle.Rules // by version, from 1 on
	models     []oracle.Churn
	announced  map[string]bool // by what is published
	among      variant
	later      later
	share      int     // bytes of the changelog written at once in a restore
	moving     bool    // not everybody may have adopted it
	meanwhile  []fault // what may go wrong until then
	down       time.Duration
	crashes    uint64
	perished   atomic.Bool // a process has ended with an error, maybe before its shards were closed

	live     map[string]*process
	disks    map[string]*disk
	copies   map[string]*disk // old ones
	kept     []kept
	refusing []refusal
	cuts     cutting

	began  time.Time
	mu     sync.Mutex
	events []string       // what was done
	seen   map[string]int // what has happened at least once

	history *os.File // what was done, and what the processes logged
}

// written is a record of an input and the instant, by the clock that counts, at which it was surely there.
type written struct {
	oracle.Record
	known int64
}

// process is one instance: its disk, its connections, and a life that a crash at a step may end.
type process struct {
	w      *world
	name   string
	pipe   *pipeline.Pipeline
	disk   *disk
	left   *disk // what a power cut at a step, or an end with an error, has left of it
	net    *cable
	killed atomic.Bool
	stalls atomic.Bool // a step has taken as long as a write may
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	mu    sync.Mutex
	traps []*trap
	panic int // the next records at which our own code panics

	panicked map[string]int // how often, by record
}

func (p *process) status() []pipeline.ShardStatus { return p.pipe.Status() }

func newWorld(t *testing.T, seed uint64, c oracle.Config) *world {
	t.Helper()
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), c: c, cfg: configOf(t, c), partitions: map[string]int32{},
		live: map[string]*process{}, disks: map[string]*disk{}, copies: map[string]*disk{}, seen: map[string]int{}, began: time.Now(),
		versions: state.Versions{Rules: 1, Model: 1}, rules: []oracle.Rules{c.Rules}, models: []oracle.Churn{c.Churn}, announced: map[string]bool{},
	}
	w.record()
	w.newCutting()
	w.vary()
	w.newLater()
	w.meanwhile = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return f.name == "new parameters" })
	w.cfg.Cycle.Records, w.cfg.Cycle.Timers = 1+w.rng.IntN(8), 1+w.rng.IntN(8)
	w.share = []int{1 << 20, 1 << 20, 200, 20}[w.rng.IntN(4)]
	w.cfg.Cycle.Sweep = []int{1, 1, 1, 3}[w.rng.IntN(4)] // most customers are moved one by one
	w.cfg.Group.SessionTimeout, w.cfg.Group.Heartbeat = config.Duration(3*time.Second), config.Duration(300*time.Millisecond)
	w.cfg.Outputs.ReplicationFactor = 1
	w.cfg.State.FlushEvery = config.Duration([]time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second}[w.rng.IntN(3)])
	var shards []int32
	for s := int32(1); s <= c.Partitions; s++ {
		if c.Partitions%s == 0 {
			shards = append(shards, s)
		}
	}
	w.cfg.Shards = shards[w.rng.IntN(len(shards))]
	if w.cfg.Time.Clock == "broker" { // before the first record
		time.Sleep(time.Until(time.UnixMilli(1_705_276_800_000 - 40*24*3600*1000)))
		w.began = time.Now()
	}
	// The embedded broker compacts when it is told to, or its marks of time would be seen; and it applies the retention of
	// deleted topics to compacted ones.
	brokers := []kfake.Opt{kfake.Ports(9091, 9092, 9093), kfake.ListenFn(w.network.Listen), kfake.GroupMinSessionTimeout(time.Second), kfake.BrokerConfigs(map[string]string{
		"group.initial.rebalance.delay.ms": "0", "log.cleaner.backoff.ms": "3153600000000", "log.retention.ms": "-1",
		"offsets.retention.check.interval.ms": "2147483647", "transactional.id.expiration.ms": "2147483647",
	})}
	if w.later.old {
		brokers = append(brokers, kfake.MaxVersions(kversion.V3_7_0()))
	}
	var err error
	if w.cluster, err = kfake.NewCluster(brokers...); err != nil {
		t.Fatal(err)
	}
	w.cfg.Kafka.Brokers = w.cluster.ListenAddrs()
	if w.place, err = pipeline.NewPartitioner(w.cfg.Inputs.Partitioner); err != nil {
		t.Fatal(err)
	}
	w.tail = &tail{w: w, all: map[place][]*kgo.Record{}, committed: map[place][]*kgo.Record{}}
	w.connect()
	for _, topic := range pipeline.InputTopics(w.cfg) {
		if _, err := w.adm.CreateTopic(t.Context(), c.Partitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		w.partitions[topic] = c.Partitions
	}
	if _, err := pipeline.Init(t.Context(), w.adm, w.cfg, w.cfg.Shards, c.Epoch, kgo.Dialer(w.network.DialContext)); err != nil {
		t.Fatal(err)
	}
	if w.rng.IntN(2) == 0 { // deletions are kept for ever, so that stores never grow too old
		never := "3153600000000"
		if _, err := w.adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "delete.retention.ms", Value: &never}}, w.cfg.App+".changelog"); err != nil {
			t.Fatal(err)
		}
	}
	w.bypass()
	w.tail.follow()
	return w
}

// client makes a client of the test's.
func (w *world) client(more ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	cl, err := pipeline.Connector(w.cfg.Kafka, kgo.Dialer(w.network.DialContext))(more...)
	if err != nil {
		w.t.Fatal(err)
	}
	return cl
}

const loaderTimeout = 10 * time.Minute

func (w *world) connect() {
	w.cl = w.client()
	w.loader = w.client(kgo.TransactionalID("loader"), kgo.TransactionTimeout(loaderTimeout))
	w.adm = kadm.NewClient(w.cl)
}

func (w *world) disconnect() {
	w.cl.Close()
	w.loader.Close()
}

// reconnect forgets what the clients know of the topics.
func (w *world) reconnect() {
	w.disconnect()
	w.connect()
}

// intruder is the identity of a process that the group is bypassed for: it owns what others own too.
const intruder = "INTRUDER"

// bypass puts the intruder into a group of its own, which has the same coordinator.
func (w *world) bypass() {
	other := ""
	for i := 0; ; i++ {
		other = fmt.Sprintf("bypass-%d", i)
		if w.cluster.CoordinatorFor(other) == w.cluster.CoordinatorFor(w.cfg.App) {
			break
		}
	}
	is := func(instance *string) bool { return instance != nil && *instance == intruder }
	w.cluster.Control(func(r kmsg.Request) (kmsg.Response, error, bool) {
		switch r := r.(type) {
		case *kmsg.JoinGroupRequest:
			if is(r.InstanceID) {
				r.Group = other
			}
		case *kmsg.SyncGroupRequest:
			if is(r.InstanceID) {
				r.Group = other
			}
		case *kmsg.HeartbeatRequest:
			if is(r.InstanceID) {
				r.Group = other
			}
		case *kmsg.OffsetCommitRequest:
			if is(r.InstanceID) {
				r.Group = other
			}
		}
		return nil, nil, false
	})
}

// hit counts something that must happen in some seed.
func (w *world) hit(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[what]++
}

// produce puts records into the inputs as they are and returns where they are.
func (w *world) produce(cl *kgo.Client, log []oracle.Record) []oracle.Record {
	w.t.Helper()
	log = slices.Clone(log)
	for i := range log {
		r := &log[i]
		r.Partition = w.placed(r)
		k := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Timestamp: time.UnixMilli(r.Timestamp), Key: r.Key, Value: r.Value}
		for h, v := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h, Value: []byte(v)})
		}
		if err := cl.ProduceSync(w.t.Context(), k).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
		r.Offset = k.Offset
	}
	return log
}

// write puts a part of the log into the inputs: as it is, or in a transaction, which may stay open for a while.
func (w *world) write(log []oracle.Record) {
	w.t.Helper()
	how := w.rng.IntN(8)
	if how < 3 {
		w.endOpen()
	}
	cl := w.cl
	switch {
	case how == 0:
		w.note("an aborted transaction in the inputs")
		w.begin()
		w.produce(w.loader, w.ghost(log))
		w.end(kgo.TryAbort)
		w.hit("input: aborted transaction")
	case how < 3:
		w.note("a transaction in the inputs, open %t", how == 2)
		w.begin()
		cl, w.open = w.loader, true
	}
	for _, r := range log {
		is := w.produce(cl, []oracle.Record{r})[0] // where one is to go depends on where those before are
		w.log = append(w.log, written{is, w.instant()})
	}
	if how == 1 {
		w.endOpen()
		w.hit("input: transaction")
	}
}

// ghost are orders that nobody may ever see.
func (w *world) ghost(log []oracle.Record) (ghosts []oracle.Record) {
	for _, r := range log {
		w.ghosts++
		r.Topic, r.Headers = w.cfg.Inputs.Purchases, nil
		if r.Key != nil {
			r.Value = fmt.Appendf(nil, `{"order_id":"ghost-%d","customer_id":%q,"ordered_at":%q,"amount":"77.00","currency":%q}`,
				w.ghosts, r.Key, time.UnixMilli(r.Timestamp).UTC().Format(time.RFC3339), w.c.Currency)
		}
		ghosts = append(ghosts, r)
	}
	return ghosts
}

func (w *world) begin() {
	w.t.Helper()
	if err := w.loader.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) end(how kgo.TransactionEndTry) {
	w.t.Helper()
	if err := w.loader.EndTransaction(w.t.Context(), how); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) endOpen() {
	w.t.Helper()
	if w.open {
		w.open = false
		w.end(kgo.TryCommit)
	}
}

// instant is what the clock that counts says now.
func (w *world) instant() int64 {
	if w.cfg.Time.Clock == "manual" {
		return int64(w.now)
	}
	return time.Now().UnixMilli()
}

// set moves the manual clock. Customers who are being moved to other parameters are moved before, unless all comes at once.
func (w *world) set(now state.Instant) {
	if !w.among.amid {
		w.settleAdoption()
	}
	w.now = max(w.now, now)
	w.clock.Set(w.now)
}

// crashRNG is for what a crash leaves of a disk: it draws as often as there are files, which the seed does not fix.
func (w *world) crashRNG() *rand.Rand {
	w.crashes++
	return rand.New(rand.NewPCG(w.seed, w.crashes))
}

// start begins the life of a process on its disk.
func (w *world) start(name string, traps ...*trap) {
	w.t.Helper()
	d := w.disks[name]
	if d == nil {
		d = newDisk(vfs.NewCrashableMem(), w.hit)
		w.disks[name] = d
	}
	d.set(func(d *disk) { d.short = false })
	p := &process{w: w, name: name, disk: d, done: make(chan struct{}), traps: traps, panicked: map[string]int{}}
	p.net = newCable(w.network.DialContext, func(key kmsg.Key) { w.hit("lost answer: " + key.Name()) })
	pipe, err := pipeline.New(w.file(), pipeline.Deps{
		Log: slog.New(&logger{w: w, name: name}), Registry: prometheus.NewRegistry(), FS: d, Manual: &w.clock,
		Client:    []kgo.Opt{kgo.Dialer(p.net.dial), kgo.WithHooks(sendings{w.hit})},
		Interrupt: func(_ int32, at pipeline.Step) error { return p.at(at) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	pipe.Touch(p.touch)
	pipe.Share(w.share)
	p.pipe = pipe
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		defer close(p.done)
		p.err = pipe.Run(ctx)
		w.perished.Store(p.err != nil || w.perished.Load())
		if p.err != nil && !p.killed.Load() {
			w.note("%s ends: %v", name, p.err)
			w.checkExit(p)
			p.perish()
			if strings.Contains(p.err.Error(), "is the disk full or broken?") {
				w.hit("store: stalls for too long")
			}
		}
	}()
	w.live[name] = p
}

// checkExit holds that a process ends by itself only for what no other attempt heals: a disk that does not answer, or a copy of its
// directory that runs too. Everything else is the shards' to get over. One that has not begun may find nobody for longer than it waits.
func (w *world) checkExit(p *process) {
	w.t.Helper()
	text := p.err.Error()
	refused, _ := errors.AsType[*kerr.Error](p.err)
	switch {
	case p.pipe.Shards() == 0 && (errors.Is(p.err, errNoNetwork) || strings.HasPrefix(text, "no broker reachable") || refused != nil && refused.Retriable):
	case strings.HasSuffix(text, "is the disk full or broken?") && (p.stalls.Load() || p.disk.wasFull()):
	case strings.HasPrefix(text, "another process uses the identity of data directory"):
	default:
		w.t.Errorf("[exit] %s ends: %v", p.name, p.err)
	}
}

// perish ends what is left of a process that has ended with an error: a shard whose store does not come back, and the lock
// that it holds, would go with it.
func (p *process) perish() {
	p.killed.Store(true)
	p.net.cut(true)
	left := p.disk.clone(100, rand.New(rand.NewPCG(0, 0))) // of 100 % no draw decides
	p.mu.Lock()
	p.left = left
	p.mu.Unlock()
}

// remains is what a power cut at a step, or the end of the process, has left of its disk; nil: everything.
func (p *process) remains() *disk {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left
}

// touch panics at a record, twice at most: at the third time it would be a dead letter.
func (p *process) touch(r *kgo.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset)
	if p.panic > 0 && p.panicked[at] < 2 {
		p.panic--
		p.panicked[at]++
		p.w.hit("panic at a record")
		panic("a fault of our own code")
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return p.killed.Load()
	}
}

// stop ends a process as SIGTERM does.
func (w *world) stop(name string) {
	p := w.live[name]
	delete(w.live, name)
	p.net.resume() // what stands still cannot end
	p.cancel()
	<-p.done
	if left := p.remains(); left != nil {
		w.disks[name], p.disk = left, left
	}
	w.keep(p)
}

// kill ends a process as SIGKILL or a power cut do: nothing more leaves it, and its disk keeps what was synced, and with
// SIGKILL everything else too.
func (w *world) kill(name string, power bool) {
	p := w.live[name]
	p.killed.Store(true)
	kept := 100
	if power {
		kept = 0
	}
	p.net.cut(true)
	w.disks[name] = p.disk.clone(kept, w.crashRNG())
	p.net.resume()
	delete(w.live, name)
	p.cancel()
	<-p.done
	if left := p.remains(); left != nil {
		w.disks[name] = left
	}
	p.disk = w.disks[name]
	w.keep(p)
}

// await waits, in virtual time, until the living processes together satisfy a condition.
func (w *world) await(what string, until func() bool) {
	w.t.Helper()
	began, evicted := time.Now(), time.Now()
	for ; !until(); time.Sleep(20 * time.Millisecond) {
		if time.Since(evicted) > time.Minute {
			for name, p := range w.live {
				if p.ended() { // for a reason that heal has ended
					w.kill(name, false)
					w.start(name)
				}
			}
			w.evict()
			evicted = time.Now()
		}
		if time.Since(began) > 5*time.Minute {
			var status strings.Builder
			for name, p := range w.live {
				fmt.Fprintf(&status, "%s: %+v %v\n", name, p.pipe.Status(), p.err)
			}
			w.t.Fatalf("[progress] waiting for %s\n%s", what, status.String())
		}
	}
}

// instanceOf is the identity of a disk in the group.
func (w *world) instanceOf(d *disk) string {
	f, err := d.mem.Open("data/identity.json")
	if err != nil {
		return ""
	}
	var is struct{ Instance string }
	err = json.NewDecoder(f).Decode(&is)
	if err := errors.Join(err, f.Close()); err != nil {
		w.t.Fatal(err)
	}
	return is.Instance
}

// evict removes members of the group that no longer live. The embedded broker never expires a member whose connection
// ended while it waited in SyncGroup; a real one does.
func (w *world) evict() {
	w.t.Helper()
	alive := map[string]bool{}
	for _, p := range w.live {
		alive[w.instanceOf(p.disk)] = true
	}
	groups, err := w.adm.DescribeGroups(w.t.Context(), w.cfg.App)
	if err != nil {
		return
	}
	for _, m := range groups[w.cfg.App].Members {
		if m.InstanceID != nil && !alive[*m.InstanceID] {
			w.note("evict a ghost")
			_, _ = w.adm.LeaveGroup(w.t.Context(), kadm.LeaveGroup(w.cfg.App).InstanceIDs(*m.InstanceID))
		}
	}
}

// heal ends all faults: whoever is dead lives again, and nobody is there twice.
func (w *world) heal() {
	w.note("heal")
	for _, r := range w.refusing {
		if r.fault.Hits() > 0 {
			w.hit("refused: " + r.key.Name())
		}
		r.fault.Remove()
	}
	w.refusing = nil
	w.endOpen()
	for _, name := range slices.Sorted(maps.Keys(w.live)) {
		p := w.live[name]
		p.net.heal()
		p.disk.heal()
		p.mu.Lock()
		p.traps, p.panic = nil, 0
		p.mu.Unlock()
		switch {
		case name == "intruder" || name == "twin":
			w.kill(name, false)
			delete(w.disks, name)
		case p.ended():
			w.kill(name, false)
			w.disks[name].heal()
			w.start(name)
		}
	}
	if len(w.live) == 0 {
		w.start("a")
	}
}

// downtime stops everything, and nothing runs until an instant.
func (w *world) downtime(until time.Time) {
	names := slices.Sorted(maps.Keys(w.live))
	for i, name := range names {
		if i%2 == 0 {
			w.kill(name, false)
		} else {
			w.stop(name)
		}
	}
	w.endOpen()
	w.tail.stop()
	w.disconnect()
	w.down += time.Until(until)
	for left := time.Until(until); left > 0; left = time.Until(until) {
		// The embedded broker spins at the instant at which it should forget a transactional id.
		time.Sleep(min(left, 20*24*time.Hour))
		for _, id := range append(w.ids(), "loader") {
			w.fence(id)
		}
	}
	w.connect()
	w.tail.follow()
	for _, name := range names {
		w.start(name)
	}
}

// fence takes a transactional id, which ends what is open of it.
func (w *world) fence(id string) {
	cl := w.client(kgo.TransactionalID(id), kgo.TransactionTimeout(w.timeoutOf(id)))
	defer cl.Close()
	_, _, _ = cl.ProducerID(w.t.Context())
}

// timeoutOf is the time-out of a transactional id: the embedded broker keeps the first it is told.
func (w *world) timeoutOf(id string) time.Duration {
	if id == "loader" {
		return loaderTimeout
	}
	return w.cfg.Cycle.TransactionTimeout.Std()
}

// ids are the transactional ids of the shards.
func (w *world) ids() (all []string) {
	for s := range w.cfg.Shards {
		all = append(all, fmt.Sprintf("%s-%d", w.cfg.App, s))
	}
	return all
}

// close ends everything, so that the bubble can end.
func (w *world) close() {
	for _, name := range slices.Sorted(maps.Keys(w.live)) {
		p := w.live[name]
		p.net.heal()
		p.disk.heal()
		p.cancel()
		<-p.done
	}
	if w.perished.Load() {
		time.Sleep(time.Minute) // their stores come back in the end, and a bubble waits for nobody
	}
	w.tail.stop()
	w.disconnect()
	w.cluster.Close()
	_ = w.history.Close()
}
