package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/asiduo/asiduo/config"
)

// Access says who may ask a listener. Every demand that it makes must be met; if it makes none, everybody may.
type Access struct {
	Tokens       []string // one of these or of TokensFile, as "Authorization: Bearer TOKEN"
	TokensFile   string   // a token a line
	CertFile     string   // with KeyFile: TLS
	KeyFile      string
	ClientCAFile string // who must have signed the certificate of a client
	Rate         int    // requests in a second from one address, and as many at once; 0: any number, on any number of connections
}

// Guard lets in who may ask a listener. Its files are read anew when they change. A nil Guard lets everybody in.
type Guard struct {
	tokens *kept[[]digest]    // nil: none is asked for
	tls    *kept[*tls.Config] // nil: none
	rates  *rates             // nil: any number
}

// digest is the hash of a token: all are equally long, so that comparing them takes equally long.
type digest = [sha256.Size]byte

// NewGuard reads the files and says what is wrong with them.
func NewGuard(a Access, log *slog.Logger) (*Guard, error) {
	g := &Guard{}
	var err error
	if len(a.Tokens) > 0 || a.TokensFile != "" {
		if g.tokens, err = keep(a.tokenFiles(), a.digests, log); err != nil {
			return nil, fmt.Errorf("tokens: %w", err)
		}
	}
	if a.CertFile != "" {
		files := []string{a.CertFile, a.KeyFile}
		if a.ClientCAFile != "" {
			files = append(files, a.ClientCAFile)
		}
		if g.tls, err = keep(files, a.transport, log); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
	}
	if a.Rate > 0 {
		g.rates = newRates(a.Rate)
	}
	return g, nil
}

func (a Access) tokenFiles() []string {
	if a.TokensFile == "" {
		return nil
	}
	return []string{a.TokensFile}
}

// list are the tokens, those of the file after the others.
func (a Access) list(contents [][]byte) ([]string, error) {
	list := a.Tokens
	for _, text := range contents {
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			if err := config.CheckToken(line); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", a.TokensFile, n, err)
			}
			list = append(list[:len(list):len(list)], line)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no token", a.TokensFile)
	}
	return list, nil
}

func (a Access) digests(contents [][]byte) ([]digest, error) {
	list, err := a.list(contents)
	digests := make([]digest, len(list))
	for i, token := range list {
		digests[i] = sha256.Sum256([]byte(token))
	}
	return digests, err
}

// transport is TLS with a certificate and its key and, maybe, the authorities of clients.
func (a Access) transport(contents [][]byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", a.CertFile, a.KeyFile, err)
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{pair},
		SessionTicketsDisabled: true, // an authority that is trusted no more must not live on in them
	}
	if a.ClientCAFile != "" {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		if c.ClientCAs, err = config.Authorities(contents[2]); err != nil {
			return nil, fmt.Errorf("%s %w", a.ClientCAFile, err)
		}
	}
	return c, nil
}

// TLS is what a listener speaks; nil if it speaks none.
func (g *Guard) TLS() *tls.Config {
	if g == nil || g.tls == nil {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return g.tls.get(), nil },
	}
}

// certify holds that the certificate of a connection still counts: the handshake, which judged it first, may be long ago.
func (g *Guard) certify(r *http.Request) error {
	if g == nil || g.tls == nil {
		return nil
	}
	c := g.tls.get()
	if c.ClientCAs == nil {
		return nil
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return errNoCertificate
	}
	o := x509.VerifyOptions{Roots: c.ClientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, between := range r.TLS.PeerCertificates[1:] {
		o.Intermediates.AddCert(between)
	}
	_, err := r.TLS.PeerCertificates[0].Verify(o)
	return err
}

var errNoCertificate = errors.New("no certificate of a client")

var errNoToken = errors.New("no token of this listener")

// authorize holds that a request has one of the tokens. All are compared, each to its end: how long it takes says nothing
// about them.
func (g *Guard) authorize(r *http.Request) error {
	if g == nil || g.tokens == nil {
		return nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sent := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := 0
	for _, d := range g.tokens.get() {
		found |= subtle.ConstantTimeCompare(sent[:], d[:])
	}
	if found == 0 || !strings.EqualFold(scheme, "Bearer") {
		return errNoToken
	}
	return nil
}

// admit takes a request off what its address may ask for.
func (g *Guard) admit(r *http.Request) bool {
	return g == nil || g.rates == nil || g.rates.of(r.RemoteAddr).Allow()
}
