package pipeline

import (
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/state"
)

// turn begins a leader epoch of purchases/0 whose leader says that the epochs before it ended at an offset, and counts how often it
// was asked.
func (s *shop) turn(cut int64) *atomic.Int32 {
	s.t.Helper()
	lead := s.cluster.PartitionInfo("purchases", 0)
	if err := s.cluster.MoveTopicPartition("purchases", 0, lead.Leader); err != nil {
		s.t.Fatal(err)
	}
	var count atomic.Int32
	s.cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		req := r.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, topic := range req.Topics {
			it := kmsg.NewOffsetForLeaderEpochResponseTopic()
			it.Topic = topic.Topic
			for _, p := range topic.Partitions {
				if topic.Topic != "purchases" || p.Partition != 0 || p.LeaderEpoch > lead.Epoch {
					return nil, nil, false
				}
				is := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				is.Partition, is.LeaderEpoch, is.EndOffset = p.Partition, p.LeaderEpoch, cut
				it.Partitions = append(it.Partitions, is)
			}
			resp.Topics = append(resp.Topics, it)
		}
		count.Add(1)
		return resp, nil, true
	})
	return &count
}

// TestSkipLostTwice cuts an input again before a record of it was read: the position that was left is not believed either.
func TestSkipLostTwice(t *testing.T) {
	for _, c := range []struct {
		name          string
		lose          func(s *shop) (end func())
		first, second string
		orders        int
	}{
		{"short", func(s *shop) func() { s.checkpointAt(7, nil); return func() {} }, "purchases/0@7", "purchases/0@2", 3},
		{"written again", func(s *shop) func() { // with records that cannot be read yet
			before := s.cluster.PartitionInfo("purchases", 0)
			if err := s.cluster.MoveTopicPartition("purchases", 0, before.Leader); err != nil {
				t.Fatal(err)
			}
			end := s.open("o2")
			s.buy("o3")
			s.buy("o4")
			s.checkpointAt(4, &before.Epoch)
			return end
		}, "purchases/0@4", "purchases/0@2", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			s.start()
			s.buy("o1")
			s.buy("o0")
			s.read(0, 1)
			s.stop()
			end := c.lose(s)
			s.cfg.Inputs.Lost = "skip"
			s.start()
			told := func(n float64) func() bool {
				return func() bool { return s.counter("asiduo_dead_letters_total", "input_lost") == n }
			}
			s.await("the first loss to be told", told(1))
			s.turn(1)
			end()
			s.buy("o9")
			s.await("the second loss to be told", told(2))
			s.read(0)
			want := map[string]string{c.first: "input_lost", c.second: "input_lost"}
			if got := s.letters(); !maps.Equal(got, want) {
				t.Errorf("dead letters %v, want %v", got, want)
			}
			if n := s.orders(0); n != c.orders {
				t.Errorf("%d orders, want %d: o0 is read again", n, c.orders)
			}
		})
	}
}

// formerLeader answers so many of the next questions for the ends of the inputs, for the first leader of purchases/0, who has one
// record, and closes used at the first.
func (s *shop) formerLeader(lies *atomic.Int32) (used chan struct{}) {
	used = make(chan struct{})
	var once sync.Once
	is := map[string][]*kfake.PartitionInfo{"purchases": s.cluster.PartitionInfos("purchases"), "interactions": s.cluster.PartitionInfos("interactions")}
	is["purchases"][0].HighWatermark, is["purchases"][0].Epoch = 1, 0
	s.cluster.ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		req := r.(*kmsg.ListOffsetsRequest)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		asked := false
		for _, topic := range req.Topics {
			it := kmsg.NewListOffsetsResponseTopic()
			it.Topic = topic.Topic
			for _, p := range topic.Partitions {
				if p.Timestamp != -1 || is[topic.Topic] == nil {
					return nil, nil, false
				}
				end := is[topic.Topic][p.Partition]
				at := kmsg.NewListOffsetsResponseTopicPartition()
				at.Partition, at.Offset, at.LeaderEpoch = p.Partition, end.HighWatermark, end.Epoch
				it.Partitions = append(it.Partitions, at)
				asked = asked || topic.Topic == "purchases" && p.Partition == 0
			}
			resp.Topics = append(resp.Topics, it)
		}
		if !asked || lies.Load() == 0 {
			return nil, nil, false
		}
		lies.Add(-1)
		once.Do(func() { close(used) })
		return resp, nil, true
	})
	return used
}

// TestFormerLeader: one who was cut off and does not know that there is another has less, under an older epoch. On its word no shard
// stops, and with skip nothing is left behind.
func TestFormerLeader(t *testing.T) {
	for _, mode := range []string{"stop", "skip"} {
		t.Run(mode, func(t *testing.T) {
			s := newShop(t)
			for range 3 {
				if err := s.cluster.MoveTopicPartition("purchases", 0, s.cluster.PartitionInfo("purchases", 0).Leader); err != nil {
					t.Fatal(err)
				}
			}
			s.start()
			s.buy("o1")
			s.buy("o2")
			s.read(0, 1)
			s.stop()
			s.cfg.Inputs.Lost = mode
			var lies atomic.Int32
			var once sync.Once
			used := s.formerLeader(&lies)
			s.start(func(p *Pipeline) {
				p.again = 50 * time.Millisecond
				p.deps.Interrupt = func(id int32, step Step) error {
					switch {
					case step != AfterRestore:
					case id == 0:
						once.Do(func() { lies.Store(1) })
					default:
						<-used
					}
					return nil
				}
			})
			s.buy("o3")
			s.read(0, 1)
			if got := s.letters(); len(got) != 0 {
				t.Errorf("dead letters %v", got)
			}
			if n := s.orders(0); n != 3 {
				t.Errorf("%d orders", n)
			}
			if n := len(s.log.lines("shard stopped")); n > 0 {
				t.Errorf("a shard has stopped %d times", n)
			}
		})
	}
}

// TestFormerLeaderOfSilence has one who says that the orders end before those that were read, while another waits unread: nobody is
// called silent on his word.
func TestFormerLeaderOfSilence(t *testing.T) {
	s := newShop(t)
	var lies atomic.Int32
	s.formerLeader(&lies)
	s.start(func(p *Pipeline) {
		p.log = slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	s.buy("o1")
	s.buy("o2")
	s.read(0, 1)
	end := s.open("o3")
	lies.Store(1 << 20)
	s.clock.Set(draftedAt + 400*state.Day)
	eventually(t, "his word to be refused", func() bool {
		return len(s.log.lines("purchases/0 ends at 1 in leader epoch 0, but it was read up to 2")) > 0
	})
	lies.Store(0)
	if at := s.pipe.horizonOf(0); at >= draftedAt+400*state.Day {
		t.Errorf("silence was played up to %d", at)
	}
	end()
	s.await("silence", func() bool { return s.pipe.horizonOf(0) >= draftedAt+400*state.Day })
}

// TestInputTailLostUnderUs cuts the input of a shard that has just gone on: the first record that it reads then is of another leader,
// who knows that the records before it ended earlier.
func TestInputTailLostUnderUs(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.buy("o2")
	s.read(0, 1)
	s.stop()
	s.start()
	s.read(0, 1)
	s.await("both shards to go on", func() bool { return s.pipe.Ready() == nil })
	asked := s.turn(1)
	s.buy("o3")
	s.stopped(0, "input_truncated", "input purchases/0 was cut at 1 and written again, before our position 2: it has lost records that were processed")
	s.read(1)
	if asked.Load() < 2 {
		t.Error("nobody has asked before the shard was acquired again")
	}
}
