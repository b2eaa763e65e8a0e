//go:build synctests

package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state"
)

// world is a broker, its network, a clock that is driven, and the processes that come and go.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	network kfake.VirtualNetwork
	cluster *kfake.Cluster
	cl      *kgo.Client // of the test: never cut
	adm     *kadm.Client
	cfg     config.Config
	clock   pipeline.Manual
	ends    map[string]map[int32]int64

	live     map[string]*process
	disks    map[string]*vfs.MemFS
	refusing []*kfake.FaultHandle
	history  []string // what was done, for a seed that fails
}

// process is one instance: its disk, its connections, and a life that a crash at a step may end.
type process struct {
	name   string
	pipe   *pipeline.Pipeline
	disk   *vfs.MemFS
	net    *cable
	killed atomic.Bool
	safe   atomic.Bool // its step no longer kills it
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

var errKilled = errors.New("killed")

// cable is the connections of one process, which can be cut.
type cable struct {
	dialer func(context.Context, string, string) (net.Conn, error)
	mu     sync.Mutex
	down   bool
	open   map[net.Conn]bool
}

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	down := c.down
	c.mu.Unlock()
	if down {
		return nil, errors.New("no network")
	}
	conn, err := c.dialer(ctx, network, address)
	if err == nil {
		c.mu.Lock()
		c.open[conn] = true
		c.mu.Unlock()
	}
	return conn, err
}

// cut closes every connection, in the middle of whatever is under way.
func (c *cable) cut(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	for conn := range c.open {
		_ = conn.Close()
	}
	clear(c.open)
}

func newWorld(t *testing.T, seed uint64, c oracle.Config) *world {
	t.Helper()
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), ends: map[string]map[int32]int64{}, live: map[string]*process{}, disks: map[string]*vfs.MemFS{},
		cfg: configOf(t, c),
	}
	var err error
	w.cluster, err = kfake.NewCluster(kfake.Ports(9091), kfake.ListenFn(w.network.Listen), kfake.GroupMinSessionTimeout(time.Second), kfake.BrokerConfigs(map[string]string{
		"group.initial.rebalance.delay.ms": "0",
	}))
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.Kafka.Brokers = w.cluster.ListenAddrs()
	w.cfg.Time.Clock, w.cfg.Cycle.Min, w.cfg.State.Dir = "manual", 0, "data"
	w.cfg.Cycle.Records, w.cfg.Cycle.Timers = 1+w.rng.IntN(8), 1+w.rng.IntN(8)
	w.cfg.Group.SessionTimeout, w.cfg.Group.Heartbeat = config.Duration(3*time.Second), config.Duration(300*time.Millisecond)
	w.cfg.Outputs.ReplicationFactor = 1
	w.cfg.State.FlushEvery = config.Duration(time.Duration(1+w.rng.IntN(10)) * time.Second)
	var shards []int32
	for s := int32(1); s <= c.Partitions; s++ {
		if c.Partitions%s == 0 {
			shards = append(shards, s)
		}
	}
	w.cfg.Shards = shards[w.rng.IntN(len(shards))]
	opts, err := pipeline.ClientOptions(w.cfg.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	if w.cl, err = kgo.NewClient(append(opts, kgo.Dialer(w.network.DialContext))...); err != nil {
		t.Fatal(err)
	}
	w.adm = kadm.NewClient(w.cl)
	for _, topic := range pipeline.InputTopics(w.cfg) {
		if _, err := w.adm.CreateTopic(t.Context(), c.Partitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		w.ends[topic] = map[int32]int64{}
	}
	if _, err := pipeline.CreateTopics(t.Context(), w.adm, w.cfg, w.cfg.Shards); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) note(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

// write puts records into the inputs.
func (w *world) write(log []oracle.Record) {
	w.t.Helper()
	for _, r := range log {
		k := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Timestamp: time.UnixMilli(r.Timestamp), Key: r.Key, Value: r.Value}
		for h, v := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h, Value: []byte(v)})
		}
		if err := w.cl.ProduceSync(w.t.Context(), k).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
		w.ends[r.Topic][r.Partition]++
	}
}

