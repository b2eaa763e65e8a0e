package pipeline

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/transaction"
)

// deaf loses the answers to requests of a kind, which the broker has done, together with their connections.
type deaf struct {
	key  kmsg.Key
	left atomic.Int32 // answers to lose
}

func (d *deaf) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &deafConn{Conn: conn, d: d, sent: map[uint32]bool{}}, err
}

type deafConn struct {
	net.Conn
	d      *deaf
	answer []byte // not yet read

	mu   sync.Mutex
	sent map[uint32]bool // requests of the kind, by correlation id
}

// Write is called with whole requests.
func (c *deafConn) Write(b []byte) (int, error) {
	if kmsg.Key(binary.BigEndian.Uint16(b[4:])) == c.d.key {
		c.mu.Lock()
		c.sent[binary.BigEndian.Uint32(b[8:])] = true
		c.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	if len(c.answer) == 0 {
		head := make([]byte, 8) // size and correlation id
		if _, err := io.ReadFull(c.Conn, head); err != nil {
			return 0, err
		}
		rest := make([]byte, binary.BigEndian.Uint32(head)-4)
		if _, err := io.ReadFull(c.Conn, rest); err != nil {
			return 0, err
		}
		c.mu.Lock()
		of := c.sent[binary.BigEndian.Uint32(head[4:])]
		c.mu.Unlock()
		if of && c.d.left.Add(-1) >= 0 {
			return 0, io.ErrUnexpectedEOF
		}
		c.answer = append(head, rest...)
	}
	n := copy(b, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

// TestLostAnswer loses the answer to the end of a transaction that was committed, once and again when the client asks once
// more: the shard is closed, finds the cycle in the changelog, and nothing of it counts or is told twice.
func TestLostAnswer(t *testing.T) {
	s := newShop(t)
	d := &deaf{key: kmsg.EndTxn}
	s.start(func(p *Pipeline) { p.deps.Client = append(p.deps.Client, kgo.Dialer(d.dial)) })
	s.buy("o0")
	s.read(0, 1)
	cycle := s.pipe.cycleOf(0)
	for n := 1; n <= 5; n++ {
		d.left.Store(2)
		s.put("purchases", 0, s.who[0], order(s.who[0], fmt.Sprintf("o%d", n)))
		s.read(0)
		if left := d.left.Load(); left > 0 {
			t.Fatalf("%d answers were not lost", left)
		}
		if got := s.counter("asiduo_shard_closed_total", "error"); got != float64(n) {
			t.Errorf("closed %v times, want %d", got, n)
		}
		if got := s.orders(0); got != n+1 {
			t.Errorf("%d orders, want %d", got, n+1)
		}
		if got := s.pipe.cycleOf(0); got != cycle+uint64(n) { // the record was not processed again
			t.Errorf("cycle %d, want %d", got, cycle+uint64(n))
		}
	}
	if len(s.log.lines("shard closed, acquiring it again")) == 0 {
		t.Error("the log does not say so")
	}
	s.contiguous()
}

// TestFenced holds a shard, as a pause of its process would, between the work of a cycle and its transaction, while another
// takes its transactional id: what it writes then is refused, and its record counts once.
func TestFenced(t *testing.T) {
	s := newShop(t)
	var hold atomic.Bool
	held, let := make(chan struct{}), make(chan struct{})
	s.start(func(p *Pipeline) {
		p.deps.Interrupt = func(shard int32, at Step) error {
			if shard == 0 && at == BeforeProduce && hold.CompareAndSwap(true, false) {
				close(held)
				<-let
			}
			return nil
		}
	})
	s.buy("o1")
	s.read(0, 1)
	hold.Store(true)
	s.buy("o2")
	<-held
	other, err := kgo.NewClient(kgo.SeedBrokers(s.cfg.Kafka.Brokers...), kgo.TransactionalID(transactionalID(s.cfg.App, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, _, err = other.ProducerID(t.Context())
	close(let)
	if err != nil {
		t.Fatal(err)
	}
	s.read(0, 1)
	if n := s.counter("asiduo_shard_closed_total", "fenced"); n != 1 {
		t.Errorf("the zombie was fenced %v times", n)
	}
	if len(s.log.lines("reason=fenced")) != 1 {
		t.Errorf("log: %q", s.log.lines("shard closed"))
	}
	if n := s.orders(0); n != 2 {
		t.Errorf("%d orders", n)
	}
	s.contiguous()
}

// TestOvertaken has a newer owner take a shard while it is restored, and compaction take the owner record that the restore
// reads up to: what it has read is not what the newer owner will make of it, so it serves nothing and begins again.
func TestOvertaken(t *testing.T) {
	s := newShop(t)
	s.cfg.Group.SessionTimeout = config.Duration(2 * time.Minute)                      // no stall of the machine moves a shard
	s.alter("retention.ms", "-1", "purchases", "interactions", "shop.segment-changes") // the broker deletes what is old when it compacts
	s.start()
	s.buy("o1")
	s.read(0, 1)
	s.stop()
	other, err := kgo.NewClient(kgo.SeedBrokers(s.cfg.Kafka.Brokers...), kgo.TransactionalID(transactionalID(s.cfg.App, 0)), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var steps []Step // of shard 0, until it is overtaken and after
	var overtaken atomic.Bool
	// What has been fetched before would be there all the same: clients fetch as soon as they are made.
	held := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Topic: "shop.changelog", Count: -1})
	s.start(func(p *Pipeline) {
		p.deps.Interrupt = func(shard int32, at Step) error {
			if shard != 0 {
				return nil
			}
			if steps = append(steps, at); at != AfterOwner || overtaken.Swap(true) {
				return nil
			}
			err := transaction.Commit(t.Context(), other, []*kgo.Record{{Topic: "shop.changelog", Key: []byte(ownerKey), Value: []byte(`{"owner":"other"}`)}})
			s.cluster.Compact()
			held.Remove()
			return err
		}
	})
	s.buy("o2")
	s.read(0, 1)
	if n := s.counter("asiduo_shard_closed_total", "fenced"); n != 1 || len(s.log.lines(errFenced.Error())) != 1 {
		t.Errorf("fenced %v times: %q", n, s.log.lines("shard closed"))
	}
	if n := s.gauge("asiduo_assignments_total"); n != 1 {
		t.Errorf("the group gave shards %v times", n)
	}
	s.stop()
	if want := []Step{BeforeInit, AfterInit, BeforeOwner, AfterOwner, BeforeInit}; !slices.Equal(steps[:len(want)], want) {
		t.Errorf("steps %q", steps)
	}
	s.start()
	s.read(0, 1)
	if n := s.orders(0); n != 2 {
		t.Errorf("%d orders", n)
	}
	s.contiguous()
}
