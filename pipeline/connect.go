package pipeline

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
)

// ClientOptions are the options every client of a cluster has in common.
func ClientOptions(c config.Kafka) ([]kgo.Opt, error) {
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
	if c.TLS.Enabled {
		t, err := tlsConfig(c.TLS)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	auth := scram.Auth{User: c.SASL.Username, Pass: string(c.SASL.Password)}
	switch c.SASL.Mechanism {
	case "PLAIN":
		opts = append(opts, kgo.SASL(plain.Auth{User: auth.User, Pass: auth.Pass}.AsMechanism()))
	case "SCRAM-SHA-256":
		opts = append(opts, kgo.SASL(auth.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		opts = append(opts, kgo.SASL(auth.AsSha512Mechanism()))
	}
	return opts, nil
}

// Connector makes clients of a cluster. Options are made anew for each, since clients keep parts of them and change
// those.
func Connector(c config.Kafka, always ...kgo.Opt) parameters.Connect {
	return func(more ...kgo.Opt) (*kgo.Client, error) {
		opts, err := ClientOptions(c)
		if err != nil {
			return nil, err
		}
		cl, err := kgo.NewClient(slices.Concat(opts, always, more)...)
		if err != nil {
			return nil, fmt.Errorf("make client: %w", err)
		}
		return cl, nil
	}
}

func tlsConfig(c config.TLS) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read kafka.tls.ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca_file %s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read kafka.tls.cert_file and key_file: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// Ping proves that the brokers can be reached and know us, within ten seconds. It comes before everything else: a
// client that cannot log in polls in silence.
func Ping(ctx context.Context, cl *kgo.Client, c config.Kafka) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := cl.Ping(ctx)
	if err == nil {
		return nil
	}
	at := strings.Join(c.Brokers, ", ")
	var dial *net.OpError
	var slow net.Error
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("the brokers at %s refuse user %q with %s: wrong user or password", at, c.SASL.Username, c.SASL.Mechanism)
	case errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return fmt.Errorf("the brokers at %s do not let users log in with %s: set kafka.sasl.mechanism to one they offer", at, c.SASL.Mechanism)
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate of the brokers at %s is signed by an authority we do not know: set kafka.tls.ca_file", at)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout(): // a TLS handshake has a time-out of its own
		return fmt.Errorf("no answer from the brokers at %s within 10s: is it the right port, and TLS or SASL as they expect?", at)
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("no broker reachable at %s: %w", at, dial.Err)
	case errors.Is(err, io.EOF) && c.SASL.Mechanism == "none":
		return fmt.Errorf("the brokers at %s hang up at once: do they want a user (kafka.sasl) or TLS (kafka.tls)?", at)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the brokers at %s hang up when user %q logs in with %s: do they know the user, this mechanism, and TLS as it is set here?", at, c.SASL.Username, c.SASL.Mechanism)
	}
	return fmt.Errorf("no broker reachable at %s: %w", at, err)
}
