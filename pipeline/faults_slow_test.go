package pipeline

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
)

// pulse counts the heartbeats that the brokers are sent. In a test it is a clock that stands still while the machine does.
type pulse struct {
	mu    sync.Mutex
	beats int
	ended bool
	next  *sync.Cond
}

func (s *shop) pulse() *pulse {
	p := &pulse{}
	p.next = sync.NewCond(&p.mu)
	s.cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.beats++
		p.next.Broadcast()
		return nil, nil, false
	})
	return p
}

// wait returns after so many more, or at the end.
func (p *pulse) wait(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for until := p.beats + n; p.beats < until && !p.ended; {
		p.next.Wait()
	}
}

func (p *pulse) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.next.Broadcast()
}

// TestDiskSlow has a disk that takes its time: the process stays a member of the group, more than it can write waits in the
// inputs, the metrics tell of both, and nothing is lost. How long a sync takes is told in heartbeats, with a session time-out beyond
// all stalls of the machine: a heartbeat that waited for the disk would wait for ever.
func TestDiskSlow(t *testing.T) {
	s := newShop(t)
	disk := newSick()
	s.disk, s.cfg.State.FlushEvery, s.cfg.Group.SessionTimeout = disk, 1e8, config.Duration(2*time.Minute)
	s.cfg.State.Memtable, s.cfg.Cycle.Records = 64<<10, 100
	s.start() // the first time, when it gives itself a name, before there is a heartbeat
	s.buy("o0")
	s.read(0, 1)
	s.stop()
	beats := s.pulse()
	lasts := func(n int) {
		f := func() { beats.wait(n) }
		disk.takes.Store(&f)
	}
	lasts(12)
	s.start(func(p *Pipeline) { p.stuck = 2 * time.Minute })
	t.Cleanup(beats.end) // before the process ends
	for i := range 4 {
		s.buy(fmt.Sprintf("o%d", i+1))
		s.read(0, 1)
	}
	eventually(t, "the slow disk to be written", func() bool { return disk.slow.Load() > 4 })
	lasts(3)
	if n := s.counter("asiduo_lag_records", "purchases"); n != 0 {
		t.Errorf("%v records wait", n)
	}
	s.crowd(3000)
	eventually(t, "records to wait", func() bool { return s.counter("asiduo_lag_records", "purchases") > 500 })
	eventually(t, "the store to make writes wait", func() bool { return s.counter("asiduo_store_stalled_seconds_total", "0") > 0.1 })
	disk.takes.Store(nil)
	beats.end()
	s.read(0, 1)
	if n := s.gauge("asiduo_assignments_total"); n != 1 {
		t.Errorf("shards were assigned %v times", n)
	}
	if n := s.orders(0); n != 5 {
		t.Errorf("%d orders", n)
	}
}
