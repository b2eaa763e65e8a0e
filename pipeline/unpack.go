package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
)

// maxBatchBytes is what a batch of an input may unpack to. Producers bound their batches before packing them, at 1 MB or
// less unless told otherwise; a few kilobytes that unpack to gigabytes must not take the process along.
func maxBatchBytes(cfg config.Config) int {
	return int(cfg.Cycle.FetchBuffer.Bytes()) + 2*cfg.Limits.MaxRecordBytes
}

// unpackedBatches is how many batches of the greatest size a response may unpack to: with what the client needs for each record, a batch of
// records of some hundred bytes takes three times what it unpacks to.
const unpackedBatches = 8

// recordBytes and headerBytes are about what the client needs for a record and for a header beside their bytes: those of nothing take seven
// and two in a batch.
const (
	recordBytes = 192
	headerBytes = 40
)

// unpacker bounds what the packed batches of one response take in memory. The client unpacks all of a response before anybody sees a record
// of it, and a response of some megabytes can have thousands of batches none of which is too large. A batch beyond the bound is left over:
// the client gives what it has before it in the partition, and asks for it again. What is not packed is bounded by what may be fetched alone.
type unpacker struct {
	batches kgo.Decompressor // which refuses one that is too large
	most    int
	taken   atomic.Int64 // by the response at work; there is one at a time
}

// errLeftOver is what the client says of a partition of which it could give nothing for that; it goes on by itself.
var errLeftOver = errors.New("the response unpacks to too much, the rest is fetched again")

// newUnpacker is for one client, whose batches may unpack to so many bytes each, and together with what the client needs for them to as many as
// most.
func newUnpacker(batch, most int) (*unpacker, error) {
	// The client's own unpacking takes this limit from its client alone, and is to be had from there.
	cl, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(batch))
	if err != nil {
		return nil, fmt.Errorf("unpacking of batches: %w", err)
	}
	defer cl.Close()
	return &unpacker{batches: cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor), most: most}, nil
}

// within are the options of its client. Without a session each request names all partitions, another one first each time: a broker that remembers
// what it has sent would have the last of them left over for as long as those before it fill the bound.
func (u *unpacker) within() []kgo.Opt {
	return []kgo.Opt{kgo.WithDecompressor(u), kgo.WithHooks(u), kgo.MaxConcurrentFetches(1), kgo.DisableFetchSessions()}
}

// Decompress unpacks a batch. One that alone is beyond the bound, for hundreds of thousands of records or headers without content, is too large.
func (u *unpacker) Decompress(packed []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	b, err := u.batches.Decompress(packed, codec)
	if err != nil {
		return nil, err
	}
	size := int64(len(b)) + besides(b)
	switch {
	case size > int64(u.most):
		return nil, kgo.ErrMaxDecompress
	case u.taken.Load() > 0 && u.taken.Load()+size > int64(u.most):
		return nil, errLeftOver
	}
	u.taken.Add(size)
	return b, nil
}

// OnBrokerRead begins a response.
func (u *unpacker) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == int16(kmsg.Fetch) {
		u.taken.Store(0)
	}
}

// besides is what the client needs for the records of an unpacked batch beside their bytes. What is malformed is its to say.
func besides(b []byte) (size int64) {
	for len(b) > 0 {
		n, k := binary.Varint(b)
		if k <= 0 || n < 0 || n > int64(len(b)-k) {
			break
		}
		size += recordBytes + headerBytes*headersOfRecord(b[k:k+int(n)])
		b = b[k+int(n):]
	}
	return size
}

// headersOfRecord is how many headers a record says that it has: the client makes room for as many as it has bytes for, before it reads one. Before
// them are attributes, two numbers, key and value (KIP-98).
func headersOfRecord(r []byte) int64 {
	r = r[min(1, len(r)):]
	for range 2 {
		_, k := binary.Varint(r)
		r = r[max(k, 0):]
	}
	for range 2 {
		n, k := binary.Varint(r)
		r = r[max(k, 0):]
		r = r[min(max(n, 0), int64(len(r))):]
	}
	n, k := binary.Varint(r)
	return min(max(n, 0), int64(len(r)-max(k, 0)))
}
