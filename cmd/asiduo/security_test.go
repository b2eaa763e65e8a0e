//go:build kafka

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// guarded is the cluster that asks who is there, as .ci/kafka-test.sh security starts it.
type guarded struct {
	t                     *testing.T
	dir                   string // for files of credentials
	run                   string // of the cluster
	plain, secure, mutual string
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{t, t.TempDir(), os.Getenv("ASIDUO_KAFKA_RUN"), os.Getenv("ASIDUO_BROKER"), os.Getenv("ASIDUO_SECURE"), os.Getenv("ASIDUO_MUTUAL")}
	if g.secure == "" {
		t.Fatal("ASIDUO_SECURE is not set: run make security-test")
	}
	g.file("ca.pem", g.authority())
	return g
}

// authority is that of the cluster.
func (g *guarded) authority() string {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.run, "ca.pem"))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

// file writes a file of credentials, as a whole.
func (g *guarded) file(name, text string) string {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// over are the settings of the brokers at an address that speak TLS.
func (g *guarded) over(at string, s config.SASL) config.Kafka {
	return config.Kafka{Brokers: []string{at}, TLS: config.TLS{Enabled: true, CAFile: filepath.Join(g.dir, "ca.pem")}, SASL: s}
}

// bearing are those of a user with a token.
func (g *guarded) bearing(user string, life time.Duration) config.Kafka {
	return g.over(g.secure, config.SASL{Mechanism: "OAUTHBEARER", TokenFile: g.token(user, life)})
}

// token writes a token that nobody has signed.
func (g *guarded) token(user string, life time.Duration) string {
	now, encode := time.Now(), base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, user, now.Add(-time.Hour).Unix(), now.Add(life).Unix())
	return g.file(user+".token", encode([]byte(`{"alg":"none"}`))+"."+encode([]byte(claims))+".\n")
}

// certified are those of a user with a certificate that the cluster's authority has signed.
func (g *guarded) certified(user string, life time.Duration) config.Kafka {
	g.t.Helper()
	authority, err := tls.LoadX509KeyPair(filepath.Join(g.run, "ca.pem"), filepath.Join(g.run, "ca.key"))
	if err != nil {
		g.t.Fatal(err)
	}
	cert, key := g.signed(&x509.Certificate{Subject: pkix.Name{CommonName: user}, NotAfter: time.Now().Add(life)}, &authority)
	k := g.over(g.mutual, config.SASL{Mechanism: "none"})
	k.TLS.CertFile, k.TLS.KeyFile = g.file(user+".crt", cert), g.file(user+".key", key)
	return k
}

// signed makes a certificate and its key, in PEM; without an authority it signs itself.
func (g *guarded) signed(c *x509.Certificate, by *tls.Certificate) (cert, key string) {
	g.t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		g.t.Fatal(err)
	}
	if by == nil {
		by = &tls.Certificate{Leaf: c, PrivateKey: own}
	}
	c.SerialNumber, c.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-2*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, by.Leaf, &own.PublicKey, by.PrivateKey)
	if err != nil {
		g.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// strange is a mechanism that nobody offers.
type strange struct{}

func (strange) Name() string { return "STRANGE" }
func (strange) Authenticate(context.Context, string) (sasl.Session, []byte, error) {
	return nil, nil, errors.New("not offered")
}

// TestSecurityLogin has every way to log in, and what a real broker makes us say to each mistake.
func TestSecurityLogin(t *testing.T) {
	g := newGuarded(t)
	user := func(mechanism, password string) config.Kafka {
		return g.over(g.secure, config.SASL{Mechanism: mechanism, Username: "test", Password: config.Secret(password)})
	}
	with := func(k config.Kafka, change func(*config.Kafka)) config.Kafka { change(&k); return k }
	right := user("SCRAM-SHA-512", "test-secret")
	broken := g.over(g.secure, config.SASL{Mechanism: "OAUTHBEARER", TokenFile: g.file("broken.token", "x.y")})
	old := g.bearing("old", -time.Minute)
	expired := g.certified("expired", -time.Minute)
	for name, tt := range map[string]struct {
		k    config.Kafka
		want string // with AT for the address; empty: it is let in
	}{
		"PLAIN": {user("PLAIN", "test-secret"), ""}, "SCRAM-SHA-256": {user("SCRAM-SHA-256", "test-secret"), ""},
		"SCRAM-SHA-512": {right, ""}, "OAUTHBEARER": {g.bearing("somebody", time.Hour), ""}, "certificate": {g.certified("somebody", time.Hour), ""},

		"wrong password":  {user("SCRAM-SHA-256", "x"), `the brokers at AT refuse user "test" with SCRAM-SHA-256: wrong user or password`},
		"wrong, PLAIN":    {user("PLAIN", "x"), `the brokers at AT refuse user "test" with PLAIN: wrong user or password`},
		"not offered":     {user("STRANGE", "x"), "the brokers at AT do not let users log in with STRANGE: set kafka.sasl.mechanism to one they offer"},
		"nobody asked":    {with(right, func(k *config.Kafka) { k.Brokers, k.TLS = []string{g.plain}, config.TLS{} }), "the brokers at AT let nobody log in there: set kafka.sasl.mechanism to none, or kafka.brokers to another port"},
		"no user":         {g.over(g.secure, config.SASL{Mechanism: "none"}), "the brokers at AT hang up at once: do they want a user (kafka.sasl)?"},
		"expired token":   {old, "the brokers at AT refuse the token in " + old.SASL.TokenFile + ": it expired at 20"},
		"refused token":   {broken, "the brokers at AT refuse the token in " + broken.SASL.TokenFile + ": is it for them, and whole?"},
		"unknown CA":      {with(right, func(k *config.Kafka) { k.TLS.CAFile = "" }), "the certificate of the brokers at AT is signed by an authority we do not know: set kafka.tls.ca_file"},
		"name":            {with(right, func(k *config.Kafka) { k.TLS.ServerName = "other" }), "the certificate of the brokers at AT is for another host (x509: certificate is valid for localhost, not other): set kafka.brokers or kafka.tls.server_name to a name that it has"},
		"no certificate":  {g.over(g.mutual, config.SASL{Mechanism: "none"}), "the brokers at AT want to see a certificate: set kafka.tls.cert_file and kafka.tls.key_file"},
		"old certificate": {expired, "the brokers at AT refuse the certificate in " + expired.TLS.CertFile + " (tls: "},
		"TLS to plain":    {with(right, func(k *config.Kafka) { k.Brokers = []string{g.plain} }), "the brokers at AT do not speak TLS there: set kafka.tls.enabled to false, or kafka.brokers to another port"},
		"plain to TLS":    {with(right, func(k *config.Kafka) { k.TLS = config.TLS{} }), "the brokers at AT speak TLS: set kafka.tls.enabled"},
	} {
		t.Run(name, func(t *testing.T) {
			var more []kgo.Opt
			if tt.k.SASL.Mechanism == "STRANGE" {
				more = append(more, kgo.SASL(strange{}))
			}
			cl, err := pipeline.Connector(tt.k)(more...)
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			err = pipeline.Ping(t.Context(), cl, tt.k)
			want := strings.ReplaceAll(tt.want, "AT", tt.k.Brokers[0])
			if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %v\nwant %s", err, want)
			}
		})
	}
}
