package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A connection that is kept ends with the authority, and with the certificate, of its client.
func TestKeptConnections(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, files credentials, ask func(path string) int){
		"another authority": func(t *testing.T, files credentials, _ func(string) int) {
			rewrite(t, files.ClientCAFile, newAuthority(t).pem)
			time.Sleep(lookEvery)
		},
		"expired": func(t *testing.T, _ credentials, ask func(string) int) {
			for range 60 { // often enough that nobody takes it for idle
				time.Sleep(time.Minute)
				ask(livePath)
			}
			time.Sleep(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, files := newAuthority(t), newCredentials(t)
				cert, key := ca.issue(t, "asiduo.example")
				files.write(t, cert, key, ca.pem)
				w := newWorld(t)
				w.o.Guard = guard(t, files.Access, nil)
				ctx, cancel := context.WithCancel(t.Context())
				l := &pipes{clients: make(chan net.Conn)}
				wait := serveOn(ctx, l, Public(w.o), w.o.Guard, nil)
				dials := 0
				client := &http.Client{Transport: calling(t, ca, func() net.Conn {
					dials++
					here, there := net.Pipe()
					l.clients <- there
					return here
				})}
				ask := func(path string) int {
					code, _, err := get(client, "https://asiduo.example"+path)
					if err != nil {
						t.Error(err)
					}
					return code
				}
				if code := ask("/v1/shards"); code != http.StatusOK {
					t.Errorf("before: %d", code)
				}
				end(t, files, ask)
				for _, probe := range []string{livePath, readyPath} {
					if code := ask(probe); code != http.StatusOK {
						t.Errorf("%s: %d", probe, code)
					}
				}
				if code := ask("/v1/shards"); code != http.StatusUnauthorized || dials != 1 {
					t.Errorf("%d on connection %d", code, dials)
				}
				if code, _, err := get(client, "https://asiduo.example/livez"); err == nil || dials != 2 {
					t.Errorf("%d, no new handshake after it (%d)", code, dials)
				}
				client.CloseIdleConnections()
				cancel()
				if err := wait(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// calling is how a client connects whose certificate was signed by one below the authority.
func calling(t *testing.T, ca *authority, dial func() net.Conn) *http.Transport {
	t.Helper()
	between := authorityUnder(t, ca)
	cert, key := between.issue(t, "shop")
	pair, err := tls.X509KeyPair([]byte(cert+between.pem), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}
	c.RootCAs.AddCert(ca.cert)
	return &http.Transport{
		TLSClientConfig: c, DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(), nil },
	}
}

// Whose certificate does not count is told so, and nothing else.
func TestNoCertificate(t *testing.T) {
	ca, files := newAuthority(t), newCredentials(t)
	cert, key := ca.issue(t, "asiduo.example")
	files.write(t, cert, key, ca.pem)
	w := newWorld(t)
	w.people()
	w.o.Guard = guard(t, files.Access, nil)
	golden(t, "customer-no-certificate", "GET /v1/customers/ann", answerTo(Public(w.o), "GET", "/v1/customers/ann"))
}
