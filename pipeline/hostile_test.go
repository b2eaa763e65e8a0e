package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// many is how often a flood is repeated: few by default, all of it in the nightly campaign.
func many(few, all int) int {
	if os.Getenv("ASIDUO_HOSTILE") == "full" {
		return all
	}
	return few
}

// partitioned counts the records that a client has given to their partitions.
type partitioned struct{ atomic.Int64 }

func (p *partitioned) OnProduceRecordPartitioned(*kgo.Record, int32) { p.Add(1) }

// flood writes records as a producer with its own idea of batches does: with a linger, as one.
func (s *shop) flood(opts []kgo.Opt, rs ...*kgo.Record) {
	s.t.Helper()
	var given partitioned
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.WithHooks(&given), kgo.SeedBrokers(s.cfg.Kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(1 << 20),
		kgo.BrokerMaxWriteBytes(1 << 29), kgo.ProducerBatchMaxBytes(1 << 28), kgo.ProducerLinger(0),
	}, opts...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	for _, r := range rs {
		cl.Produce(s.t.Context(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				s.t.Error(err)
			}
		})
	}
	// What lingers until here is one batch; a flush that finds records without a partition sends each as it gets one.
	eventually(s.t, "the client to know the partitions", func() bool { return given.Load() == int64(len(rs)) })
	if err := cl.Flush(s.t.Context()); err != nil || s.t.Failed() {
		s.t.Fatal(err)
	}
	for _, r := range rs {
		if s.ends[r.Topic] == nil {
			s.ends[r.Topic] = map[int32]int64{}
		}
		s.ends[r.Topic][r.Partition] = r.Offset + 1
	}
}

// unharmed holds that no shard was closed, and that a customer has so many orders.
func (s *shop) unharmed(orders map[string]int) {
	s.t.Helper()
	if err := s.pipe.Ready(); err != nil {
		s.t.Error(err)
	}
	for _, why := range closings {
		if n := s.counter("asiduo_shard_closed_total", why); n != 0 {
			s.t.Errorf("shards were closed %v times for %s", n, why)
		}
	}
	for who, want := range orders {
		if c, _ := s.customer(who); len(c.Orders) != want {
			s.t.Errorf("%.40q has %d orders, want %d", who, len(c.Orders), want)
		}
	}
}

// customer is what the store holds of one.
func (s *shop) customer(who string) (c state.Customer, n state.Interactions) {
	s.t.Helper()
	v, err := s.pipe.View(s.pipe.ShardOf(who))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	if _, err := v.Customer(who, &c); err != nil {
		s.t.Error(err)
	}
	if _, err := v.Interactions(who, &n); err != nil {
		s.t.Error(err)
	}
	return c, n
}

// bomb writes a batch of a few kilobytes that unpacks to 156 MiB, and says where.
func (s *shop) bomb(topic string, codec ...kgo.CompressionCodec) string {
	s.t.Helper()
	zeros := make([]byte, 52<<20)
	rs := make([]*kgo.Record, 3)
	for i := range rs {
		rs[i] = &kgo.Record{Topic: topic, Key: []byte(s.who[0]), Value: zeros, Timestamp: time.UnixMilli(draftedAt)}
	}
	s.flood([]kgo.Opt{kgo.ProducerBatchCompression(append(codec, kgo.ZstdCompression())...), kgo.ProducerLinger(time.Minute)}, rs...)
	if rs[0].Offset+2 != rs[2].Offset {
		s.t.Fatalf("the batch has the offsets %d to %d", rs[0].Offset, rs[2].Offset)
	}
	return fmt.Sprintf("%s/0@%d-%d", topic, rs[0].Offset, rs[2].Offset)
}

