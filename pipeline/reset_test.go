package pipeline

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/events"
)

// ice lets connections stand still, as those of a process that is stopped.
type ice struct {
	mu   sync.Mutex
	thaw chan struct{} // nil while nothing is frozen
}

func (i *ice) freeze() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.thaw = make(chan struct{})
}

func (i *ice) melt() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.thaw != nil {
		close(i.thaw)
		i.thaw = nil
	}
}

func (i *ice) wait() {
	i.mu.Lock()
	thaw := i.thaw
	i.mu.Unlock()
	if thaw != nil {
		<-thaw
	}
}

func (i *ice) dial(ctx context.Context, network, address string) (net.Conn, error) {
	i.wait()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &iceConn{conn, i}, err
}

type iceConn struct {
	net.Conn
	i *ice
}

func (c *iceConn) Write(b []byte) (int, error) {
	c.i.wait()
	return c.Conn.Write(b)
}

func (c *iceConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.i.wait()
	return n, err
}

// frozen is a process that stands still with shard 0 at a step, and is no member of the group any more.
type frozen struct {
	pipe *Pipeline
	stop func()
	wake func()

	ended atomic.Bool // a transaction of the life in which it was frozen, after it woke up
}

// freeze runs a process until shard 0 has come to a step of a cycle or an acquisition.
func (s *shop) freeze(at Step) *frozen {
	s.t.Helper()
	var hold, awake, again atomic.Bool
	var net ice
	z := &frozen{}
	held, let := make(chan struct{}), make(chan struct{})
	s.start(func(p *Pipeline) {
		p.again, p.backoff = 20*time.Millisecond, time.Millisecond
		p.deps.Client = append(p.deps.Client, kgo.Dialer(net.dial))
		p.deps.Interrupt = func(shard int32, step Step) error {
			if shard == 0 && step == at && hold.CompareAndSwap(true, false) {
				net.freeze()
				close(held)
				<-let
				awake.Store(true)
				return nil
			}
			if shard == 0 && awake.Load() {
				again.CompareAndSwap(false, step == BeforeInit) // the next life
				z.ended.CompareAndSwap(false, !again.Load() && (step == AfterOwner || step == AfterEnd))
			}
			return nil
		}
	})
	z.pipe, z.stop, z.wake = s.pipe, s.stop, sync.OnceFunc(func() { net.melt(); close(let) })
	s.t.Cleanup(z.wake)
	s.buy("o1")
	s.read(0, 1)
	hold.Store(true)
	if slices.Contains([]Step{BeforeInit, AfterInit, BeforeOwner, AfterOwner, AfterRestore}, at) {
		other, err := Connector(s.cfg.Kafka)(kgo.TransactionalID(transactionalID(s.cfg.App, 0)), kgo.TransactionTimeout(s.cfg.Cycle.TransactionTimeout.Std()))
		if err != nil {
			s.t.Fatal(err)
		}
		defer other.Close()
		if _, _, err := other.ProducerID(s.t.Context()); err != nil { // so that it is acquired again
			s.t.Fatal(err)
		}
	}
	s.buy("o2")
	<-held
	eventually(s.t, "the session is over", func() bool {
		all, err := Members(s.t.Context(), s.adm, s.cfg.App)
		return err == nil && len(all) == 0
	})
	return z
}

// told are the ids of all that is committed to the outputs, by topic.
func (s *shop) told() map[string][]string {
	s.t.Helper()
	all := map[string][]string{}
	for _, output := range []string{events.SegmentChanges, events.ChurnRisk, events.DeadLetters, events.Profiles} {
		for _, r := range s.out(output) {
			all[output] = append(all[output], fmt.Sprint(r.Partition, "@", r.Offset, " ", headersOf(r)["ce_id"]))
		}
		slices.Sort(all[output])
	}
	return all
}

