package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
)

// clientOptions are the options every client of a cluster has in common.
func clientOptions(c config.Kafka) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// Cycles are small when little happens; lz4 would take a block of 4 MiB for each batch on either side.
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		kgo.MaxDecompressBatchBytes(64 << 20),
		// What brokers refuse for a moment, records of a transaction right behind another one not least, is written again when the client
		// has asked again who leads what: by itself it waits five seconds with that, in which nobody of the shard is told anything.
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.DisableClientMetrics(),
		kgo.ClientID("asiduo"),
	}
	opts = append(opts, SharedDialer(c.TLS, slog.New(slog.DiscardHandler))...)
	if sendsSecret(c.SASL) && !c.TLS.Enabled {
		opts = append(opts, kgo.Dialer((&net.Dialer{Timeout: 10 * time.Second, ControlContext: onlyHere}).DialContext))
	}
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

// sendsSecret says whether whoever logs in sends the secret itself.
func sendsSecret(c config.SASL) bool { return c.Mechanism == "PLAIN" || c.Mechanism == "OAUTHBEARER" }

var errClear = errors.New("without kafka.tls.enabled the secret of kafka.sasl goes to loopback only")

// onlyHere refuses connections to other machines. The configuration has brokers on loopback only, but what those say where
// brokers are found may be anywhere.
func onlyHere(_ context.Context, _, address string, _ syscall.RawConn) error {
	if ap, err := netip.ParseAddrPort(address); err != nil || !ap.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%w, not to %s", errClear, address)
	}
	return nil
}
