// Command raw is the limit: it consumes, decodes strictly and produces inside transactions, and keeps no state.
// With -pebble it does the whole job the obvious way: one Pebble read and write per event, every timer moved at once.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/asiduo/asiduo/bench/peers/job"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	lanes := flag.Int("lanes", 2, "group members, each with its own transactional producer")
	outputs := flag.Int("outputs", 74, "write so many records ... (raw only)")
	events := flag.Int("events", 100, "... for so many that are read")
	usePebble := flag.Bool("pebble", false, "do the job with naive state in Pebble")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if *usePebble {
		*lanes = 1 // its state cannot follow a rebalance
	}
	var wg sync.WaitGroup
	for i := range *lanes {
		wg.Go(func() {
			var h handler = &limit{outputs: *outputs, events: *events}
			if *usePebble {
				h = &naive{parts: map[int32]*part{}, dir: os.Getenv("PEER_DIR")}
			}
			if err := lane(ctx, i, h); err != nil && ctx.Err() == nil {
				log.Fatal(err)
			}
		})
	}
	wg.Wait()
}

// handler turns one input record, or the end of one batch, into output.
type handler interface {
	record(r *kgo.Record, emit func(key, value []byte, at time.Time)) error
	flush(emit func(key, value []byte, at time.Time)) error
	stateful() bool
}

func lane(ctx context.Context, i int, h handler) error {
	group := os.Getenv("PEER_GROUP")
	s, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(os.Getenv("PEER_BROKERS")),
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(os.Getenv("PEER_INPUT")),
		kgo.TransactionalID(group+"-"+string(rune('0'+i))),
		kgo.DefaultProduceTopic(os.Getenv("PEER_OUTPUT")),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxPartitionBytes(4<<20),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerBatchMaxBytes(1<<20),
		kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(1<<20),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	)
	if err != nil {
		return err
	}
	defer s.Close()
	var failed error
	var mu sync.Mutex
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			mu.Lock()
			failed = err
			mu.Unlock()
		}
	}
	emit := func(key, value []byte, at time.Time) {
		s.Produce(ctx, &kgo.Record{Key: key, Value: value, Timestamp: at}, promise)
	}
	for ctx.Err() == nil {
		fs := s.PollRecords(ctx, 5000)
		if ctx.Err() != nil {
			return nil
		}
		if err := fs.Err(); err != nil {
			return err
		}
		if fs.NumRecords() == 0 {
			continue
		}
		if err := s.Begin(); err != nil {
			return err
		}
		for it := fs.RecordIter(); !it.Done(); {
			if err := h.record(it.Next(), emit); err != nil {
				return err
			}
		}
		if err := h.flush(emit); err != nil {
			return err
		}
		ok, err := s.End(ctx, kgo.TryCommit)
		if err != nil || failed != nil {
			return errors.Join(err, failed)
		}
		if !ok && h.stateful() { // aborted by a rebalance: the session has gone back, the state has not
			return errors.New("transaction aborted")
		}
	}
	return nil
}

// limit decodes and produces records of 300 bytes.
type limit struct {
	outputs, events, owed int
	p                     job.Purchase
}

var filler = []byte(strings.Repeat("segment changes, now and then. ", 10))[:300]

func (l *limit) record(r *kgo.Record, emit func(key, value []byte, at time.Time)) error {
	if err := job.Decode(r.Value, &l.p); err != nil {
		return err
	}
	for l.owed += l.outputs; l.owed >= l.events; l.owed -= l.events {
		emit(r.Key, filler, r.Timestamp)
	}
	return nil
}

func (l *limit) flush(func(key, value []byte, at time.Time)) error { return nil }

func (l *limit) stateful() bool { return false }

// naive keeps a database per partition. Its state is not in the transaction: it shows a cost, not a design.
type naive struct {
	dir   string
	parts map[int32]*part
	p     job.Purchase
}

type part struct {
	db    *pebble.DB
	clock int64
	fired int64
}

