package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asiduo/asiduo/state/store"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t testing.TB) *authority { return authorityUnder(t, nil) }

// authorityUnder is one that another has signed; nil: none.
func authorityUnder(t testing.TB, by *authority) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true}
	a.pem, a.key = sign(t, template, by)
	block, _ := pem.Decode([]byte(a.pem))
	var err error
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a certificate for servers and clients, and its key.
func (a *authority) issue(t testing.TB, name string) (cert, key string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, private := sign(t, template, a)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// sign makes a certificate; without an authority it signs itself.
func sign(t testing.TB, template *x509.Certificate, by *authority) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by = &authority{template, key, ""}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), key
}

// credentials are files of a listener.
type credentials struct{ Access }

func newCredentials(t testing.TB) credentials {
	dir := t.TempDir()
	return credentials{Access{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"), ClientCAFile: filepath.Join(dir, "ca")}}
}

func (c credentials) write(t testing.TB, cert, key, ca string) {
	t.Helper()
	rewrite(t, c.CertFile, cert)
	rewrite(t, c.KeyFile, key)
	rewrite(t, c.ClientCAFile, ca)
}

// Certificates are replaced under a running listener: the next connection has the new one, and clients of an authority
// that went away are refused.
func TestCertificatesRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newAuthority(t), newAuthority(t)
		files := newCredentials(t)
		cert, key := first.issue(t, "asiduo.example")
		files.write(t, cert, key, first.pem)
		g := guard(t, files.Access, nil)
		meet := func(server, client *authority) error {
			time.Sleep(lookEvery)
			here, there := net.Pipe()
			defer func() { _ = here.Close(); _ = there.Close() }()
			done := make(chan error, 1)
			s := tls.Server(there, g.TLS())
			go func() { done <- s.Handshake() }()
			c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "asiduo.example"}
			c.RootCAs.AddCert(server.cert)
			if client != nil {
				cert, key := client.issue(t, "shop")
				pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
				if err != nil {
					t.Fatal(err)
				}
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
			}
			conn := tls.Client(here, c)
			err := conn.Handshake()
			go func() { _, _ = io.Copy(io.Discard, conn) }() // an alert, if there is one
			return errors.Join(err, <-done)
		}
		if err := meet(first, first); err != nil {
			t.Error(err)
		}
		for _, stranger := range []*authority{nil, second} {
			if meet(first, stranger) == nil {
				t.Errorf("let in: %v", stranger)
			}
		}
		cert, key = second.issue(t, "asiduo.example")
		rewrite(t, files.CertFile, cert) // its key is not there yet
		if err := meet(first, first); err != nil {
			t.Errorf("between two files: %v", err)
		}
		files.write(t, cert, key, second.pem+first.pem[:len(first.pem)/2]) // half of it is no list of authorities
		if err := meet(first, first); err != nil {
			t.Errorf("in the middle of a file: %v", err)
		}
		files.write(t, cert, key, second.pem)
		if err := meet(second, second); err != nil {
			t.Error(err)
		}
		if meet(second, first) == nil {
			t.Error("an authority counts that is not in the file any more")
		}
	})
}

// A whole listener that asks for certificates and tokens, and the commands that are let in.
func TestServeTLS(t *testing.T) {
	ca := newAuthority(t)
	files := newCredentials(t)
	cert, key := ca.issue(t, "*.asiduo.example")
	files.write(t, cert, key, ca.pem)
	files.Tokens = []string{token1}
	w := newWorld(t)
	w.people()
	w.o.Guard = guard(t, files.Access, nil)
	ctx, cancel := context.WithCancel(t.Context())
	addr, wait, err := Serve(ctx, "0.0.0.0:0", Admin(w.o), w.o.Guard, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	ask := func(a Access) (int, string, error) {
		c, err := NewClient("0.0.0.0:"+port, a)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), "GET", c.URL("/v1/state/customers/ann"), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(r)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode, resp.Proto, nil
	}
	if code, proto, err := ask(files.Access); code != 200 || proto != "HTTP/1.1" || err != nil {
		t.Errorf("%d %s %v", code, proto, err)
	}
	tokenless := files.Access
	tokenless.Tokens = nil
	if code, _, err := ask(tokenless); code != 401 || err != nil {
		t.Errorf("without a token: %d %v", code, err)
	}
	if code, _, err := ask(Access{Tokens: files.Tokens}); code != 400 || err != nil {
		t.Errorf("without TLS: %d %v", code, err)
	}
	stranger := newCredentials(t)
	cert, key = newAuthority(t).issue(t, "*.asiduo.example")
	stranger.write(t, cert, key, ca.pem)
	if code, _, err := ask(stranger.Access); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another's certificate: %d %v", code, err)
	}
	cancel()
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// A token goes to its listener alone: through no proxy, and to no other whom the listener names.
func TestClientGoesNowhereElse(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked with %s", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	listener := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer listener.Close()
	c, err := NewClient(listener.Listener.Addr().String(), Access{Tokens: []string{token1}})
	if err != nil {
		t.Fatal(err)
	}
	if c.http.Transport.(*http.Transport).Proxy != nil {
		t.Error("it takes the proxy of the environment")
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", c.URL("/"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusTemporaryRedirect {
		t.Error(resp.Status)
	}
}

