package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Client asks a listener from its own machine, and is let in as it has what the listener asks for: its first token and, for
// mutual TLS, the listener's own certificate.
type Client struct {
	base, token string
	http        *http.Client
}

// NewClient makes the client of a listener at host:port.
func NewClient(listen string, a Access) (*Client, error) {
	c := &Client{base: "http://" + dialled(listen)}
	// Neither a proxy nor another host is to see the token.
	t := &http.Transport{DisableKeepAlives: true}
	c.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if len(a.Tokens) > 0 || a.TokensFile != "" {
		var contents [][]byte
		for _, name := range a.tokenFiles() {
			b, err := readFile(name)
			if err != nil {
				return nil, err
			}
			contents = append(contents, b)
		}
		tokens, err := a.list(contents)
		if err != nil {
			return nil, err
		}
		c.token = tokens[0]
	}
	if a.CertFile != "" {
		c.base = "https://" + dialled(listen)
		pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", a.CertFile, a.KeyFile, err)
		}
		if t.TLSClientConfig, err = sameCertificate(pair); err != nil {
			return nil, fmt.Errorf("%s: %w", a.CertFile, err)
		}
	}
	return c, nil
}

// sameCertificate trusts who has the certificate that we have, whoever has signed it, and shows it if asked.
func sameCertificate(pair tls.Certificate) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(pair.Leaf)
	switch {
	case len(pair.Leaf.DNSNames) > 0:
		c.ServerName = strings.Replace(pair.Leaf.DNSNames[0], "*", "asiduo", 1)
	case len(pair.Leaf.IPAddresses) > 0:
		c.ServerName = pair.Leaf.IPAddresses[0].String()
	default:
		return nil, errors.New("the certificate has no name")
	}
	return c, nil
}

// dialled is where a listener is found: one on every address, on loopback.
func dialled(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip, bad := netip.ParseAddr(host); err == nil && (host == "" || bad == nil && ip.IsUnspecified()) {
		if bad == nil && ip.Is6() {
			return net.JoinHostPort("::1", port)
		}
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

// URL is where a path is asked for.
func (c *Client) URL(path string) string { return c.base + path }

// Do sends a request that is for this listener.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	return c.http.Do(r)
}
