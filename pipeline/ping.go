package pipeline

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
)

// Ping proves that the brokers can be reached and know us, within ten seconds, or says in a sentence what is wrong. It
// comes before everything else: a client that cannot log in polls in silence. What a user may do, no ping tells.
func Ping(ctx context.Context, cl *kgo.Client, c config.Kafka) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := cl.Ping(ctx)
	if err == nil {
		return nil
	}
	at := strings.Join(c.Brokers, ", ")
	for _, told := range []error{ofFile(err), ofLogin(err, at, c.SASL), ofCertificate(err, at, c.TLS), ofConnection(err, at, c)} {
		if told != nil {
			return told
		}
	}
	return fmt.Errorf("no broker reachable at %s: %w", at, err)
}

func ofFile(err error) error {
	if f, ok := errors.AsType[*fileError](err); ok {
		return f
	}
	return nil
}

func ofLogin(err error, at string, c config.SASL) error {
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed) && c.Mechanism == "OAUTHBEARER":
		if end := expiry(c); !end.IsZero() && end.Before(time.Now()) {
			return fmt.Errorf("the brokers at %s refuse the token in %s: it expired at %s", at, c.TokenFile, end.UTC().Format(time.RFC3339))
		}
		return fmt.Errorf("the brokers at %s refuse the token in %s: is it for them, and whole?", at, c.TokenFile)
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("the brokers at %s refuse user %q with %s: wrong user or password", at, c.Username, c.Mechanism)
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Errorf("the brokers at %s do not let users log in with %s: set kafka.sasl.mechanism to one they offer", at, c.Mechanism)
	case errors.Is(err, kerr.IllegalSaslState):
		return fmt.Errorf("the brokers at %s let nobody log in there: set kafka.sasl.mechanism to none, or kafka.brokers to another port", at)
	}
	return nil
}

// ofCertificate is about theirs, which we look at, and about ours, of which they say what is wrong in an alert.
func ofCertificate(err error, at string, c config.TLS) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("the certificate of the brokers at %s is signed by an authority we do not know: set kafka.tls.ca_file", at)
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("the certificate of the brokers at %s is for another host (%w): set kafka.brokers or kafka.tls.server_name to a name that it has", at, name)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Errorf("the certificate of the brokers at %s is not valid now (%s): renew it, or correct the clock of this machine", at, invalid.Detail)
	}
	alert, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok || alert.Op != "remote error" || !strings.Contains(alert.Err.Error(), "certificate"):
		return nil
	case c.CertFile == "":
		return fmt.Errorf("the brokers at %s want to see a certificate: set kafka.tls.cert_file and kafka.tls.key_file", at)
	}
	return fmt.Errorf("the brokers at %s refuse the certificate in %s (%w): has it expired, or do they not know who signed it?", at, c.CertFile, alert.Err)
}

func ofConnection(err error, at string, c config.Kafka) error {
	dial, _ := errors.AsType[*net.OpError](err)
	slow, _ := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, errNoTLS):
		return fmt.Errorf("the brokers at %s do not speak TLS there: set kafka.tls.enabled to false, or kafka.brokers to another port", at)
	case strings.Contains(err.Error(), "tls alert record"): // as the client has recognised what looked like no answer
		return fmt.Errorf("the brokers at %s speak TLS: set kafka.tls.enabled", at)
	case errors.Is(err, context.DeadlineExceeded), slow != nil && slow.Timeout(): // a TLS handshake has a time-out of its own
		return fmt.Errorf("no answer from the brokers at %s within 10s: is it the right port, and TLS or SASL as they expect?", at)
	case dial != nil && dial.Op == "dial":
		return fmt.Errorf("no broker reachable at %s: %w", at, dial.Err)
	case errors.Is(err, io.EOF) && c.SASL.Mechanism == "none" && c.TLS.Enabled:
		return fmt.Errorf("the brokers at %s hang up at once: do they want a user (kafka.sasl)?", at)
	case errors.Is(err, io.EOF) && c.SASL.Mechanism == "none":
		return fmt.Errorf("the brokers at %s hang up at once: do they want a user (kafka.sasl) or TLS (kafka.tls)?", at)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the brokers at %s hang up when user %q logs in with %s: do they know the user, this mechanism, and TLS as it is set here?", at, c.SASL.Username, c.SASL.Mechanism)
	}
	return nil
}

// expiry is until when a token says that it is good, zero if it is no JSON web token.
func expiry(c config.SASL) time.Time {
	token, err := secret(c)
	parts := strings.Split(token, ".")
	if err != nil || len(parts) != 3 {
		return time.Time{}
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		End float64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.End == 0 {
		return time.Time{}
	}
	return time.Unix(int64(claims.End), 0)
}
