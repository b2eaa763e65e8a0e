package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Authorities are the certificates of a file in PEM, every one or none: of a file that is half-written, x509.CertPool would
// take the first half, and leave out what is broken. What is wrong is said in words that go behind the file's name.
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
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("holds a broken certificate: %w", err)
		}
		pool.AddCert(c)
		n++
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
