package pipeline

import (
	"bytes"
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
	var all []byte
	for range records {
		all = append(all, one...)
	}
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
	u, err := newUnpacker(cfg)
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
	for name, b := range map[string][]byte{"bytes": packed(t, 1, batch), "records": many} {
		if _, err := u.Decompress(b, kgo.CodecZstd); !errors.Is(err, kgo.ErrMaxDecompress) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
	for _, b := range [][]byte{nil, {1}, {2}, {4, 0}, binary.AppendVarint(nil, 1<<62)} {
		if n := recordsIn(b); n != 0 {
			t.Errorf("%d records in %v", n, b)
		}
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
