package pipeline

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/events"
)

// packed is a batch of records of so many bytes each, 0 for the least that a record can be.
func packed(t *testing.T, records, size int) []byte {
	t.Helper()
	one := append(binary.AppendVarint(nil, int64(max(size, 6))), make([]byte, max(size, 6))...)
	return pack(t, bytes.Repeat(one, records))
}

func pack(t *testing.T, all []byte) []byte {
	t.Helper()
	c, err := kgo.DefaultCompressor(kgo.ZstdCompression())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	text, codec := c.Compress(&b, all)
	if codec != kgo.CodecZstd {
		t.Fatalf("packed by %d", codec)
	}
	return bytes.Clone(text)
}

// TestUnpacker holds what of a response is unpacked: all of an ordinary one, of others as much as the bound allows, and at least one batch.
func TestUnpacker(t *testing.T) {
	cfg := config.Default()
	u, err := newUnpacker(maxBatchBytes(cfg), unpackedBatches*maxBatchBytes(cfg))
	if err != nil {
		t.Fatal(err)
	}
	most, batch := u.most, maxBatchBytes(cfg)
	orders, large, many := packed(t, batch/120, 110), packed(t, 1, batch-1000), packed(t, batch/8, 0)
	accepted := func(b []byte) (n int) {
		u.OnBrokerRead(kgo.BrokerMetadata{}, int16(kmsg.Fetch), 0, 0, 0, nil)
		for range 100 {
			_, err := u.Decompress(b, kgo.CodecZstd)
			switch {
			case errors.Is(err, errLeftOver):
				return n
			case err != nil:
				t.Fatal(err)
			}
			n++
			u.OnBrokerRead(kgo.BrokerMetadata{}, int16(kmsg.Metadata), 0, 0, 0, nil) // no response with batches
		}
		return n
	}
	for range 2 { // a response is as another
		if n := accepted(large); n != most/batch {
			t.Errorf("%d batches of the greatest size are unpacked, want %d", n, most/batch)
		}
		if n := accepted(orders); n < 2 || n > 4 {
			t.Errorf("%d batches of orders are unpacked", n)
		}
		if n := accepted(packed(t, 100, 110)); n != 100 {
			t.Errorf("%d of 100 small batches are unpacked", n)
		}
	}
	for name, b := range map[string][]byte{"bytes": packed(t, 1, batch), "records": many, "headers": pack(t, record(batch/3))} {
		if _, err := u.Decompress(b, kgo.CodecZstd); !errors.Is(err, kgo.ErrMaxDecompress) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
	for _, b := range [][]byte{nil, {1}, {2}, {4, 0}, binary.AppendVarint(nil, 1<<62)} {
		if n := besides(b); n != 0 {
			t.Errorf("%d bytes for what is no record, %v", n, b)
		}
	}
	// Attributes, two numbers, no key, no value: then headers, of which no more are made room for than there are bytes.
	for _, b := range [][]byte{{}, {0}, {0, 0}, {0, 0, 0}, {0, 0, 0, 1}, {0, 0, 0, 1, 1}, {0, 0, 0, 1, 1, 0}, {0, 0, 0, 1, 1, 1}, {0, 0, 0, 1, 1, 200, 200}, {0, 0, 0, 100, 1}} {
		if n := headersOfRecord(b); n != 0 {
			t.Errorf("%d headers of %v", n, b)
		}
	}
	if n := headersOfRecord([]byte{0, 0, 0, 2, 'k', 4, 'v', 'v', 8, 0, 0, 0}); n != 3 {
		t.Errorf("room for %d headers in three bytes", n)
	}
}

// record is one without key and value, with so many headers of nothing.
func record(headers int) []byte {
	r := binary.AppendVarint([]byte{0, 0, 0, 1, 1}, int64(headers))
	r = append(r, make([]byte, 2*headers)...)
	return append(binary.AppendVarint(nil, int64(len(r))), r...)
}

// TestTurns has two inputs with far more than one response may unpack to, each: both go on, neither waits for the other's end.
func TestTurns(t *testing.T) {
	s := newShop(t)
	inputs := []string{"purchases", "interactions"}
	from := map[string]map[int32]kgo.Offset{}
	for _, topic := range inputs {
		for range 30 {
			s.flood([]kgo.Opt{kgo.ProducerBatchCompression(kgo.ZstdCompression())}, &kgo.Record{Topic: topic, Value: make([]byte, 9000<<10)})
		}
		from[topic] = map[int32]kgo.Offset{0: kgo.NewOffset().At(0)}
	}
	unpack, err := newUnpacker(maxBatchBytes(s.cfg), unpackedBatches*maxBatchBytes(s.cfg))
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(unpack.within(), kgo.SeedBrokers(s.cfg.Kafka.Brokers...), kgo.ConsumePartitions(from))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := map[string]int{}
	for seen[inputs[0]] == 0 || seen[inputs[1]] == 0 {
		fetched := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
		fetched.EachRecord(func(r *kgo.Record) { seen[r.Topic]++ })
	}
	if seen[inputs[0]] == 30 || seen[inputs[1]] == 30 {
		t.Errorf("one waited for all of the other: %v", seen)
	}
}

// TestManyBatches has batches none of which is too large, and which unpack to 540 MiB: they are taken a part at a time, all of them, and
// once. A batch of half a million records of nothing is one letter.
func TestManyBatches(t *testing.T) {
	s := newShop(t)
	s.buy("o1")
	opts := []kgo.Opt{kgo.ProducerBatchCompression(kgo.ZstdCompression())}
	const batches = 60
	for _, topic := range []string{"purchases", "interactions"} {
		for range batches / 2 {
			s.flood(opts, &kgo.Record{Topic: topic, Key: []byte(s.who[0]), Value: make([]byte, 9000<<10), Timestamp: time.UnixMilli(draftedAt)})
		}
	}
	empty := make([]*kgo.Record, 1<<19)
	for i := range empty {
		empty[i] = &kgo.Record{Topic: "purchases", Timestamp: time.UnixMilli(draftedAt)}
	}
	s.flood(append(opts, kgo.ProducerLinger(time.Minute)), empty...)
	s.buy("o2")
	s.start()
	s.read(0, 1)
	s.unharmed(map[string]int{s.who[0]: 2, s.who[1]: 2})
	if n := s.counter("asiduo_dead_letters_total", "batch_too_large"); n != 1 {
		t.Errorf("%v batches are counted", n)
	}
	letters := map[string]int{}
	for _, r := range s.out(events.DeadLetters) {
		letters[headersOf(r)[events.ReasonHeader]]++
	}
	if want := (map[string]int{"too_large": batches, "batch_too_large": 1}); fmt.Sprint(letters) != fmt.Sprint(want) {
		t.Errorf("letters of %v, want %v", letters, want)
	}
}
