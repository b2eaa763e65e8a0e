package pipeline

import (
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

func days(n int) state.Instant { return state.Instant(n) * state.Day }

func millis(d config.Duration) state.Instant { return state.Instant(d.Std().Milliseconds()) }

func newDecoder(c config.Config) (*decoder, error) {
	zone, err := time.LoadLocation(c.Time.Zone)
	if err != nil {
		return nil, fmt.Errorf("time.zone: %w", err)
	}
	return &decoder{
		currency: c.Currency, minorDigits: c.Digits(), zone: zone, payloadTime: c.Time.EventTime == "payload",
		maxBytes: c.Limits.MaxRecordBytes, future: state.Instant(c.Limits.FutureHours) * 3_600_000, maxFuture: millis(c.Time.MaxFuture),
	}, nil
}

// Partitioner places a key on one of n partitions as producers do. Whenever s divides n, the key's partition among n
// modulo s is its partition among s: that makes shards independent of partition counts.
type Partitioner func(key []byte, n int32) int32

// NewPartitioner is the partitioner of a name of the configuration.
func NewPartitioner(name string) (Partitioner, error) {
	switch name {
	case "murmur2":
		t := kgo.StickyKeyPartitioner(nil).ForTopic("")
		return func(key []byte, n int32) int32 { return int32(t.Partition(&kgo.Record{Key: key}, int(n))) }, nil
	case "crc32":
		return func(key []byte, n int32) int32 { return int32(crc32.ChecksumIEEE(key) % uint32(n)) }, nil
	case "fnv1a":
		return func(key []byte, n int32) int32 {
			h := fnv.New32a()
			_, _ = h.Write(key)
			return max(int32(h.Sum32())%n, -(int32(h.Sum32()) % n))
		}, nil
	}
	return nil, fmt.Errorf("inputs.partitioner: unknown partitioner %q", name)
}

// made is what the state of an epoch is made with.
func (p *Pipeline) made(epoch int) store.Made { return madeWith(p.cfg, p.Shards(), epoch) }

func madeWith(c config.Config, shards int32, epoch int) store.Made {
	return store.Made{
		Shards: shards, Partitioner: c.Inputs.Partitioner, Epoch: epoch, Currency: c.Currency, Digits: c.Digits(), Zone: c.Time.Zone,
	}
}

// madeError says by which keys of the configuration two differ, or that they are of different epochs.
func madeError(was, is store.Made) error {
	if was.Epoch != is.Epoch {
		return fmt.Errorf("the state is of epoch %d, the published epoch is %d: was the topic of the parameters deleted and made again?", was.Epoch, is.Epoch)
	}
	return fmt.Errorf("the state was made with another %s than the configuration has now: change it back, or begin a new application (another app)", strings.Join(madeKeys(was, is), ", "))
}

// madeKeys are the keys of the configuration by which two differ.
func madeKeys(was, is store.Made) (keys []string) {
	for _, k := range []struct {
		key  string
		diff bool
	}{
		{"shards", was.Shards != is.Shards}, {"inputs.partitioner", was.Partitioner != is.Partitioner},
		{"currency", was.Currency != is.Currency}, {"minor_digits", was.Digits != is.Digits}, {"time.zone", was.Zone != is.Zone},
	} {
		if k.diff {
			keys = append(keys, k.key)
		}
	}
	return keys
}