// start begins the life of a process on its disk. With a step, it is killed when it reaches that step for the n-th time.
func (w *world) start(name string, step pipeline.Step, n int64) {
	w.t.Helper()
	disk := w.disks[name]
	if disk == nil {
		disk = vfs.NewCrashableMem()
		w.disks[name] = disk
	}
	p := &process{name: name, disk: disk, done: make(chan struct{}), net: &cable{dialer: w.network.DialContext, open: map[net.Conn]bool{}}}
	var times atomic.Int64
	pipe, err := pipeline.New(w.cfg, pipeline.Deps{
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), FS: disk, Manual: &w.clock, Client: []kgo.Opt{kgo.Dialer(p.net.dial)},
		Interrupt: func(_ int32, at pipeline.Step) error {
			if at == step && times.Add(1) == n && !p.safe.Load() {
				p.killed.Store(true)
			}
			if p.killed.Load() {
				return errKilled
			}
			return nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	p.pipe = pipe
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		defer close(p.done)
		p.err = pipe.Run(ctx)
	}()
	w.live[name] = p
}

// stop ends a process as SIGTERM does.
func (w *world) stop(name string) {
	p := w.live[name]
	delete(w.live, name)
	p.cancel()
	<-p.done
}

// kill ends a process as SIGKILL or a power cut does: nothing more leaves it, and its disk keeps what was synced, and
// with SIGKILL everything else too.
func (w *world) kill(name string, power bool) {
	p := w.live[name]
	p.killed.Store(true)
	keep := 100
	if power {
		keep = 0
	}
	w.disks[name] = p.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: w.rng})
	p.net.cut(true)
	w.stop(name)
}

// await waits, in virtual time, until the living processes together satisfy a condition.
func (w *world) await(what string, until func() bool) {
	w.t.Helper()
	began, evicted := time.Now(), time.Now()
	for ; !until(); time.Sleep(20 * time.Millisecond) {
		if time.Since(evicted) > time.Minute {
			w.evict()
			evicted = time.Now()
		}
		if time.Since(began) > 10*time.Minute {
			var status strings.Builder
			for name, p := range w.live {
				fmt.Fprintf(&status, "%s: %+v %v\n", name, p.pipe.Status(), p.err)
			}
			w.t.Fatalf("waiting for %s\n%s", what, status.String())
		}
	}
}

// evict removes members of the group that no longer live. The embedded broker never expires a member whose connection
// ended while it waited in SyncGroup; a real one does.
func (w *world) evict() {
	w.t.Helper()
	alive := map[string]bool{}
	for _, p := range w.live {
		f, err := p.disk.Open("data/identity.json")
		if err != nil {
			continue
		}
		var is struct{ Instance string }
		err = json.NewDecoder(f).Decode(&is)
		if err := errors.Join(err, f.Close()); err != nil {
			w.t.Fatal(err)
		}
		alive[is.Instance] = true
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

// finish lets somebody read everything and play silence to the end, and returns what came out.
func (w *world) finish(end state.Instant) []oracle.Output {
	w.t.Helper()
	w.await("the inputs to be read", func() bool {
		for topic, ends := range w.ends {
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
	w.clock.Set(end)
	w.await("silence to be played", func() bool {
		played := map[int32]bool{}
		for _, p := range w.live {
			for _, s := range p.pipe.Status() {
				played[s.Shard] = played[s.Shard] || s.Horizon >= end
			}
		}
		for s := range w.cfg.Shards {
			if !played[s] {
				return false
			}
		}
		return true
	})
	var out []oracle.Output
	for _, t := range pipeline.OwnTopics(w.cfg)[1:] {
		out = append(out, w.outputs(t.Name)...)
	}
	return out
}

// close ends everything, so that the bubble can end.
func (w *world) close() {
	for name := range w.live {
		w.stop(name)
	}
	w.cl.Close()
	w.cluster.Close()
}
