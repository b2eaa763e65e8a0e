package pipeline

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// TestTouchedWhileMoved has a late order of somebody come while customers are moved to new rules, after silence was played for
// all of them beyond an instant at which the new rules call him silent: what he is told does not say whether he had been moved.
func TestTouchedWhileMoved(t *testing.T) {
	all, one := touchedWhileMoved(t, 10_000), touchedWhileMoved(t, 1)
	if len(all) < 3 || !slices.Equal(all, one) {
		t.Errorf("moved before:\n%q\nafter:\n%q", all, one)
	}
}

// touchedWhileMoved moves so many customers in a cycle, and returns what the last of them was told.
func touchedWhileMoved(t *testing.T, sweep int) (told []string) {
	s := newShop(t)
	s.cfg.Churn.Method, s.cfg.Cycle.Sweep = "none", sweep
	who := ""
	for i, others := 0, 0; others < 300 || who == ""; i++ {
		switch id := fmt.Sprintf("z%d", i); {
		case s.place([]byte(id), 2) != 0:
		case who == "":
			who = id
		default:
			s.put("purchases", 0, id[1:], order(id[1:], "o1")) // digits come before letters
			others++
		}
	}
	s.put("purchases", 0, who, order(who, "o1"))
	moving, late := false, make(chan struct{})
	s.start(func(p *Pipeline) {
		p.deps.Interrupt = func(id int32, at Step) error {
			if id != 0 || at != AfterApply {
				return nil
			}
			p.board.mu.Lock()
			on := p.board.serving[id]
			p.board.mu.Unlock()
			if on == nil || on.adopted.is.Versions.Rules < 2 { // on the goroutine of the shard
				return nil
			}
			if !moving {
				moving = true
				s.clock.Set(draftedAt + state.Instant(48*time.Hour/time.Millisecond))
			} else if on.silence.played > draftedAt+state.Instant(40*time.Hour/time.Millisecond) {
				select {
				case <-late:
				default:
					close(late)
				}
			}
			return nil
		}
	})
	s.read(0)
	s.clock.Set(draftedAt + 1000)
	s.await("the past to be played", func() bool { return s.pipe.Status()[0].CaughtUp && s.pipe.Status()[0].Horizon >= draftedAt })
	stricter := s.cfg
	stricter.Rules.RecencyDays = [4]int{1, 90, 180, 365}
	rules, err := RulesOf(stricter)
	if err != nil {
		t.Fatal(err)
	}
	topic, err := parameters.Open(t.Context(), Connector(s.cfg.Kafka), s.cfg.App)
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	if _, err := topic.PublishRules(t.Context(), rules, 1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-late:
	case <-time.After(patience):
		t.Fatalf("not moved: %+v", s.pipe.Status())
	}
	value := fmt.Sprintf(`{"order_id":"o2","customer_id":%q,"ordered_at":"2024-05-01T21:00:00Z","amount":"12.50","currency":"EUR"}`, who)
	r := &kgo.Record{Topic: "purchases", Key: []byte(who), Value: []byte(value), Timestamp: time.UnixMilli(draftedAt).Add(12 * time.Hour)}
	if err := s.cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s.ends["purchases"][0] = r.Offset + 1
	s.read(0)
	if moved := s.pipe.Status()[0].Sweep == nil; moved != (sweep > 1) {
		t.Fatalf("sweep of %d: all moved %v when the order came", sweep, moved)
	}
	s.await("all to be moved", func() bool { return s.pipe.Status()[0].Sweep == nil })
	for _, r := range s.out(events.SegmentChanges) {
		if string(r.Key) == who {
			told = append(told, string(r.Value))
		}
	}
	return told
}
