package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// orderedAt is a record of an order, placed and stamped at an instant.
func orderedAt(who, id string, at time.Time) *kgo.Record {
	value := strings.Replace(order(who, id), "2024-05-01T09:00:00Z", at.UTC().Format("2006-01-02T15:04:05.000Z"), 1)
	return &kgo.Record{Topic: "purchases", Key: []byte(who), Value: []byte(value), Timestamp: at}
}

// buyNow writes an order of the customer of each shard, placed and stamped now.
func (s *shop) buyNow(id string) {
	s.t.Helper()
	for shard, who := range s.who {
		r := orderedAt(who, id, time.Now())
		r.Partition = int32(shard)
		if err := s.cl.ProduceSync(s.t.Context(), r).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
		if s.ends["purchases"] == nil {
			s.ends["purchases"] = map[int32]int64{}
		}
		s.ends["purchases"][int32(shard)] = r.Offset + 1
	}
}

// changes are how many segment changes were written.
func (s *shop) changes() (n int64) {
	s.t.Helper()
	ends, err := s.adm.ListEndOffsets(s.t.Context(), "shop."+events.SegmentChanges)
	if err != nil {
		s.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// TestClockWrong has a clock that is wrong by a year. Whichever it is, nobody is called silent because of it, no record
// becomes a dead letter, and the metric, the log and the status say so; when it is right again, silence goes on.
func TestClockWrong(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, kind := range []string{"broker", "wall"} {
		for _, wrong := range []time.Duration{year, -year} {
			t.Run(fmt.Sprintf("%s %v", kind, wrong), func(t *testing.T) {
				s := newShop(t)
				s.cfg.Time.Clock, s.cfg.Time.Grace = kind, 0
				var p *Pipeline
				clock := make(chan bool, 1)
				clock <- false
				s.start(func(pipe *Pipeline) {
					p, pipe.look = pipe, 10*time.Millisecond
					pipe.wall = func() time.Time { // of the machine; the brokers' is right, which nobody knows
						now := <-clock
						clock <- now
						if now {
							return time.Now()
						}
						return time.Now().Add(wrong)
					}
				})
				s.buyNow("o1")
				s.read(0, 1)
				before := s.changes()
				s.buyNow("o2") // more cycles
				s.read(0, 1)
				s.await("the status to say so", func() bool {
					for _, st := range p.Status() {
						if st.State != "running" || !strings.HasPrefix(st.Reason, map[bool]string{false: "clock: the machine's clock is behind the brokers' by ", true: "clock: the machine's clock is ahead of the brokers' by "}[wrong > 0]) {
							return false
						}
					}
					return len(p.Status()) == 2
				})
				if n := s.gauge("asiduo_clock_difference_seconds"); (time.Duration(n)*time.Second - wrong).Abs() > time.Minute {
					t.Errorf("the metric says %v seconds", n)
				}
				if len(s.log.lines("the machine's clock and the brokers' differ")) == 0 {
					t.Error("the log does not say so")
				}
				if why := p.Status()[0].Reason; !strings.Contains(why, "one of them must be wrong") {
					t.Errorf("the status says %q", why)
				}
				if h := max(p.horizonOf(0), p.horizonOf(1)); h != 0 {
					t.Errorf("silence was played up to %v", h)
				}
				if got := s.letters(); len(got) != 0 {
					t.Errorf("dead letters %v", got)
				}
				if n := s.changes(); n < before {
					t.Errorf("%d changes, before %d", n, before)
				}
				<-clock
				clock <- true
				s.await("silence to go on", func() bool {
					return min(p.horizonOf(0), p.horizonOf(1)) > state.Instant(time.Now().Add(-time.Minute).UnixMilli())
				})
				if h := max(p.horizonOf(0), p.horizonOf(1)); h > state.Instant(time.Now().UnixMilli()) {
					t.Errorf("silence was played up to %v", h)
				}
				if n := s.counter("asiduo_timers_fired_total", "0") + s.counter("asiduo_timers_fired_total", "1"); n != 0 {
					t.Errorf("%v customers were called silent", n)
				}
			})
		}
	}
}

// open writes an order in a transaction of another producer, which the caller ends.
func (s *shop) open(id string) (end func()) {
	s.t.Helper()
	other, err := kgo.NewClient(kgo.SeedBrokers(s.cfg.Kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("other"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(other.Close)
	if err := other.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	r := &kgo.Record{Topic: "purchases", Partition: 0, Key: []byte(s.who[0]), Value: []byte(order(s.who[0], id)), Timestamp: time.UnixMilli(draftedAt)}
	if err := other.ProduceSync(s.t.Context(), r).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		if err := other.EndTransaction(s.t.Context(), kgo.TryCommit); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestPinned has another producer's transaction open on an input: what is behind it cannot be read, so nobody of that
// shard may be called silent, and everybody can see why. When it ends, all goes on.
func TestPinned(t *testing.T) {
	s := newShop(t)
	s.start(func(p *Pipeline) { p.look = 10 * time.Millisecond })
	s.buy("o1")
	s.read(0, 1)
	end := s.open("o2")
	late := draftedAt + 40*state.Day
	s.clock.Set(late)
	const why = "lso_pinned: purchases/0 cannot be read beyond offset 1, where a transaction of another producer is open; silence waits for it"
	s.await("the silence of the other shard", func() bool { return s.pipe.horizonOf(1) >= late })
	s.await("the status to say so", func() bool {
		st := s.pipe.Status()
		return st[0].State == "running" && st[0].Reason == why && st[1].Reason == ""
	})
	if h := s.pipe.horizonOf(0); h != 0 {
		t.Errorf("silence was played up to %v", h)
	}
	if a, b := s.counter("asiduo_lso_pinned", "0"), s.counter("asiduo_lso_pinned", "1"); a != 1 || b != 0 {
		t.Errorf("asiduo_lso_pinned is %v and %v", a, b)
	}
	if n := s.counter("asiduo_lag_records", "0"); n != 1 {
		t.Errorf("the lag is %v", n)
	}
	if lines := s.log.lines("input is pinned"); len(lines) != 1 {
		t.Errorf("log: %q", lines)
	}
	if err := s.pipe.Ready(); err != nil { // starting again would not help
		t.Error(err)
	}
	end()
	s.await("the silence of the shard", func() bool { return s.pipe.horizonOf(0) >= late && s.pipe.Status()[0].Reason == "" })
	if n := s.orders(0); n != 2 {
		t.Errorf("%d orders", n)
	}
	s.await("the metric to go back", func() bool { return s.counter("asiduo_lso_pinned", "0") == 0 })
}

// TestSilenceOfNewPartitions: orders may already wait in partitions that nobody has told us of yet, so no silence is played until
// they are read too.
func TestSilenceOfNewPartitions(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	reaches := func(now state.Instant) {
		t.Helper()
		s.clock.Set(now)
		s.await("silence to be played", func() bool {
			for _, st := range s.pipe.Status() {
				if st.State != "running" || st.Horizon < now {
					return false
				}
			}
			return true
		})
	}
	reaches(draftedAt + 1000)
	if _, err := s.adm.UpdatePartitions(t.Context(), 4, "purchases"); err != nil {
		t.Fatal(err)
	}
	reaches(draftedAt + 2000)
	if n := len(s.pipe.Positions()["purchases"]); n != 4 {
		t.Errorf("silence was played while %d of 4 partitions were read", n)
	}
}
