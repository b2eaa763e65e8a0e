package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// TestBrokerErrors answers the requests that an owner sends in every cycle or acquisition with every kind of error, once each,
// also such that was done all the same: what comes out is what would have come out without. TestSim has the other kinds.
func TestBrokerErrors(t *testing.T) {
	ours := func(req kmsg.Request) bool { // the test writes too
		p, ok := req.(*kmsg.ProduceRequest)
		return !ok || p.TransactionID != nil
	}
	s := newShop(t)
	s.start()
	n := 0
	buy := func() {
		s.buy(fmt.Sprintf("o%d", n))
		n++
	}
	buy()
	s.read(0, 1)
	now := state.Instant(draftedAt)
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.EndTxn, kmsg.InitProducerID, kmsg.Fetch, kmsg.ListOffsets} {
		for _, e := range []*kerr.Error{
			kerr.NotLeaderForPartition, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions,
			kerr.RequestTimedOut, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.InvalidProducerEpoch, kerr.ProducerFenced,
			kerr.InvalidProducerIDMapping, kerr.UnknownProducerID, kerr.InvalidTxnState, kerr.OutOfOrderSequenceNumber, kerr.TransactionCoordinatorFenced,
			kerr.KafkaStorageError, kerr.UnknownServerError, kerr.TransactionAbortable,
		} {
			f := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: e, When: ours})
			if key == kmsg.InitProducerID { // only an acquisition sends it
				s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError})
			}
			if key == kmsg.ListOffsets { // where the inputs end is asked when an instant is over
				now += state.Day / 24
				s.clock.Set(now)
			}
			buy()
			s.read(0, 1)
			if key == kmsg.ListOffsets {
				eventually(t, "the ends to be asked for", func() bool { return f.Hits() > 0 })
			}
			if f.Hits() == 0 {
				t.Errorf("no %s was answered with %v", key.Name(), e)
			}
			f.Remove()
		}
	}
	for shard := range int32(2) {
		if got := s.orders(shard); got != n {
			t.Errorf("shard %d: %d orders, want %d", shard, got, n)
		}
	}
	if got := s.letters(); len(got) != 0 {
		t.Errorf("dead letters %v", got)
	}
	s.contiguous()
}

// attempts are the times at which a shard was tried to be acquired.
type attempts struct {
	mu  sync.Mutex
	all []time.Time
}

func (a *attempts) note() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, time.Now())
}

// pauses are the times between them.
func (a *attempts) pauses() (list []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := 1; i < len(a.all); i++ {
		list = append(list, a.all[i].Sub(a.all[i-1]))
	}
	return list
}

// TestUnauthorized takes a permission away while the process runs, and gives it back. Between attempts there are pauses that
// double, beyond those after other errors, up to those of a shard that has stopped.
func TestUnauthorized(t *testing.T) {
	const first, longest = time.Millisecond, 300 * time.Millisecond
	for _, c := range []struct {
		name  string
		fault kfake.Fault
		says  string
	}{
		{"write", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "shop.changelog", Err: kerr.TopicAuthorizationFailed}, "TOPIC_AUTHORIZATION_FAILED"},
		{"read", kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "purchases", Err: kerr.TopicAuthorizationFailed}, "TOPIC_AUTHORIZATION_FAILED"},
		{"transactional id", kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID, kmsg.EndTxn}, Err: kerr.TransactionalIDAuthorizationFailed}, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"},
		{"group", kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup, kmsg.Heartbeat}, Err: kerr.GroupAuthorizationFailed}, "GROUP_AUTHORIZATION_FAILED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			var tried attempts
			var taken atomic.Bool
			s.start(func(p *Pipeline) {
				p.backoff, p.again = first, longest
				p.deps.Interrupt = func(shard int32, at Step) error {
					if shard == 0 && at == BeforeInit && taken.Load() {
						tried.note()
					}
					return nil
				}
			})
			s.buy("o1")
			s.read(0, 1)
			c.fault.Count = -1
			if c.name == "write" {
				c.fault.When = func(req kmsg.Request) bool { return req.(*kmsg.ProduceRequest).TransactionID != nil }
			}
			taken.Store(true)
			f := s.cluster.Fault(c.fault)
			s.buy("o2")
			eventually(t, "readiness to say so", func() bool {
				err := s.pipe.Ready()
				return err != nil && strings.Contains(err.Error(), c.says)
			})
			if c.name != "group" {
				eventually(t, "several attempts", func() bool { return len(tried.pauses()) >= 11 })
				if n := s.counter("asiduo_shard_closed_total", "not_authorized"); n < 12 {
					t.Errorf("closed %v times for want of permission", n)
				}
				everLonger(t, tried.pauses(), 2*first, longest)
			} else { // the client's own pauses, which are short here
				eventually(t, "several attempts", func() bool { return f.Hits() >= 3 })
				eventually(t, "readiness to name the group", func() bool {
					err := s.pipe.Ready()
					return err != nil && strings.Contains(err.Error(), "the group does not have this process")
				})
			}
			if lines := s.log.lines(c.says); len(lines) == 0 || len(lines) > 2 { // one of each shard, within a minute
				t.Errorf("log: %d times %q", len(lines), lines)
			}
			f.Remove()
			s.read(0, 1)
			eventually(t, "readiness", func() bool { return s.pipe.Ready() == nil })
			if n := s.orders(0); n != 2 {
				t.Errorf("%d orders", n)
			}
		})
	}
}

