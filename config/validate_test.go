package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestValidateTakesTheDefaults(t *testing.T) {
	if err := shop().Validate(); err != nil {
		t.Error(err)
	}
	if err := secretive().Validate(); err != nil {
		t.Error(err)
	}
}

// TestValidateWithoutFile has faults of the schema and of the rules, in the order of the checks and without positions.
func TestValidateWithoutFile(t *testing.T) {
	c := Default()
	c.App = "shop"
	c.Kafka.Brokers = nil
	c.Log.Level = "loud"
	c.Cycle.Min = -1
	c.State.Memtable = -5
	c.Churn.Params.A = math.NaN()
	c.Churn.Params.B = math.Inf(1)
	c.Churn.Jump = "a bit"
	c.Group.Heartbeat = c.Group.SessionTimeout
	err := c.Validate()
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v", err)
	}
	got := map[string]bool{}
	for _, f := range faults {
		if f.Line != 0 || f.Col != 0 || f.File != "" {
			t.Errorf("a fault has a position: %#v", f)
		}
		got[f.Error()] = true
	}
	want := map[string]bool{}
	for _, line := range []string{
		`currency: expected three capital letters such as EUR, found the text ""`,
		`kafka.brokers: expected at least 1 entry, found 0`,
		`log.level: expected one of debug, info, warn, error; found the text "loud"`,
		`cycle.min: expected a duration such as 250ms, 10s, 5m, 24h or 7d, found the text "-1ns"`,
		`state.memtable: expected a size such as 64KiB, 8MiB or 1GiB, found the text "-5"; units are KiB, MiB, GiB and TiB`,
		`churn.params.a: expected a number, found the number NaN; write plain decimal digits`,
		`churn.params.b: expected a number, found the number +Inf; write plain decimal digits`,
		`churn.jump: expected a decimal number such as 12.50, found the text "a bit"`,
		`group.heartbeat: must be less than half of group.session_timeout (10s), found 10s`,
	} {
		want[line] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoopbackAddresses(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "localhost:0": true, "127.8.9.1:80": true, "": true, "[::ffff:127.0.0.1]:80": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "10.0.0.1:80": false, "example.org:80": false, "127.0.0.1": false, "127.0.0.1:-1": false,
	} {
		c := shop()
		c.API.Listen, c.Admin.Listen = address, ""
		if err := c.Validate(); (err == nil) != allowed {
			t.Errorf("%q: %v", address, err)
		}
		c.API.Listen, c.Admin.Listen = "", address
		if err := c.Validate(); (err == nil) != allowed {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestPlainOnLoopback(t *testing.T) {
	c := shop()
	c.Kafka.SASL = SASL{Mechanism: "PLAIN", Username: "ana", Password: "x"}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Kafka.Brokers = []string{"kafka:9092"}
	if err := c.Validate(); err == nil {
		t.Error("the password would go out in the clear")
	}
	c.Kafka.TLS.Enabled = true
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// Who is reached from other machines asks who is there, or says that it does not.
func TestListenersAsk(t *testing.T) {
	tokens := Access{Tokens: []Secret{"0123456789abcdef"}}
	for _, a := range []Access{
		tokens, {TokensFile: "tokens"}, {Insecure: true}, {CertFile: "cert.pem", KeyFile: "key.pem", ClientCAFile: "ca.pem"},
		{CertFile: "cert.pem", KeyFile: "key.pem", ClientCAFile: "ca.pem", Tokens: tokens.Tokens, Rate: 1},
	} {
		c := shop()
		c.API.Listen, c.API.Advertise, c.API.Access = ":8080", "http://asiduo-0.example:8080", a
		c.Admin.Listen, c.Admin.Access = "10.0.0.7:9100", a
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
	for _, a := range []Access{{}, {CertFile: "cert.pem", KeyFile: "key.pem"}, {Rate: 7}} { // TLS alone asks nobody
		c := shop()
		c.Admin.Listen, c.Admin.Access = "10.0.0.7:9100", a
		const want = "admin.listen: 10.0.0.7:9100 can be reached from other machines: set admin.access.tokens_file or admin.access.client_ca_file, " +
			"or say admin.access.insecure: true if everybody who reaches it may ask"
		if err := c.Validate(); err == nil || err.Error() != want {
			t.Errorf("%+v: got  %v\nwant %s", a, err, want)
		}
	}
}

// What tells nothing about anybody may listen anywhere; where others find the API is a URL.
func TestListenersForOthers(t *testing.T) {
	c := shop()
	c.API.Advertise = "https://asiduo-0.example:8443"
	for _, at := range []string{"0.0.0.0:9101", ":9101", "[::]:9101", "10.0.0.7:0"} {
		if c.Monitor.Listen = at; c.Validate() != nil {
			t.Errorf("monitor.listen %s: %v", at, c.Validate())
		}
	}
}

// A system's bundle may have a certificate that Go does not read: the others count.
func TestAuthoritiesOfOthers(t *testing.T) {
	const strange = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	is := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, is, is, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	good := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	alone, err := Authorities([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if pool, err := Authorities([]byte(strange + good + strange)); err != nil || !pool.Equal(alone) {
		t.Errorf("%v", err)
	}
	if _, err := Authorities([]byte(strange)); err == nil || err.Error() != "holds no certificate in PEM" {
		t.Errorf("%v", err)
	}
}
