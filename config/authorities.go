package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// Authorities are the certificates of a file in PEM: of a file that is half-written, x509.CertPool would take the first half,
// and leave out what is broken. What is whole but not for Go, as an old root in a system's bundle may be, is passed over. What
// is wrong is said in words that go behind the file's name.
func Authorities(text []byte) (*x509.CertPool, error) {
	begin := []byte("-----BEGIN")
	pool, n, blocks := x509.NewCertPool(), 0, bytes.Count(text, begin)
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		blocks--
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			pool.AddCert(c)
			n++
		}
	}
	switch {
	case bytes.Contains(text, begin):
		return nil, errors.New("ends inside a certificate")
	case blocks != 0: // pem.Decode passes over them
		return nil, errors.New("holds a broken certificate")
	case n == 0:
		return nil, errors.New("holds no certificate in PEM")
	}
	return pool, nil
}