// TestResetAndFrozenOwner: an owner that stood still while the application was reset, and could not be seen, wakes during the
// reset or after it, wherever it was in a cycle or an acquisition. Nothing of it is visible under the new epoch.
func TestResetAndFrozenOwner(t *testing.T) {
	const after = "" // its successor has read everything
	for _, c := range []struct {
		at   Step
		wake string
	}{
		{BeforeInit, after}, {AfterInit, after}, {BeforeOwner, after}, {AfterOwner, after}, {AfterRestore, after},
		{BeforeProduce, after}, {BeforeEnd, after}, {AfterEnd, after}, {AfterApply, after},
		{BeforeEnd, "seize shard 0"}, {BeforeEnd, "seize shard 1"}, {BeforeProduce, "create the changelog"}, {BeforeOwner, "open the gate"}, {BeforeInit, "delete the changelog"},
	} {
		t.Run(strings.TrimSpace(string(c.at)+" "+c.wake), func(t *testing.T) {
			s := newShop(t)
			s.cfg.Group.SessionTimeout = config.Duration(time.Second)
			z := s.freeze(c.at)
			r, err := PlanReset(t.Context(), s.adm, Connector(s.cfg.Kafka), s.cfg)
			if err != nil {
				t.Fatal(err)
			}
			r.Step = func(what string) error {
				if what == c.wake {
					z.wake()
				}
				return nil
			}
			if err := r.Do(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.disk = vfs.NewMem()
			s.start(func(p *Pipeline) { p.backoff = time.Millisecond })
			both := func() bool { // they have all shards between them, in the new epoch, and have read everything
				at, n := map[int32]int64{}, 0
				for _, p := range []*Pipeline{s.pipe, z.pipe} {
					if p == z.pipe && c.wake == after {
						continue
					}
					maps.Copy(at, p.Positions()["purchases"])
					for _, st := range p.Status() {
						if st.State == "running" {
							n++
						}
					}
				}
				return n == 2 && maps.Equal(at, s.ends["purchases"])
			}
			eventually(t, "the shards are read in the new epoch", both)
			before := s.told()
			if c.wake == after {
				z.wake()
				c.wake = "now"
				eventually(t, "it is a member again", func() bool { return len(z.pipe.Status()) == 1 && len(s.pipe.Status()) == 1 && both() })
				if is := s.told(); !maps.EqualFunc(is, before, slices.Equal) {
					t.Errorf("told after it woke up:\n%v\nbefore:\n%v", is, before)
				}
			}
			s.buy("o3")
			eventually(t, "what comes now is read", both)
			z.stop()
			s.stop()
			if z.ended.Load() && c.at != BeforeInit && c.wake != "seize shard 0" { // which take the shard anew, or have it still
				t.Error("a transaction that had begun before the reset was ended after it")
			}
			s.afterReset()
		})
	}
}

// afterReset holds that what is committed under epoch 2 is one story, from its beginning.
func (s *shop) afterReset() {
	s.t.Helper()
	seen := map[string]int{}
	for _, r := range s.out(events.SegmentChanges) {
		var who string
		var epoch, n int
		id := strings.ReplaceAll(headersOf(r)["ce_id"], ":", " ")
		if _, err := fmt.Sscanf(id, "shop %d %s s%d", &epoch, &who, &n); err != nil {
			s.t.Fatalf("id %q: %v", id, err)
		}
		key := fmt.Sprintf("%d%s", epoch, who)
		if seen[key]++; n != seen[key] {
			s.t.Errorf("%d@%d is change %d of %s in epoch %d, want %d", r.Partition, r.Offset, n, who, epoch, seen[key])
		}
	}
	for _, who := range s.who {
		if seen["2"+who] == 0 {
			s.t.Errorf("nothing is told of %s in epoch 2: %v", who, seen)
		}
	}
	cycles := map[int32]uint64{}
	topic := changelogTopic(s.cfg.App)
	is, err := readable(s.t.Context(), s.adm, topic)
	if err != nil {
		s.t.Fatal(err)
	}
	for shard := range int32(2) {
		for r, err := range Committed(s.t.Context(), Connector(s.cfg.Kafka), topic, shard, 0, is.stable[topic][shard]) {
			if err != nil {
				s.t.Fatal(err)
			}
			if string(r.Key) != checkpointKey {
				continue
			}
			c, err := decodeCheckpoint(r)
			if cycles[shard]++; err != nil || c.Made.Epoch != 2 || c.Cycle != cycles[shard] {
				s.t.Errorf("shard %d@%d: cycle %d of epoch %d, want cycle %d of 2: %v", shard, r.Offset, c.Cycle, c.Made.Epoch, cycles[shard], err)
			}
		}
		if cycles[shard] == 0 {
			s.t.Errorf("shard %d has no cycle in the new changelog", shard)
		}
	}
}
