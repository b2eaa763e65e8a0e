package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
)

// fails makes our own code fail at a place for as long as the condition holds.
func fails(at string, when func(what any) bool) func(*Pipeline) {
	return func(p *Pipeline) {
		p.touched = func(where string, what any) {
			if where == at && when(what) {
				panic(fmt.Sprint("poison: ", what)) // which names a customer
			}
		}
	}
}

// TestPoison holds that records that our own code cannot survive become dead letters, each after three attempts, and
// that their neighbours are processed once.
func TestPoison(t *testing.T) {
	s := newShop(t)
	bad := map[int64]bool{1: true, 2: true, 4: true} // of purchases/0, in one cycle
	for i := range 6 {
		s.buy(fmt.Sprintf("o%d", i))
	}
	s.start(func(p *Pipeline) {
		p.touched = func(where string, what any) {
			r, ok := what.(*kgo.Record)
			if ok && where == "record" && r.Topic == "purchases" && r.Partition == 0 && bad[r.Offset] {
				panic("poison")
			}
		}
	})
	s.read(0, 1)
	want := map[string]string{}
	for offset := range bad {
		want[fmt.Sprintf("purchases/0@%d", offset)] = "unprocessable"
	}
	if got := s.letters(); !maps.Equal(got, want) {
		t.Errorf("dead letters %v, want %v", got, want)
	}
	if n := s.counter("asiduo_shard_closed_total", "poison"); n != 9 {
		t.Errorf("closed %v times, want three for each record", n)
	}
	if len(s.log.lines("panic in the work of a cycle")) == 0 {
		t.Error("the log does not say where")
	}
	for shard, want := range []int{3, 6} {
		v, err := s.pipe.View(int32(shard))
		if err != nil {
			t.Fatal(err)
		}
		var c state.Customer
		if known, err := v.Customer(s.who[shard], &c); !known || err != nil || len(c.Orders) != want {
			t.Errorf("shard %d: %v %v, %d orders, want %d", shard, known, err, len(c.Orders), want)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMisrouted takes records whose key belongs to another shard.
func TestMisrouted(t *testing.T) {
	for _, policy := range []string{"dead_letter", "fail"} {
		t.Run(policy, func(t *testing.T) {
			s := newShop(t)
			s.cfg.Inputs.Misrouted = policy
			s.start()
			s.buy("o1")
			s.read(0, 1)
			at := s.put("purchases", 1, s.who[0], order(s.who[0], "o2"))
			s.buy("o3")
			if policy == "fail" {
				s.stopped(1, "misrouted", fmt.Sprintf("record purchases/1@%d is on the wrong partition for its key by murmur2: set inputs.partitioner to what the producers use, or inputs.misrouted to dead_letter", at))
				s.read(0)
				if n := s.pipe.Positions()["purchases"][1]; n > at {
					t.Errorf("the stopped shard has gone on to %d", n)
				}
				return
			}
			s.read(0, 1)
			if got, want := s.letters(), map[string]string{fmt.Sprintf("purchases/1@%d", at): "misrouted"}; !maps.Equal(got, want) {
				t.Errorf("dead letters %v, want %v", got, want)
			}
			if err := s.pipe.Ready(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPoisonAmongMany has a record that fails only when the cycle writes profiles, where no record is to blame: records
// then go one by one, and the one that fails alone becomes a dead letter.
func TestPoisonAmongMany(t *testing.T) {
	s := newShop(t)
	for i := range 6 {
		s.buy(fmt.Sprintf("o%d", i))
	}
	var last atomic.Int64 // offset of the record of shard 0 that was processed last in the cycle
	s.start(func(p *Pipeline) {
		p.touched = func(where string, what any) {
			switch r, ok := what.(*kgo.Record); {
			case ok && where == "record" && r.Partition == 0:
				last.CompareAndSwap(-1, r.Offset)
				if r.Offset == 3 {
					last.Store(3)
				}
			case where == "dead letter":
				last.Store(-1)
			case where == "profile" && what == s.who[0]:
				if last.Swap(-1) == 3 {
					panic("poison")
				}
			}
		}
	})
	s.read(0, 1)
	if got, want := s.letters(), map[string]string{"purchases/0@3": "unprocessable"}; !maps.Equal(got, want) {
		t.Errorf("dead letters %v, want %v", got, want)
	}
	for shard, want := range []int{5, 6} {
		if n := s.orders(int32(shard)); n != want {
			t.Errorf("shard %d: %d orders, want %d", shard, n, want)
		}
	}
	if n := s.counter("asiduo_shard_closed_total", "poison"); n != 6 {
		t.Errorf("closed %v times, want three in company and three alone", n)
	}
	if err := s.pipe.Ready(); err != nil {
		t.Error(err)
	}
}

// TestPoisonInSilence has a customer whose silence our own code cannot survive. No record can be given up for it: the
// shard stops and says so, and the other goes on.
func TestPoisonInSilence(t *testing.T) {
	s := newShop(t)
	s.start(fails("silence", func(what any) bool { return what == s.who[0] }))
	s.buy("o1")
	s.read(0, 1)
	s.clock.Set(draftedAt + 400*state.Day)
	s.stopped(0, "poison", "play the silence of a customer: panic with a string")
	s.await("the silence of the other", func() bool { return s.pipe.horizonOf(1) >= draftedAt+400*state.Day })
	if got := s.letters(); len(got) != 0 {
		t.Errorf("dead letters %v", got)
	}
	if n := s.counter("asiduo_shard_closed_total", "poison"); n != 3 {
		t.Errorf("closed %v times, want 3", n)
	}
	if lines := s.log.lines("panic in the work of a cycle"); len(lines) != 3 || !strings.Contains(lines[0], "silence.go") || strings.Contains(lines[0], s.who[0]) {
		t.Errorf("log: %q", lines)
	}
}

// TestPoisonInSilenceUnderLoad has the same while records keep coming: the shard stops too, and does not read on for
// ever without playing silence.
func TestPoisonInSilenceUnderLoad(t *testing.T) {
	s := newShop(t)
	s.clock.Set(draftedAt + 400*state.Day)
	var n atomic.Int64
	s.start(fails("silence", func(what any) bool {
		s.cl.Produce(t.Context(), &kgo.Record{ // there is always one more
			Topic: "purchases", Partition: 0, Key: []byte(s.who[0]), Value: []byte(order(s.who[0], fmt.Sprintf("more-%d", n.Add(1)))),
		}, nil)
		return what == s.who[0]
	}))
	s.buy("o1")
	s.stopped(0, "poison", "play the silence of a customer: panic with a string")
}

// TestPoisonDeadLetter has a record whose dead letter fails too.
func TestPoisonDeadLetter(t *testing.T) {
	s := newShop(t)
	s.buy("o1")
	s.start(func(p *Pipeline) {
		p.touched = func(where string, what any) {
			if r, ok := what.(*kgo.Record); ok && r.Partition == 0 {
				panic("poison")
			}
		}
	})
	s.stopped(0, "poison", "process purchases/0@0: panic with a string")
	s.read(1)
}

// TestPoisonEverywhere is a release that can process nothing, such as one with a rule that panics: it must not turn the
// stream into dead letters.
func TestPoisonEverywhere(t *testing.T) {
	s := newShop(t)
	for i := range 15 {
		s.buy(fmt.Sprintf("o%d", i))
	}
	s.start(fails("record", func(what any) bool { return what.(*kgo.Record).Partition == 0 }))
	s.stopped(0, "poison", "11 records within an hour could not be processed, which is a fault of this release: process purchases/0@10: panic with a string")
	s.read(1)
	if got := s.letters(); len(got) != 0 { // those before it are in the same cycle, which is not committed
		t.Errorf("dead letters %v", got)
	}
	s.stop()
	s.start() // the next release
	s.read(0, 1)
	if n := s.orders(0); n != 15 {
		t.Errorf("%d orders, want all 15", n)
	}
}

// TestPoisonBehindRecords: the silence of a customer fails whenever it is due, which it is only in cycles that have records too. It
// is not for ever taken for a fault of those.
func TestPoisonBehindRecords(t *testing.T) {
	var p poisoned
	for faults := 1; ; faults++ {
		if err := p.note(&poisonError{records: 2, who: 7, err: errors.New("panic")}); faults > 9 || err == nil {
			t.Fatalf("%v after %d faults", err, faults)
		} else if stop, ok := errors.AsType[*stopError](err); ok {
			if stop.reason != "poison" || stop.Error() != "play the silence of a customer: panic" {
				t.Errorf("stops for %s: %v", stop.reason, stop)
			}
			return
		}
		for p.alone > 0 {
			records, silence := p.share(100)
			p.passed(records, 0, silence)
		}
	}
}

// TestPoisonOfACustomer: all records of one customer fail, which only shows when they are processed one by one. Each of them becomes
// a dead letter, and his silence is not suspected.
func TestPoisonOfACustomer(t *testing.T) {
	var p poisoned
	fail := func(e poisonError) {
		t.Helper()
		e.who, e.err = 7, errors.New("panic")
		if err := p.note(&e); err == nil {
			t.Fatal("no fault")
		} else if stop, ok := errors.AsType[*stopError](err); ok {
			t.Fatalf("stops: %v", stop)
		}
	}
	for n := range int64(maxDead) {
		for p.alone == 0 {
			fail(poisonError{records: 2})
		}
		at := recordID{"purchases", 0, n}
		for !p.skips(at) {
			fail(poisonError{at: at, records: 1})
		}
		for p.alone > 0 {
			records, silence := p.share(100)
			p.passed(records, 0, silence)
		}
	}
}
