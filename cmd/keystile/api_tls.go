package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// caVariable names a file with the authorities that clients of the admin API trust.
const caVariable = "KEYSTILE_ADMIN_CA_FILE"

// httpToTLS is how net/http answers plain HTTP on a listener with TLS.
const httpToTLS = "Client sent an HTTP request to an HTTPS server"

var errOtherCertificate = errors.New("the certificate is not the configured one")

// trusting trusts the authorities in a file; nil: none is named, and the system's count.
func trusting(file setting) (*tls.Config, error) {
	if file.text == "" {
		return nil, nil
	}
	roots, err := readAuthorities(file.text, file.from)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, err
}

// trustingItself trusts what the configured admin listener shows, and nothing else: it is
// called by an address of this machine, which no certificate needs to name. nil: it shows
// no certificate.
func trustingItself(c tlsConfig) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	own, err := firstCertificate(c.CertFile, "admin.tls.cert_file")
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection asks for more than a name and an authority
		VerifyConnection: func(state tls.ConnectionState) error {
			if !bytes.Equal(state.PeerCertificates[0].Raw, own.Raw) {
				return errOtherCertificate
			}
			return nil
		},
	}, nil
}

// firstCertificate reads the certificate that a server with a file of PEM shows as its own.
func firstCertificate(file, option string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, cannotOpen(file, option, err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", option, file, err)
		}
		return certificate, nil
	}
	return nil, fmt.Errorf("%s: %s has no PEM certificate", option, file)
}

// withoutTrust explains why no request was sent to a URL; nil: it is not because of TLS.
func withoutTrust(url, from string, err error) error {
	switch {
	case errors.Is(err, errOtherCertificate):
		return fmt.Errorf("what answers at %s shows another certificate than the one in admin.tls.cert_file: "+
			"if that one is new, try again in a second; else see in the log of keystile serve whether it was taken", url)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return fmt.Errorf("the certificate of %s, the address from %s, is not trusted (%w): "+
			"name the file of its authority by --ca-file or %s, and call it by a name in it", url, from, err, caVariable)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%s, the address from %s, speaks plain HTTP: have the address begin with http://, "+
			"or see whether keystile serve has admin.tls", url, from)
	}
	return nil
}
