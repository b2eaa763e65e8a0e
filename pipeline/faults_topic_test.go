package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
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
