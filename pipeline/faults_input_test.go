package pipeline

import (
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
)

// orders are how many orders a shard has of its customer.
func (s *shop) orders(shard int32) int {
	s.t.Helper()
	v, err := s.pipe.View(shard)
	if err != nil {
		s.t.Fatal(err)
	}
	var c state.Customer
	if _, err := v.Customer(s.who[shard], &c); err != nil {
		s.t.Error(err)
	}
	if err := v.Close(); err != nil {
		s.t.Error(err)
	}
	return len(c.Orders)
}

// remake deletes a topic and makes it again.
func (s *shop) remake(topic string, settings map[string]*string) {
	s.t.Helper()
	if _, err := s.adm.DeleteTopic(s.t.Context(), topic); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.adm.CreateTopic(s.t.Context(), 2, 1, settings, topic); err != nil {
		s.t.Fatal(err)
	}
	s.cl.PurgeTopicsFromClient(topic)
	delete(s.ends, topic)
}

// cut deletes the records of an input before an offset.
func (s *shop) cut(topic string, partition int32, before int64) {
	s.t.Helper()
	cut := kadm.Offsets{}
	cut.AddOffset(topic, partition, before, -1)
	if _, err := s.adm.DeleteRecords(s.t.Context(), cut); err != nil {
		s.t.Fatal(err)
	}
}

// grow gives an input more partitions, as somebody who writes to them sees it too.
func (s *shop) grow(topic string, partitions int) {
	s.t.Helper()
	if _, err := s.adm.UpdatePartitions(s.t.Context(), partitions, topic); err != nil {
		s.t.Fatal(err)
	}
	s.cl.PurgeTopicsFromClient(topic)
}

// addMeanwhile gives an input partitions, and takes two of three records away before anybody has read them.
func (s *shop) addMeanwhile() {
	s.t.Helper()
	s.grow("purchases", 4)
	for i := range 3 {
		s.put("purchases", 2, s.who[0], order(s.who[0], fmt.Sprintf("o%d", i+2)))
	}
	s.cut("purchases", 2, 2)
}

// TestSkipLost is what an operator may choose instead: the shard leaves behind what nobody can read any more, says so
// once, in the transaction that moves the position, and goes on.
func TestSkipLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		lose   func(*shop)
		letter string // the place it is written for
		count  float64
		orders int
	}{
		{"cut short", func(s *shop) {
			s.buy("o2")
			s.buy("o3")
			s.buy("o4")
			s.cut("purchases", 0, 3)
		}, "purchases/0@1", 2, 2},
		{"made again", func(s *shop) {
			s.remake("purchases", nil)
			s.buy("o4")
		}, "purchases/0@1", 0, 2},
		{"tail lost", func(s *shop) { // as an unclean election does it: here by a checkpoint that is ahead
			s.checkpointAt(7, nil)
			s.buy("o2")
			s.cut("purchases", 0, 1)
			s.ends["purchases"][0] = 0
		}, "purchases/0@7", 0, 1},
		{"tail lost and written again", func(s *shop) {
			s.rewritten()
		}, "purchases/0@3", 0, 4},
		{"set back", func(s *shop) {
			s.setBack()
			s.buy("o2")
		}, "purchases/0@1", 0, 2},
		{"added meanwhile", (*shop).addMeanwhile, "purchases/2@0", 2, 2}, // nobody has ever read it
		{"set back long ago", (*shop).setBackLongAgo, "purchases/0@1", 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			s.start()
			s.buy("o1")
			s.read(0, 1)
			s.stop()
			c.lose(s)
			s.cfg.Inputs.Lost = "skip"
			s.start(func(p *Pipeline) { p.again = 50 * time.Millisecond })
			want := map[string]string{c.letter: "input_lost"}
			if c.name == "made again" { // both partitions are, each of another shard
				want["purchases/1@1"] = "input_lost"
			}
			s.await("the loss to be told", func() bool {
				return s.counter("asiduo_dead_letters_total", "input_lost") == float64(len(want))
			})
			s.read(0)
			got := s.letters()
			if !maps.Equal(got, want) {
				t.Errorf("dead letters %v, want %v", got, want)
			}
			if n := s.orders(0); n != c.orders {
				t.Errorf("%d orders, want %d", n, c.orders)
			}
			if n := s.counter("asiduo_input_records_lost_total", "0"); n != c.count {
				t.Errorf("%v records are counted as lost, want %v", n, c.count)
			}
			if lines := s.log.lines("records of an input are lost and left behind"); len(lines) != len(want) {
				t.Errorf("log: %q", lines)
			}
			s.await("readiness", func() bool { return s.pipe.Ready() == nil })
			s.stop()
			s.buy("o5")
			s.start() // it is told once
			s.read(0, 1)
			if again := s.letters(); !maps.Equal(again, want) {
				t.Errorf("after another start: dead letters %v, want %v", again, want)
			}
		})
	}
}

