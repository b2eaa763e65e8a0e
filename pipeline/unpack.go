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

// recordBytes is about what the client needs for a record beside its bytes: one of no bytes takes seven in a batch.
const recordBytes = 192

// unpacker bounds what the batches of one response take in memory. The client unpacks all of a response before anybody sees a record of it,
// and a response of some megabytes can have thousands of batches none of which is too large. A batch beyond the bound is left over:
// the client gives what it has before it in the partition, and asks for it again.
type unpacker struct {
	batches kgo.Decompressor // which refuses one that is too large
	most    int
	taken   atomic.Int64 // by the response at work; there is one at a time (kgo.MaxConcurrentFetches)
}

// errLeftOver is what the client says of a partition of which it could give nothing for that; it goes on by itself.
var errLeftOver = errors.New("the response unpacks to too much, the rest is fetched again")

func newUnpacker(cfg config.Config) (*unpacker, error) {
	// The client's own unpacking takes this limit from its client alone, and is to be had from there.
	cl, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(maxBatchBytes(cfg)))
	if err != nil {
		return nil, fmt.Errorf("unpacking of batches: %w", err)
	}
	defer cl.Close()
	return &unpacker{batches: cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor), most: unpackedBatches * maxBatchBytes(cfg)}, nil
}

// Decompress unpacks a batch. One that alone is beyond the bound, of hundreds of thousands of records without content, is too large.
func (u *unpacker) Decompress(packed []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	b, err := u.batches.Decompress(packed, codec)
	if err != nil {
		return nil, err
	}
	size := int64(len(b) + recordBytes*recordsIn(b))
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

// recordsIn counts the records of an unpacked batch: each is its length and so many bytes.
func recordsIn(b []byte) (n int) {
	for len(b) > 0 {
		size, k := binary.Varint(b)
		if k <= 0 || size < 0 || size > int64(len(b)-k) {
			break // the client will say what is wrong
		}
		b = b[k+int(size):]
		n++
	}
	return n
}
