package pipeline

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
)

// ClientOptions are the options every client of a cluster has in common. The files that they need must be there.
func ClientOptions(c config.Kafka) ([]kgo.Opt, error) {
	if err := checkFiles(c); err != nil {
		return nil, err
	}
	return clientOptions(c), nil
}

func clientOptions(c config.Kafka) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// Cycles are small when little happens; lz4 would take a block of 4 MiB for each batch on either side.
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		kgo.MaxDecompressBatchBytes(64 << 20),
		kgo.DisableClientMetrics(),
		kgo.ClientID("asiduo"),
	}
	opts = append(opts, SharedDialer(c.TLS, slog.New(slog.DiscardHandler))...)
	if m := mechanism(c.SASL); m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	return opts
}

// Connector makes clients of a cluster. Options are made anew for each, since clients keep parts of them and change
// those. Files are looked at when it connects: one that is being replaced just now is no reason to have no client.
func Connector(c config.Kafka, always ...kgo.Opt) parameters.Connect {
	return func(more ...kgo.Opt) (*kgo.Client, error) {
		cl, err := kgo.NewClient(slices.Concat(clientOptions(c), always, more)...)
		if err != nil {
			return nil, fmt.Errorf("make client: %w", err)
		}
		return cl, nil
	}
}