func (n *naive) record(r *kgo.Record, emit func(key, value []byte, at time.Time)) error {
	if err := job.Decode(r.Value, &n.p); err != nil {
		return err
	}
	o, err := n.p.Order()
	if err != nil {
		return err
	}
	t := n.parts[r.Partition]
	if t == nil {
		db, err := open(n.dir, r.Partition)
		if err != nil {
			return err
		}
		t = &part{db: db}
		n.parts[r.Partition] = t
	}
	at := r.Timestamp.UnixMilli()
	t.clock = max(t.clock, at)
	return t.update(r.Key, emit, func(c *job.Customer, ch func(job.Change)) { c.Apply(o, at, ch) })
}

func (n *naive) stateful() bool { return true }

// flush fires what is due in each partition.
func (n *naive) flush(emit func(key, value []byte, at time.Time)) error {
	for _, t := range n.parts {
		it, err := t.db.NewIter(&pebble.IterOptions{LowerBound: timerKey(t.fired, nil), UpperBound: timerKey(t.clock+1, nil)})
		if err != nil {
			return err
		}
		var due [][]byte
		for it.First(); it.Valid(); it.Next() {
			due = append(due, append([]byte(nil), it.Key()[9:]...))
		}
		if err := it.Close(); err != nil {
			return err
		}
		for _, key := range due {
			if err := t.update(key, emit, func(c *job.Customer, ch func(job.Change)) { c.Advance(t.clock, ch) }); err != nil {
				return err
			}
		}
		t.fired = t.clock + 1
	}
	return nil
}

func (t *part) update(key []byte, emit func(key, value []byte, at time.Time), f func(*job.Customer, func(job.Change))) error {
	k := append([]byte{'c'}, key...)
	var c job.Customer
	v, closer, err := t.db.Get(k)
	switch err {
	case nil:
		decode(v, &c)
		closer.Close()
	case pebble.ErrNotFound:
	default:
		return err
	}
	was := c.Due
	f(&c, func(ch job.Change) {
		emit(key, ch.AppendJSON(nil, string(key)), time.UnixMilli(ch.At))
	})
	if was != c.Due {
		if was != 0 {
			if err := t.db.Delete(timerKey(was, key), pebble.NoSync); err != nil {
				return err
			}
		}
		if c.Due != 0 {
			if err := t.db.Set(timerKey(c.Due, key), nil, pebble.NoSync); err != nil {
				return err
			}
		}
	}
	return t.db.Set(k, encode(&c), pebble.NoSync)
}

func timerKey(at int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{'t'}, uint64(at)), key...)
}

func open(dir string, partition int32) (*pebble.DB, error) {
	opts := &pebble.Options{DisableWAL: true, MemTableSize: 32 << 20, Cache: pebble.NewCache(128 << 20), Logger: quiet{}}
	opts.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	return pebble.Open(dir+"/"+string(rune('0'+partition)), opts)
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(format string, a ...any) { log.Printf(format, a...) }
func (quiet) Fatalf(format string, a ...any) { log.Fatalf(format, a...) }

const entry = 8 + 8 + 4

func encode(c *job.Customer) []byte {
	b := make([]byte, 0, 11+entry*len(c.Orders))
	b = append(b, byte(c.Segment), bit(c.Had), bit(c.DueCause == "recency"))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Due))
	for _, o := range c.Orders {
		b = binary.LittleEndian.AppendUint64(b, o.ID)
		b = binary.LittleEndian.AppendUint64(b, uint64(o.At)<<22|uint64(o.Rev)<<1|uint64(bit(o.Counted)))
		b = binary.LittleEndian.AppendUint32(b, uint32(o.Cents))
	}
	return b
}

func decode(b []byte, c *job.Customer) {
	c.Segment, c.Had, c.DueCause = job.Segment(b[0]), b[1] == 1, "window"
	if b[2] == 1 {
		c.DueCause = "recency"
	}
	c.Due = int64(binary.LittleEndian.Uint64(b[3:]))
	c.Orders = make([]job.Order, 0, (len(b)-11)/entry+1)
	for b = b[11:]; len(b) > 0; b = b[entry:] {
		m := binary.LittleEndian.Uint64(b[8:])
		c.Orders = append(c.Orders, job.Order{ID: binary.LittleEndian.Uint64(b), At: int64(m) >> 22,
			Rev: int(m >> 1 & 0x1fffff), Counted: m&1 == 1, Cents: int64(binary.LittleEndian.Uint32(b[16:]))})
	}
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