// TestBombs has bombs in the middle of a partition, two in a row, and at
// its end. Each is one dead letter that says where it was; nobody else notices, and nothing takes that much memory or work.
func TestBombs(t *testing.T) {
	s := newShop(t)
	s.buy("o1")
	want := []string{s.bomb("purchases")}
	s.buy("o2")
	want = append(want, s.bomb("purchases", kgo.GzipCompression()), s.bomb("purchases", kgo.Lz4Compression()))
	s.buy("o3")
	want = append(want, s.bomb("interactions"))
	took := allocated(func() {
		s.start()
		s.read(0, 1)
	})
	if took > 320<<20 { // what two codecs grow until they are stopped is in it; all of it would be 780
		t.Errorf("%d MiB were allocated for what is skipped", took>>20)
	}
	check := func() {
		t.Helper()
		s.unharmed(map[string]int{s.who[0]: 3, s.who[1]: 3})
		var got []string
		for _, r := range s.out(events.DeadLetters) {
			h := headersOf(r)
			got = append(got, h[events.TopicHeader]+"/"+h[events.PartitionHeader]+"@"+h[events.OffsetHeader]+"-"+h[events.LastOffsetHeader])
			detail := fmt.Sprintf("the batch of the offsets %s to %s unpacks to more than %d bytes, or has too many records or headers", h[events.OffsetHeader], h[events.LastOffsetHeader], 10<<20)
			if h[events.ReasonHeader] != "batch_too_large" || h[events.DetailHeader] != detail || r.Key != nil || r.Value != nil {
				t.Errorf("%v %q %q", h, r.Key, r.Value)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("dead letters of %q, want %q", got, want)
		}
	}
	check()
	if n := s.counter("asiduo_dead_letters_total", "batch_too_large"); n != 4 {
		t.Errorf("%v dead letters are counted", n)
	}
	if n := len(s.log.lines("a batch is skipped: see the dead letters")); n != 4 {
		t.Errorf("the log says so %d times", n)
	}
	s.stop() // what was skipped stays skipped
	s.start()
	s.read(0, 1)
	check()

	work := func(found func()) time.Duration {
		s.stop()
		found()
		return worked(func() {
			s.start()
			s.read(0, 1)
		})
	}
	plain, bombed := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for turn := range 3 {
		plain = min(plain, work(func() { s.buy(fmt.Sprintf("plain-%d", turn)) }))
		bombed = min(bombed, work(func() {
			for range 4 {
				s.bomb("purchases")
			}
		}))
	}
	if bombed > 3*plain {
		t.Errorf("a process that finds four of them takes %v of CPU time, one that finds two orders %v", bombed, plain)
	}
}

// TestBombsOfBothInputs leaps over one while the client holds another that nobody has polled, and drops it: that one comes up again.
func TestBombsOfBothInputs(t *testing.T) {
	s := newShop(t)
	s.buy("o1") // so that the two do not come up at once
	s.bomb("purchases")
	s.bomb("interactions")
	var told logged
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.cfg.Kafka.Brokers...), kgo.MaxDecompressBatchBytes(1<<20), kgo.WithLogger(kgo.BasicLogger(&told, kgo.LogLevelError, nil)),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"purchases": {0: kgo.NewOffset().At(0)}, "interactions": {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	on := &shard{p: s.process(), cl: cl, next: map[string]map[int32]int64{"purchases": {0: 0}, "interactions": {0: 0}}, epochs: map[string]map[int32]int32{"purchases": {0: -1}, "interactions": {0: -1}}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	met := map[string]int64{}
	for len(met) < 2 && ctx.Err() == nil {
		fetched := cl.PollRecords(ctx, 10)
		var unread []*kgo.ErrDecompressTooLarge
		for _, e := range fetched.Errors() {
			if b, ok := errors.AsType[*kgo.ErrDecompressTooLarge](e.Err); ok {
				unread = append(unread, b)
				met[b.Topic] = b.Offset
			}
		}
		if on.pending = append(on.pending, fetched.Records()...); len(unread) == 1 {
			eventually(t, "the client to have stopped at both", func() bool { return len(told.lines("stopping consuming the partition")) >= 2 })
		}
		on.leap(unread)
	}
	if want := map[string]int64{"purchases": 1, "interactions": 0}; !maps.Equal(met, want) || len(on.pending) != 1 {
		t.Errorf("batches at %v came up, and %d records; want %v and one", met, len(on.pending), want)
	}
}

// TestHostileRecords has records whose parts are at the limits of what a broker takes. What can be used is used; the
// rest is dead letters; and between them a customer goes on buying.
func TestHostileRecords(t *testing.T) {
	s := newShop(t)
	who, want, orders := s.who[0], map[string]string{}, 0
	put := func(why reason, r kgo.Record) {
		t.Helper()
		if r.Timestamp.IsZero() {
			r.Timestamp = time.UnixMilli(draftedAt)
		}
		s.flood(nil, &r)
		if why != "" {
			want[fmt.Sprintf("%s/0@%d", r.Topic, r.Offset)] = string(why)
		} else if r.Topic == "purchases" {
			orders++
		}
		s.buy(fmt.Sprintf("between-%d", orders)) // once, however often
	}
	padded := func(id string, size int) []byte {
		b := []byte(order(who, id))
		return slices.Concat(b[:len(b)-1], []byte(`,"pad":"`), bytes.Repeat([]byte("x"), size-len(b)-len(`,"pad":""`)), []byte(`"}`))
	}
	key, value := []byte(who), func(id string) []byte { return []byte(order(who, id)) }
	visit := []byte(fmt.Sprintf(`{"id":"v","customer_id":%q,"type":"visit","at":"2024-05-01T09:00:00Z"}`, who))
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	headers := func(n, size int) []kgo.RecordHeader {
		return slices.Repeat([]kgo.RecordHeader{{Key: "asiduo-mode", Value: bytes.Repeat([]byte("b"), size)}}, n)
	}
	s.buy("between-0")

	put("", kgo.Record{Topic: "purchases", Key: key, Value: padded("largest", s.cfg.Limits.MaxRecordBytes)})
	put(tooLarge, kgo.Record{Topic: "purchases", Key: key, Value: padded("larger", s.cfg.Limits.MaxRecordBytes+1)})
	put(tooLarge, kgo.Record{Topic: "purchases", Key: key, Value: make([]byte, 8<<20)})
	put(keyMismatch, kgo.Record{Topic: "purchases", Value: value("no key")})
	put(keyMismatch, kgo.Record{Topic: "purchases", Key: []byte{}, Value: value("empty key")})
	put(keyMismatch, kgo.Record{Topic: "purchases", Key: make([]byte, 2<<20), Value: value("large key")})
	put(undecodable, kgo.Record{Topic: "purchases", Key: key})
	put(undecodable, kgo.Record{Topic: "purchases", Key: key, Value: []byte{}})
	put(undecodable, kgo.Record{Topic: "purchases"})
	put(undecodable, kgo.Record{Topic: "purchases", Key: key, Value: []byte(strings.Repeat(`{"a":`, 10_000) + strings.Repeat("}", 10_000))})
	put("", kgo.Record{Topic: "purchases", Key: key, Value: value("many headers"), Headers: headers(10_000, 100)})
	put("", kgo.Record{Topic: "purchases", Key: key, Value: value("large header"), Headers: headers(1, 4<<20)})
	put(undecodable, kgo.Record{Topic: "purchases", Key: key, Value: []byte("{"), Headers: headers(1, 4<<20)})
	put(futureTime, kgo.Record{Topic: "purchases", Key: key, Value: value("no time"), Timestamp: at(-1)})
	put(futureTime, kgo.Record{Topic: "purchases", Key: key, Value: value("negative"), Timestamp: at(math.MinInt64 / 2)})
	put(futureTime, kgo.Record{Topic: "purchases", Key: key, Value: value("1970"), Timestamp: at(0)})
	put(futureTime, kgo.Record{Topic: "purchases", Key: key, Value: value("292278994"), Timestamp: at(math.MaxInt64)}) // -1 to the client, which counts nanoseconds
	put(reason(state.TooLate), kgo.Record{Topic: "purchases", Key: key, Value: value("2262"), Timestamp: at(math.MaxInt64 / 1_000_000)})
	put("", kgo.Record{Topic: "interactions", Key: key, Value: visit, Timestamp: at(math.MaxInt64 / 1_000_000)})
	put(futureTime, kgo.Record{Topic: "interactions", Key: key, Value: visit, Timestamp: at(-1)})
	put(badTime, kgo.Record{Topic: "interactions", Key: key, Value: bytes.Replace(visit, []byte("2024-05-01"), []byte("1970-01-01"), 1), Timestamp: at(-1)})

	s.start()
	s.read(0, 1)
	s.unharmed(map[string]int{who: 2*orders + 1, s.who[1]: orders + 1})
	if got := s.letters(); !maps.Equal(got, want) {
		t.Errorf("dead letters\n%v\nwant\n%v", got, want)
	}
	for _, r := range s.out(events.DeadLetters) {
		size := len(r.Key) + len(r.Value)
		for _, h := range r.Headers {
			size += len(h.Key) + len(h.Value)
		}
		if size > 2*events.MaxDeadBytes+1024 {
			t.Errorf("the dead letter of %v has %d bytes", headersOf(r), size)
		}
	}
	if _, n := s.customer(who); n.LastAt != draftedAt-state.Instant(time.Hour/time.Millisecond) {
		t.Errorf("the last interaction was at %d", n.LastAt)
	}
}

// hostileIDs are customer ids of up to 256 bytes that are text, and nothing else.
func hostileIDs() []string {
	fill := func(s string) string { return strings.Repeat(s, 256/len(s)) }
	all := []byte{}
	for c := range byte(128) {
		all = append(all, c)
	}
	return []string{
		fill("\x00"), fill("\n"), fill("\u202e"), fill("\u2028"), fill("\ufeff"), fill("\U0010ffff"), fill("../"), fill("%2f"), fill(`"`), fill(`\`),
		fill("'; drop table customers; --"), fill("=cmd|' /C calc'!A0,"), fill("${jndi:ldap://x}"), fill("<script>"), string(all) + string(all[:128]),
		" ", ".", "..", "/", "//", "?", "#", "%", "%00", "null", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		"6ba7b810-9dad-11d1-80b4-00c04fd430c", "\x01sixteen bytes---", "c\x02x", "mmark", "owner", "checkpoint",
	}
}

// TestHostileIDs lets customers buy whose ids are anything. Each is one customer, found under the very same bytes in the
// store, in the profile's key and in the events; no id is in the log, not even of what goes wrong.
func TestHostileIDs(t *testing.T) {
	s := newShop(t)
	var rs []*kgo.Record
	orders, want := map[string]int{}, map[string]string{}
	place, err := NewPartitioner("murmur2")
	if err != nil {
		t.Fatal(err)
	}
	add := func(key string, value []byte, why reason) {
		r := &kgo.Record{Topic: "purchases", Partition: place([]byte(key), 2), Key: []byte(key), Value: value, Timestamp: time.UnixMilli(draftedAt)}
		s.flood(nil, r)
		if rs = append(rs, r); why != "" {
			want[fmt.Sprintf("purchases/%d@%d", r.Partition, r.Offset)] = string(why)
		}
	}
	quoted := func(id string) []byte {
		return slices.Concat([]byte(`{"order_id":"o1","customer_id":`), events.AppendString(nil, id), []byte(`,"ordered_at":"2024-05-01T09:00:00Z","amount":"12.50","currency":"EUR"}`))
	}
	raw := func(id string) []byte { return bytes.Replace(quoted("ID"), []byte(`"ID"`), []byte(`"`+id+`"`), 1) }
	for _, id := range hostileIDs() {
		add(id, quoted(id), "")
		orders[id] = 1
	}
	long := strings.Repeat("x", 257)
	add(long, quoted(long), badField)
	for _, id := range []string{"\xff", "a\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf"} { // not UTF-8
		add(id, raw(id), undecodable)
	}
	add("\xed\xa0\x80", raw(`\ud800`), undecodable)
	add("\ufffd", raw(`\ud800`), undecodable)
	add("a", raw(`\u0061\u0000`), keyMismatch)

	var logged lockedBuffer
	log := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.start(func(p *Pipeline) {
		p.log = log
		p.touched = func(where string, what any) {
			if r, ok := what.(*kgo.Record); ok && where == "record" && bytes.HasPrefix(r.Key, []byte("<script>")) {
				panic("poison") // the worst that happens to a customer
			}
		}
	})
	s.read(0, 1)
	script := strings.Repeat("<script>", 32)
	delete(orders, script)
	for _, r := range rs {
		if string(r.Key) == script {
			want[fmt.Sprintf("purchases/%d@%d", r.Partition, r.Offset)] = string(unprocessable)
		}
	}
	for id := range orders {
		if c, _ := s.customer(id); len(c.Orders) != 1 {
			t.Errorf("%q has %d orders", id, len(c.Orders))
		}
	}
	if got := s.letters(); !maps.Equal(got, want) {
		t.Errorf("dead letters\n%v\nwant\n%v", got, want)
	}
	for _, topic := range []string{events.Profiles, events.SegmentChanges} {
		seen := map[string]int{}
		for _, r := range s.out(topic) {
			seen[string(r.Key)]++
			if h := headersOf(r); h["ce_subject"] != string(r.Key) || topic == events.SegmentChanges && h["ce_id"] != "shop:1:"+string(r.Key)+":s1" {
				t.Errorf("%q is about %q with the id %q", r.Key, h["ce_subject"], h["ce_id"])
			}
		}
		if !maps.Equal(seen, orders) {
			t.Errorf("%s of %v, want %v", topic, seen, orders)
		}
	}
	for _, id := range append(hostileIDs(), long) {
		if len(id) > 40 && (strings.Contains(logged.String(), id[:40]) || strings.Contains(logged.String(), strings.Trim(strconv.Quote(id[:40]), `"`))) {
			t.Errorf("%q is in the log", id)
		}
	}
	if !strings.Contains(logged.String(), "poison") {
		t.Error("nothing was logged")
	}
}

// lockedBuffer takes a log from many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