// checkpointAt writes a checkpoint of shard 0 that has read so far, the last record under a leader epoch if there is one.
func (s *shop) checkpointAt(next int64, epoch *int32) {
	s.t.Helper()
	found, err := s.adm.ListTopics(s.t.Context(), "purchases")
	if err != nil {
		s.t.Fatal(err)
	}
	at := map[string]any{"topic_id": found["purchases"].ID.String(), "next": map[int32]int64{0: next}}
	if epoch != nil {
		at["epochs"] = map[int32]int32{0: *epoch}
	}
	c, err := json.Marshal(map[string]any{"owner": "somebody", "cycle": 99, "made": s.pipe.made(1), "inputs": map[string]any{"purchases": at}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.put("shop.changelog", 0, checkpointKey, string(c))
}

// rewritten is an input that was cut after its first record and has grown again under another leader, beyond our position 3:
// of what we have read there, the leader knows that nothing of it was kept.
func (s *shop) rewritten() {
	s.t.Helper()
	before := s.cluster.PartitionInfo("purchases", 0)
	if err := s.cluster.MoveTopicPartition("purchases", 0, before.Leader); err != nil { // begins an epoch
		s.t.Fatal(err)
	}
	for _, id := range []string{"o2", "o3", "o4"} {
		s.buy(id)
	}
	s.checkpointAt(3, &before.Epoch)
}

// setBack is an input whose brokers have come back with the disks of an earlier day: what we have read last was of a leader that
// nobody knows.
func (s *shop) setBack() {
	s.t.Helper()
	later := s.cluster.PartitionInfo("purchases", 0).Epoch + 5
	s.checkpointAt(1, &later)
}

// newLeaders begins so many leader epochs of purchases/0.
func (s *shop) newLeaders(n int) {
	s.t.Helper()
	for range n {
		if err := s.cluster.MoveTopicPartition("purchases", 0, s.cluster.PartitionInfo("purchases", 0).Leader); err != nil {
			s.t.Fatal(err)
		}
	}
}

// setBackLongAgo is one that has had as many leaders again since: only the record at our position shows it.
func (s *shop) setBackLongAgo() {
	s.t.Helper()
	s.setBack()
	s.buy("o2")
	s.newLeaders(5)
}

// TestInputTailLost stops on an input that ends before our position, or did when it was cut.
func TestInputTailLost(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(s *shop)
		why  string
	}{
		{"short", func(s *shop) { s.checkpointAt(7, nil) }, "input purchases/0 ends at 1, before our position 7: it has lost records that were processed"},
		{"written again", (*shop).rewritten, "input purchases/0 was cut at 1 and written again, before our position 3: it has lost records that were processed"},
		{"set back", (*shop).setBack, "input purchases/0 is led under epoch 0, and we have read records of epoch 5: its brokers were set back, its offsets may mean other records now"},
		{"added meanwhile", (*shop).addMeanwhile, "input purchases/2 was added, and no longer has its first records: 0 to 1 were deleted before they were read"},
		{"set back long ago", (*shop).setBackLongAgo, "input purchases/0 goes on at our position 1 under leader epoch 0, before it was 5: its brokers were set back, and records before our position may be others now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			s.start()
			s.buy("o1")
			s.read(0, 1)
			s.stop()
			c.lose(s)
			s.start(func(p *Pipeline) { p.again = 50 * time.Millisecond })
			s.stopped(0, "input_truncated", c.why)
			s.read(1)
		})
	}
}

