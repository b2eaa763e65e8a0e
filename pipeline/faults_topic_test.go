package pipeline

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// alter sets a setting of topics.
func (s *shop) alter(key, value string, topics ...string) {
	s.t.Helper()
	answer, err := s.adm.AlterTopicConfigs(s.t.Context(), []kadm.AlterConfig{{Name: key, Value: &value}}, topics...)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, a := range answer {
		if a.Err != nil {
			s.t.Fatal(a.Err)
		}
	}
}

// TestTopicsTooSmall refuses to start when an own topic would not take the largest record that the limits allow: a
// customer's state, an event, or a dead letter, which is cut to fit.
func TestTopicsTooSmall(t *testing.T) {
	for topic, want := range map[string]int{"shop.changelog": 72704, "shop.dead-letters": 37888, "shop.profiles": 80000, "shop.segment-changes": 80000} {
		s := newShop(t)
		s.cfg.Limits.OrdersPerCustomer = 512
		s.alter("max.message.bytes", "20000", topic)
		pipe := s.process()
		err := pipe.Run(t.Context())
		if err == nil || err.Error() != fmt.Sprintf("topic %q has max.message.bytes=20000, but a record may have %d bytes with these limits: raise it, or lower limits", topic, want) {
			t.Errorf("%s: %v", topic, err)
		}
	}
}

// TestSmallBatches works with topics that take only small batches: a cycle is more than one.
func TestSmallBatches(t *testing.T) {
	s := newShop(t)
	s.cfg.Limits.OrdersPerCustomer, s.cfg.Limits.RefundsPerCustomer, s.cfg.Limits.ConsentPurposes = 16, 16, 1
	for _, own := range OwnTopics(s.cfg) {
		s.alter("max.message.bytes", "40000", own.Name)
	}
	s.crowd(3000)
	s.start()
	s.read(0, 1)
	if lines := s.log.lines("shard closed"); len(lines) > 0 {
		t.Errorf("log: %q", lines)
	}
}

// TestSettingsChanged alters a topic while it is in use. The shards stop until somebody has put it right.
func TestSettingsChanged(t *testing.T) {
	for _, c := range []struct{ topic, key, bad, good, why string }{
		{"shop.changelog", "cleanup.policy", "delete", "compact", `topic "shop.changelog" has cleanup.policy=delete: only compact keeps every customer`},
		{"shop.dead-letters", "max.message.bytes", "1000", "1048588", `topic "shop.dead-letters" has max.message.bytes=1000, but a record may have 37888 bytes with these limits: raise it, or lower limits`},
	} {
		t.Run(c.key, func(t *testing.T) {
			s := newShop(t)
			s.start(func(p *Pipeline) { p.recheck, p.again = 20*time.Millisecond, 20*time.Millisecond })
			s.buy("o1")
			s.read(0, 1)
			s.alter(c.key, c.bad, c.topic)
			s.stopped(0, "topic_settings", c.why)
			if len(s.log.lines("topics no longer have the settings they need")) == 0 {
				t.Error("the log does not say so")
			}
			s.alter(c.key, c.good, c.topic)
			s.buy("o2")
			s.read(0, 1)
		})
	}
}

// TestOutputTopicGone deletes the topic of dead letters under a running process: nothing is dropped, the shards wait.
func TestOutputTopicGone(t *testing.T) {
	s := newShop(t)
	s.cfg.Cycle.Deadline = 2e9
	s.start()
	s.buy("o1")
	s.read(0, 1)
	if _, err := s.adm.DeleteTopic(t.Context(), "shop.dead-letters"); err != nil {
		t.Fatal(err)
	}
	at := s.put("purchases", 0, s.who[0], "{")
	s.await("readiness to say so", func() bool {
		err := s.pipe.Ready()
		return err != nil && strings.Contains(err.Error(), `topic "shop.dead-letters" is missing: create it with "asiduo init"`)
	})
	if n := s.pipe.Positions()["purchases"][0]; n > at {
		t.Errorf("the shard has gone on to %d without its dead letter", n)
	}
	if _, err := Init(t.Context(), s.adm, s.cfg, 2, 1); err != nil {
		t.Fatal(err)
	}
	s.read(0, 1)
	if got, want := fmt.Sprint(s.letters()), fmt.Sprintf("map[purchases/0@%d:undecodable]", at); got != want {
		t.Errorf("dead letters %s, want %s", got, want)
	}
	if n := s.counter("asiduo_output_topics_recreated_total", "shop.dead-letters"); n != 1 {
		t.Errorf("%v output topics were made again", n)
	}
	if lines := s.log.lines("an output topic was deleted and made again"); len(lines) != 1 || !strings.Contains(lines[0], "shop.dead-letters") {
		t.Errorf("log: %q", lines)
	}
}

// madeAgain deletes a topic of ours and makes it again, as init does.
func (s *shop) madeAgain(topic string) {
	s.t.Helper()
	if _, err := s.adm.DeleteTopic(s.t.Context(), topic); err != nil {
		s.t.Fatal(err)
	}
	if _, err := Init(s.t.Context(), s.adm, s.cfg, 2, 1); err != nil {
		s.t.Fatal(err)
	}
}

