package pipeline

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/asiduo/asiduo/config"
)

// fileError is a file of certificates or of a secret that cannot be used.
type fileError struct{ error }

func (f *fileError) Unwrap() error { return f.error }

// mechanism is how we log in; nil if we do not. It asks for the secret at each login.
func mechanism(c config.SASL) sasl.Mechanism {
	scrams := func(context.Context) (scram.Auth, error) {
		password, err := secret(c)
		return scram.Auth{User: c.Username, Pass: password}, err
	}
	switch c.Mechanism {
	case "PLAIN":
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := secret(c)
			return plain.Auth{User: c.Username, Pass: password}, err
		})
	case "SCRAM-SHA-256":
		return scram.Sha256(scrams)
	case "SCRAM-SHA-512":
		return scram.Sha512(scrams)
	case "OAUTHBEARER":
		return bearer{oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			token, err := secret(c)
			return oauth.Auth{Token: token}, err
		})}
	}
	return nil
}

// bearer is OAUTHBEARER whose logins end as others do when they are refused (RFC 7628, 3.2.3): the client's own takes the
// brokers' answer for a fault of theirs.
type bearer struct{ sasl.Mechanism }

func (b bearer) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	_, first, err := b.Mechanism.Authenticate(ctx, host)
	return bearing{}, first, err
}

type bearing struct{}

func (bearing) Challenge(answer []byte) (done bool, next []byte, err error) {
	if len(answer) == 0 {
		return true, nil, nil
	}
	return false, []byte{1}, nil // and then the brokers refuse
}

// secret is the password or the token as it is now: whoever replaces its file need not restart anything.
func secret(c config.SASL) (string, error) {
	key, file := "password_file", c.PasswordFile
	if c.Mechanism == "OAUTHBEARER" {
		key, file = "token_file", c.TokenFile
	}
	if file == "" {
		return string(c.Password), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", &fileError{fmt.Errorf("read kafka.sasl.%s: %w", key, err)}
	}
	if text = bytes.TrimRight(text, "\r\n"); len(text) == 0 {
		return "", &fileError{fmt.Errorf("kafka.sasl.%s %s is empty", key, file)}
	}
	return string(text), nil
}

// SharedDialer is the option of clients that live as long as the process, nil without TLS. Certificates are read at each
// connection; while a file is missing or in the middle of being written, those that were read before go on.
func SharedDialer(c config.TLS, log *slog.Logger) []kgo.Opt {
	if !c.Enabled {
		return nil
	}
	return []kgo.Opt{kgo.Dialer((&dialer{files: c, log: log}).dial)}
}

var errNoTLS = errors.New("no answer to a TLS handshake")

// dialer makes connections with TLS, each with the certificates of that moment.
type dialer struct {
	files config.TLS
	log   *slog.Logger

	mu   sync.Mutex  // guards what follows
	last *tls.Config // that could be read
	told seldom
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.config()
	if err != nil {
		return nil, err
	}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: c}).DialContext(ctx, network, address)
	if _, other := errors.AsType[tls.RecordHeaderError](err); other || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		err = fmt.Errorf("%w: %w", errNoTLS, err) // what brokers do to a length that nothing can have
	}
	return conn, err
}

func (d *dialer) config() (*tls.Config, error) {
	c, err := tlsConfig(d.files)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.last = c
	case d.last == nil:
		return nil, err
	case d.told.lets(err.Error()):
		d.log.Warn("certificates cannot be read, those of before are used", "err", err)
	}
	return d.last, nil
}

func tlsConfig(c config.TLS) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		var err error
		if t.RootCAs, err = authorities(c.CAFile); err != nil {
			return nil, err
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, &fileError{fmt.Errorf("read kafka.tls.cert_file and key_file: %w", err)}
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &fileError{fmt.Errorf("read kafka.tls.ca_file: %w", err)}
	}
	pool, err := config.Authorities(text)
	if err != nil {
		return nil, &fileError{fmt.Errorf("kafka.tls.ca_file %s %w", file, err)}
	}
	return pool, nil
}