// TestEpochsAreKept: what is committed says under which leaders it was read, whatever moves the position.
func TestEpochsAreKept(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	lead := s.cluster.PartitionInfo("purchases", 0)
	if err := s.cluster.MoveTopicPartition("purchases", 0, lead.Leader); err != nil {
		t.Fatal(err)
	}
	s.buy("o2")
	s.read(0, 1)
	committed := func(next int64, epoch int32) {
		t.Helper()
		v, err := s.pipe.View(0)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := v.Mark.Inputs["purchases"], map[int32]int32{0: epoch}; !maps.Equal(got.Epochs, want) || got.Next[0] != next {
			t.Errorf("committed at %v under %v, want %d under %v", got.Next, got.Epochs, next, want)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	committed(2, lead.Epoch+1)
	if err := s.cluster.MoveTopicPartition("purchases", 0, lead.Leader); err != nil {
		t.Fatal(err)
	}
	bomb := &kgo.Record{Topic: "purchases", Key: []byte(s.who[0]), Value: make([]byte, 156<<20), Timestamp: time.UnixMilli(draftedAt)}
	s.flood([]kgo.Opt{kgo.ProducerBatchCompression(kgo.ZstdCompression())}, bomb) // a batch that is not read moves the position too
	s.read(0, 1)
	committed(3, lead.Epoch+2)
	s.stop()
	s.start() // nothing was cut
	s.buy("o3")
	s.read(0, 1)
	if n := s.orders(0); n != 3 {
		t.Errorf("%d orders", n)
	}
}

// begin publishes a new epoch.
func (s *shop) begin(epoch int) {
	s.t.Helper()
	p, err := parameters.Open(s.t.Context(), Connector(s.cfg.Kafka), s.cfg.App)
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.Close()
	if err := p.PublishEpoch(s.t.Context(), parameters.Epoch{Epoch: epoch}); err != nil {
		s.t.Fatal(err)
	}
}

// TestChangelogLost makes the changelog again, empty: the state is gone, and reading the inputs from their beginning
// would tell everything twice. Neither a process with its store nor one without may do that.
func TestChangelogLost(t *testing.T) {
	for _, wiped := range []bool{false, true} {
		t.Run(fmt.Sprintf("wiped=%v", wiped), func(t *testing.T) {
			s := newShop(t)
			s.start()
			s.buy("o1")
			s.read(0, 1)
			s.stop()
			settings := map[string]*string{}
			for k, v := range OwnTopics(s.cfg)[0].Settings {
				settings[k] = &v
			}
			s.remake("shop.changelog", settings)
			proof := "the store has cycle 1 of a changelog that was deleted and made again"
			if wiped {
				s.disk = vfs.NewMem()
				proof = "purchases/%d was read up to 1"
			}
			s.start()
			for shard := range int32(2) {
				proof := proof
				if wiped {
					proof = fmt.Sprintf(proof, shard)
				}
				s.stopped(shard, "changelog_lost", fmt.Sprintf("restore: partition %d of the changelog has no state, but there was one (%s): import a snapshot, or begin over with \"asiduo reset\"", shard, proof))
			}
			if n := s.counter("asiduo_store_rebuilds_total", "diverged"); n != 0 {
				t.Errorf("%v stores were given up", n)
			}
			s.stop()
			s.begin(2) // what the operator may do
			s.start()
			s.read(0, 1)
			if n := s.orders(0); n != 1 {
				t.Errorf("%d orders in the new epoch", n)
			}
		})
	}
}

// clients are those of a process that read.
type clients struct{ all sync.Map }

func (c *clients) OnNewClient(cl *kgo.Client) { c.all.Store(cl, nil) }

// fetched says whether one of them has records that nobody has polled.
func (c *clients) fetched() (some bool) {
	c.all.Range(func(cl, _ any) bool {
		some = cl.(*kgo.Client).BufferedFetchRecords() > 0
		return !some
	})
	return some
}

// TestSkipLostWithinCycle has the record that shows a loss come while a cycle is at work, which takes it in: the loss is told before it.
func TestSkipLostWithinCycle(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	s.stop()
	s.setBack()
	end := s.open("o2")
	s.newLeaders(5)
	s.put("interactions", 0, s.who[0], fmt.Sprintf(`{"id":"i1","customer_id":%q,"type":"visit","at":"2024-05-01T09:00:00Z"}`, s.who[0]))
	s.cfg.Inputs.Lost = "skip"
	var readers clients
	cycles := make(chan float64, 1)
	s.start(func(p *Pipeline) {
		p.deps.Client = append(p.deps.Client, kgo.WithHooks(&readers))
		p.Touch(func(r *kgo.Record) {
			if r.Topic == "interactions" {
				cycles <- s.counter("asiduo_cycles_total", "0")
				end()
				eventually(t, "the order to be fetched", readers.fetched)
			}
		})
	})
	s.await("the loss to be told", func() bool { return s.counter("asiduo_dead_letters_total", "input_lost") == 1 })
	s.await("the order", func() bool { return s.orders(0) == 2 })
	if was, is := <-cycles, s.counter("asiduo_cycles_total", "0"); is != was+1 {
		t.Errorf("%v cycles, not one", is-was)
	}
	if got, want := s.letters(), map[string]string{"purchases/0@1": "input_lost"}; !maps.Equal(got, want) {
		t.Errorf("dead letters %v, want %v", got, want)
	}
}