// TestOutputTopicMadeAgain makes a topic of changes again under a running process: what it held is gone, and what comes
// is told with the numbers that follow.
func TestOutputTopicMadeAgain(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	if n := len(s.out(events.SegmentChanges)); n != 2 {
		t.Fatalf("%d changes", n)
	}
	s.madeAgain("shop.segment-changes")
	s.clock.Set(draftedAt + 31*state.Day)
	s.buy("o2")
	s.read(0, 1)
	s.await("silence to be played", func() bool { return min(s.pipe.horizonOf(0), s.pipe.horizonOf(1)) > draftedAt })
	for _, r := range s.out(events.SegmentChanges) {
		var c struct {
			Sequence int `json:"sequence"`
		}
		if err := json.Unmarshal(r.Value, &c); err != nil || c.Sequence < 2 {
			t.Errorf("%s is told with number %d: %v", r.Key, c.Sequence, err)
		}
	}
	if n := s.orders(0); n != 2 {
		t.Errorf("%d orders", n)
	}
	s.await("readiness", func() bool { return s.pipe.Ready() == nil })
}

// TestUnmarkedTransaction: where the brokers have left out the marker of a transaction that they said was committed, as Kafka 4 does for
// partitions without a leader, the next one goes on directly behind it and must commit: an abort would take it back.
func TestUnmarkedTransaction(t *testing.T) {
	for _, tt := range []struct {
		offsets []int64 // of what is written, behind offset 10
		good    bool
		warned  int
	}{
		{[]int64{12, 13}, true, 0}, {[]int64{11, 12}, true, 1}, {[]int64{40, 50}, true, 0}, {[]int64{10, 11}, false, 0}, {[]int64{0, 1}, false, 0},
		{[]int64{12, 11}, false, 0},
	} {
		var log logged
		s := &shard{p: &Pipeline{log: slog.New(slog.NewTextHandler(&log, nil))}, tail: 10}
		var rs []*kgo.Record
		for _, at := range tt.offsets {
			rs = append(rs, &kgo.Record{Offset: at})
		}
		if err := s.follows(rs); (err == nil) != tt.good {
			t.Errorf("%v: %v", tt.offsets, err)
		}
		if n := len(log.lines("the brokers have not marked the last transaction as committed")); n != tt.warned {
			t.Errorf("%v: warned %d times", tt.offsets, n)
		}
	}
}

// TestChangelogMadeAgain makes the changelog again under a running process. What it would write there is no whole state:
// the shards stop.
func TestChangelogMadeAgain(t *testing.T) {
	s := newShop(t)
	s.start()
	s.crowd(50)
	s.buy("o1")
	s.read(0, 1)
	eventually(t, "the group to have offsets", func() bool { // with which a shard can tell that there was a state
		at, err := s.adm.FetchOffsets(t.Context(), s.cfg.App)
		return err == nil && len(at["purchases"]) == 2
	})
	s.madeAgain("shop.changelog")
	s.buy("o2")
	s.await("the shards to stop", func() bool {
		st := s.pipe.Status()
		return st[0].State == "stopped" && st[1].State == "stopped"
	})
	if n := s.counter("asiduo_shard_closed_total", "changelog_lost"); n < 2 {
		t.Errorf("closed %v times for the changelog", n)
	}
}

// TestChangelogMadeAgainOldBroker is the same with a broker that takes records by the name of their topic: the next cycle lands in the
// new one, is seen there by its offset, and is not committed, however large it is.
func TestChangelogMadeAgainOldBroker(t *testing.T) {
	for _, wiped := range []bool{false, true} {
		t.Run(fmt.Sprint("wiped ", wiped), func(t *testing.T) {
			s := newShop(t, kfake.MaxVersions(kversion.V3_7_0()))
			s.start()
			s.buy("o1")
			s.read(0, 1)
			eventually(t, "the group to have offsets", func() bool { // with which a shard can tell that there was a state
				at, err := s.adm.FetchOffsets(t.Context(), s.cfg.App)
				return err == nil && len(at["purchases"]) == 2
			})
			before := len(s.out(events.SegmentChanges))
			s.madeAgain("shop.changelog")
			s.crowd(50)
			stopped := func() bool {
				st := s.pipe.Status()
				return len(st) == 2 && st[0].State == "stopped" && st[1].State == "stopped" && strings.Contains(st[0].Reason, "has no state, but there was one")
			}
			s.await("the shards to stop", stopped)
			if lines := s.log.lines("it was cut, or deleted and made again"); len(lines) == 0 {
				t.Error("nobody has seen that the changelog goes on elsewhere")
			}
			s.stop()
			if wiped {
				s.disk = vfs.NewMem()
			}
			s.start()
			s.await("the shards to stop again", stopped)
			if n := len(s.out(events.SegmentChanges)); n != before {
				t.Errorf("%d changes were told of a cycle without the ones before it", n-before)
			}
		})
	}
}