// everLonger holds that pauses begin short and double up to the longest. A busy machine only makes them longer.
func everLonger(t *testing.T, pauses []time.Duration, least, longest time.Duration) {
	t.Helper()
	for i, pause := range pauses {
		if pause < least {
			t.Errorf("pause %d is %v, want %v: %v", i, pause, least, pauses)
		}
		least = min(2*least, longest)
	}
	if shortest := slices.Min(pauses); shortest >= longest {
		t.Errorf("no pause is shorter than %v: %v", longest, pauses)
	}
}

// TestTransactionalIDExpired leaves the shards idle for longer than the brokers remember their transactional ids.
func TestTransactionalIDExpired(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	expire := func(ms string) {
		t.Helper()
		answer, err := s.adm.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{Name: "transactional.id.expiration.ms", Value: &ms}})
		if err != nil || answer[0].Err != nil {
			t.Fatal(err, answer)
		}
	}
	expire("1")
	eventually(t, "the ids have expired", func() bool { // the embedded broker looks when somebody asks for an id
		other, err := kgo.NewClient(kgo.SeedBrokers(s.cfg.Kafka.Brokers...), kgo.TransactionalID("other"))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if _, _, err = other.ProducerID(t.Context()); err != nil {
			t.Fatal(err)
		}
		known, err := s.adm.ListTransactions(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids := known.TransactionalIDs()
		return !slices.Contains(ids, transactionalID(s.cfg.App, 0)) && !slices.Contains(ids, transactionalID(s.cfg.App, 1))
	})
	expire("604800000")
	s.buy("o2")
	s.read(0, 1)
	if n := s.counter("asiduo_shard_closed_total", "error"); n < 2 {
		t.Errorf("the shards were closed %v times: the ids have not expired", n)
	}
	if n := s.orders(0); n != 2 {
		t.Errorf("%d orders", n)
	}
	s.contiguous()
}

// TestLeadersMove moves every partition and coordinator again and again while orders come.
func TestLeadersMove(t *testing.T) {
	s := newShop(t, kfake.NumBrokers(3))
	s.start()
	for i := range 4 {
		s.buy(fmt.Sprintf("o%d", i))
		s.cluster.ShufflePartitionLeaders()
		if i%3 == 0 {
			s.cluster.RehashCoordinators()
		}
		s.buy(fmt.Sprintf("p%d", i))
		s.read(0, 1)
	}
	if n := s.orders(0); n != 8 {
		t.Errorf("%d orders", n)
	}
	if err := s.pipe.Ready(); err != nil {
		t.Error(err)
	}
	for _, why := range closings {
		if n := s.counter("asiduo_shard_closed_total", why); n != 0 && why != "error" && why != "timeout" && why != "fenced" {
			t.Errorf("shards were closed %v times for %s", n, why)
		}
	}
	if ends, cycles := s.counter("asiduo_commit_duration_seconds", "0"), s.counter("asiduo_cycles_total", "0"); cycles == 0 || ends < cycles {
		t.Errorf("the ends of %v transactions were timed, of %v cycles", ends, cycles)
	}
	s.contiguous()
}

// TestSameIdentity starts two processes on copies of one data directory: they take the shards from each other, and one
// of them ends with the reason.
func TestSameIdentity(t *testing.T) {
	s := newShop(t)
	disk := vfs.NewCrashableMem()
	s.disk = disk
	ends := make(chan error, 2)
	ctx, cancel := context.WithCancel(t.Context())
	run := func() {
		p := s.process()
		go func() { ends <- p.Run(ctx) }()
	}
	run()
	s.buy("o1")
	s.read(0, 1)
	s.disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
	run()
	select {
	case err := <-ends:
		if err == nil || err.Error() != "another process uses the identity of data directory data: was it copied? remove identity.json from the copy" {
			t.Errorf("run: %v", err)
		}
	case <-time.After(patience):
		t.Error("both go on")
	}
	cancel()
	<-ends
	s.contiguous()
}

// eventually polls a condition that does not come with a change of the status.
func eventually(t *testing.T, what string, until func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !until() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// contiguous holds that what subscribers see has every customer's numbers once and in order.
func (s *shop) contiguous() {
	s.t.Helper()
	topic := s.cfg.App + "." + events.SegmentChanges
	var ends kadm.ListedOffsets
	eventually(s.t, "the end of the topic", func() (known bool) { // leaders may have moved
		var err error
		ends, err = s.adm.ListEndOffsets(s.t.Context(), topic)
		return err == nil && ends.Error() == nil
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.cfg.Kafka.Brokers...), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	seen, next := map[string]int{}, map[int32]int64{}
	for next[0] < ends[topic][0].Offset || next[1] < ends[topic][1].Offset {
		fetched := cl.PollFetches(s.t.Context())
		if err := fetched.Err(); err != nil {
			s.t.Fatal(err)
		}
		for r := range fetched.RecordsAll() {
			next[r.Partition] = r.Offset + 1
			if r.Attrs.IsControl() {
				continue
			}
			var c struct {
				Customer string `json:"customer_id"`
				Sequence int    `json:"sequence"`
			}
			if err := json.Unmarshal(r.Value, &c); err != nil {
				s.t.Fatal(err)
			}
			if seen[c.Customer]++; c.Sequence != seen[c.Customer] {
				s.t.Errorf("%s/%d@%d has sequence %d, want %d", topic, r.Partition, r.Offset, c.Sequence, seen[c.Customer])
			}
		}
	}
	if len(seen) < 2 {
		s.t.Errorf("changes of only %d customers", len(seen))
	}
}