// Where a listener is found from its own machine.
func TestDialled(t *testing.T) {
	for listen, want := range map[string]string{
		":1": "127.0.0.1:1", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1", "10.0.0.7:1": "10.0.0.7:1", "localhost:1": "localhost:1",
	} {
		if got := dialled(listen); got != want {
			t.Errorf("%s: %s", listen, got)
		}
	}
}

// The process that does not serve a customer sends who asks to the one that does, and no token with it. Clients do not
// take theirs to another host by themselves; one that knows the host does, and is answered.
func TestRedirectKeepsTokens(t *testing.T) {
	w := newWorld(t)
	w.people()
	w.o.Guard = guard(t, Access{Tokens: []string{token1}}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	owner, ownerDone, err := Serve(ctx, "127.0.0.1:0", Public(w.o), w.o.Guard, nil)
	if err != nil {
		t.Fatal(err)
	}
	away := w.o
	away.Registry = nil
	away.View = func(string) (*store.View, error) { return nil, store.ErrClosed }
	at := "http://" + strings.Replace(owner, "127.0.0.1", "localhost", 1)
	away.Owner = func(context.Context, string) (string, error) { return at, nil }
	first, firstDone, err := Serve(ctx, "127.0.0.1:0", Public(away), w.o.Guard, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	get := func(follow func(*http.Request, []*http.Request) error) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+first+"/v1/customers/ann", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token1)
		resp, err := (&http.Client{Transport: transport, CheckRedirect: follow}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	stay := get(func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse })
	if stay.StatusCode != http.StatusTemporaryRedirect || stay.Header.Get("Location") != at+"/v1/customers/ann" || len(stay.Header["Authorization"]) > 0 {
		t.Errorf("%s %v", stay.Status, stay.Header)
	}
	if r := get(nil); r.StatusCode != http.StatusUnauthorized || r.Request.Header.Get("Authorization") != "" {
		t.Errorf("a client that knows nobody: %s", r.Status)
	}
	known := map[string]bool{strings.TrimPrefix(at, "http://"): true}
	follow := func(r *http.Request, via []*http.Request) error {
		if known[r.URL.Host] {
			r.Header.Set("Authorization", via[0].Header.Get("Authorization"))
		}
		return nil
	}
	if r := get(follow); r.StatusCode != http.StatusOK {
		t.Errorf("a client that knows the owner: %s", r.Status)
	}
	cancel()
	if err := errors.Join(ownerDone(), firstDone()); err != nil {
		t.Error(err)
	}
}

// Who came over TLS is not sent on without it.
func TestRedirectKeepsTLS(t *testing.T) {
	w := newWorld(t)
	w.o.View = func(string) (*store.View, error) { return nil, store.ErrClosed }
	for url, want := range map[string]int{"http://other:8080": http.StatusServiceUnavailable, "https://other:8080": http.StatusTemporaryRedirect} {
		w.o.Owner = func(context.Context, string) (string, error) { return url, nil }
		r := httptest.NewRequest("GET", "https://here/v1/customers/ann", nil)
		rec := httptest.NewRecorder()
		Public(w.o).ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("%s: %d", url, rec.Code)
		}
	}
}
