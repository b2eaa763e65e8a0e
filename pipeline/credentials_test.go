package pipeline

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/asiduo/asiduo/config"
)

// authority signs certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: rand.Text()}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	var text string
	text, a.key = a.signed(t, a.cert, nil)
	a.pem = text
	block, _ := pem.Decode([]byte(text))
	var err error
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return a
}

// signed makes a key and its certificate; without a signer it signs itself.
func (a *authority) signed(t *testing.T, c *x509.Certificate, signer *ecdsa.PrivateKey) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), key
}

// leaf is a certificate and its key for a name, on loopback, that ends after a time.
func (a *authority) leaf(t *testing.T, name string, life time.Duration) (cert, key string) {
	t.Helper()
	cert, k := a.signed(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(life),
	}, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (a *authority) server(t *testing.T, life time.Duration) *tls.Config {
	t.Helper()
	cert, key := a.leaf(t, "broker", life)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

// trusting is a server that wants certificates of an authority.
func trusting(c *tls.Config, of *authority) *tls.Config {
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	c.ClientCAs.AddCert(of.cert)
	return c
}

// greets tells whoever comes what their certificate says their name is.
func greets(t *testing.T, c *tls.Config) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if tc := conn.(*tls.Conn); tc.HandshakeContext(context.Background()) == nil {
				fmt.Fprint(conn, tc.ConnectionState().PeerCertificates[0].Subject.CommonName)
			}
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// file writes one with a text, whole.
func file(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestRotatedCertificates: what lies in the files is what the next connection uses; while it is broken, what lay there
// before, and the log says so once.
func TestRotatedCertificates(t *testing.T) {
	dir := t.TempDir()
	c := config.TLS{Enabled: true, CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "c.pem"), KeyFile: filepath.Join(dir, "k.pem")}
	first, second := newAuthority(t), newAuthority(t)
	var log bytes.Buffer
	d := &dialer{files: c, log: slog.New(slog.NewTextHandler(&log, nil))}
	own := func(of *authority, name string) {
		cert, key := of.leaf(t, name, time.Hour)
		file(t, c.CertFile, cert)
		file(t, c.KeyFile, key)
	}
	at := greets(t, trusting(first.server(t, time.Hour), first))
	greeted := func(at, want string) {
		t.Helper()
		conn, err := d.dial(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		name := make([]byte, 100)
		if n, err := conn.Read(name); err != nil || string(name[:n]) != want {
			t.Fatalf("known as %q, want %q: %v", name[:n], want, err)
		}
	}
	if _, err := d.dial(t.Context(), "tcp", at); err == nil || !strings.HasPrefix(err.Error(), "read kafka.tls.ca_file: ") {
		t.Errorf("without files: %v", err)
	}
	file(t, c.CAFile, first.pem)
	own(first, "spring")
	greeted(at, "spring")
	own(first, "summer")
	greeted(at, "summer")

	other := greets(t, trusting(second.server(t, time.Hour), first))
	if _, err := d.dial(t.Context(), "tcp", other); err == nil {
		t.Error("an authority was trusted before it was in the file")
	}
	file(t, c.CAFile, first.pem+second.pem)
	greeted(at, "summer")
	greeted(other, "summer")

	whole, err := os.ReadFile(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []struct{ path, text, says string }{
		{c.CAFile, "", "kafka.tls.ca_file " + c.CAFile + " holds no certificate in PEM"},
		{c.CAFile, first.pem + second.pem[:len(second.pem)/2], "kafka.tls.ca_file " + c.CAFile + " ends inside a certificate"},
		{c.KeyFile, string(whole[:len(whole)/2]), "read kafka.tls.cert_file and key_file: "},
	} {
		log.Reset()
		file(t, c.CAFile, first.pem+second.pem)
		file(t, broken.path, broken.text)
		greeted(other, "summer")
		greeted(other, "summer")
		if told := log.String(); strings.Count(told, "\n") != 1 || !strings.Contains(told, "certificates cannot be read, those of before are used") || !strings.Contains(told, broken.says) {
			t.Errorf("the log says %q, want %q", told, broken.says)
		}
	}
	file(t, c.CAFile, first.pem+second.pem)
	cert, _ := first.leaf(t, "autumn", time.Hour) // the certificate is new, its key not yet
	file(t, c.CertFile, cert)
	greeted(at, "summer")
	own(first, "winter")
	greeted(at, "winter")
	file(t, c.CAFile, second.pem)
	if _, err := d.dial(t.Context(), "tcp", at); err == nil {
		t.Error("an authority that has left the file is still trusted")
	}
}

// TestPingCertificates are the sentences about certificates.
func TestPingCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	file(t, ca, ours.pem)
	leaf := func(of *authority, life time.Duration) {
		c, k := of.leaf(t, "app", life)
		file(t, cert, c)
		file(t, key, k)
	}
	leaf(ours, time.Hour)
	broker := func(c *tls.Config) string {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(c))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		return cluster.ListenAddrs()[0]
	}
	good, old, mutual := broker(ours.server(t, time.Hour)), broker(ours.server(t, -time.Hour)), broker(trusting(ours.server(t, time.Hour), ours))
	with := func(at string, change func(*config.TLS)) config.Kafka {
		k := config.Kafka{Brokers: []string{at}, TLS: config.TLS{Enabled: true, CAFile: ca}, SASL: config.SASL{Mechanism: "none"}}
		if change != nil {
			change(&k.TLS)
		}
		return k
	}
	own := func(c *config.TLS) { c.CertFile, c.KeyFile = cert, key }
	holds := func(k config.Kafka, want string) {
		t.Helper()
		cl, err := Connector(k)()
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := Ping(t.Context(), cl, k); err == nil && want != "" || err != nil && !strings.HasPrefix(err.Error(), want) || err != nil && want == "" {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	holds(with(good, nil), "")
	holds(with(mutual, own), "")
	holds(with(good, func(c *config.TLS) { c.CAFile = "" }), "the certificate of the brokers at "+good+" is signed by an authority we do not know: set kafka.tls.ca_file")
	holds(with(good, func(c *config.TLS) { c.ServerName = "other" }), "the certificate of the brokers at "+good+" is for another host (x509: certificate is valid for broker, not other): set ")
	holds(with(old, nil), "the certificate of the brokers at "+old+" is not valid now (current time ")
	holds(with(mutual, nil), "the brokers at "+mutual+" want to see a certificate: set kafka.tls.cert_file and kafka.tls.key_file")
	leaf(ours, -time.Hour)
	holds(with(mutual, own), "the brokers at "+mutual+" refuse the certificate in "+cert+" (tls: expired certificate): ")
	leaf(theirs, time.Hour)
	holds(with(mutual, own), "the brokers at "+mutual+" refuse the certificate in "+cert+" (tls: certificate required): ") // one they do not know is not even shown
	file(t, ca, "")
	holds(with(good, nil), "kafka.tls.ca_file "+ca+" holds no certificate in PEM")
}

// TestSecretFiles: a secret in a file is read at each login.
func TestSecretFiles(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "ana", "new"), kfake.Superuser("SCRAM-SHA-512", "ana", "new"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	path := filepath.Join(t.TempDir(), "secret")
	for _, m := range []string{"PLAIN", "SCRAM-SHA-512"} {
		k := config.Kafka{Brokers: cluster.ListenAddrs(), SASL: config.SASL{Mechanism: m, Username: "ana", PasswordFile: path}}
		_ = os.Remove(path)
		cl, err := Connector(k)()
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := Ping(t.Context(), cl, k); err == nil || err.Error() != "read kafka.sasl.password_file: open "+path+": no such file or directory" {
			t.Errorf("without the file: %v", err)
		}
		for _, step := range []struct{ text, want string }{
			{"\n", "kafka.sasl.password_file " + path + " is empty"}, {"old", "the brokers at "}, {"new\r\n", ""},
		} {
			file(t, path, step.text)
			if err := Ping(t.Context(), cl, k); (err == nil) != (step.want == "") || err != nil && !strings.HasPrefix(err.Error(), step.want) {
				t.Errorf("%s with %q: %v", m, step.text, err)
			}
		}
	}
}

// TestSecretStaysHere: brokers that say they are on another machine get no secret in the clear. Nothing is sent to where they say.
func TestSecretStaysHere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	file(t, path, "x")
	for _, s := range []config.SASL{{Mechanism: "PLAIN", Username: "ana", Password: "x"}, {Mechanism: "OAUTHBEARER", TokenFile: path}} {
		k := config.Kafka{Brokers: []string{"192.0.2.1:9092"}, SASL: s}
		cl, err := Connector(k)()
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		const want = "no broker reachable at 192.0.2.1:9092: without kafka.tls.enabled the secret of kafka.sasl goes to loopback only, not to 192.0.2.1:9092"
		if err := Ping(t.Context(), cl, k); err == nil || err.Error() != want {
			t.Errorf("%s: got %v", s.Mechanism, err)
		}
	}
	for _, here := range []string{"127.0.0.1:9092", "[::1]:9092", "[::ffff:127.0.0.1]:9092"} {
		if err := onlyHere(t.Context(), "tcp", here, nil); err != nil {
			t.Errorf("%s: %v", here, err)
		}
	}
}

// TestTokenFile: so is a token, as the first message of OAUTHBEARER; a refusal is answered, so that the brokers say it.
func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	s := config.SASL{Mechanism: "OAUTHBEARER", TokenFile: path}
	for _, token := range []string{"one", "two"} {
		file(t, path, token+"\n")
		session, first, err := mechanism(s).Authenticate(t.Context(), "broker")
		if want := "n,,\x01auth=Bearer " + token + "\x01\x01"; err != nil || string(first) != want {
			t.Fatalf("%q %v, want %q", first, err, want)
		}
		if done, next, err := session.Challenge(nil); !done || len(next) > 0 || err != nil {
			t.Errorf("taken: %v %q %v", done, next, err)
		}
		if done, next, err := session.Challenge([]byte(`{"status":"invalid_token"}`)); done || string(next) != "\x01" || err != nil {
			t.Errorf("refused: %v %q %v", done, next, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := mechanism(s).Authenticate(t.Context(), "broker"); err == nil || !strings.HasPrefix(err.Error(), "read kafka.sasl.token_file: ") {
		t.Errorf("without the file: %v", err)
	}
	for text, want := range map[string]time.Time{
		"x": {}, "a.b.c": {}, "a." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1700000000}`)) + ".c": time.Unix(1_700_000_000, 0),
	} {
		file(t, path, text)
		if got := expiry(s); !got.Equal(want) {
			t.Errorf("%q ends at %v, want %v", text, got, want)
		}
	}
}
