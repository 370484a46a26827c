package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificates are an authority of the test's own, and what it issued: a certificate for 127.0.0.1 and localhost, and
// one for clients. The fields name PEM files, keys are in PKCS #8 (RFC 5958).
type Certificates struct {
	CA, Server, ServerKey, Client, ClientKey string

	Config *tls.Config // of a client that trusts the authority and has the client certificate; clone it to change it
}

// authority signs certificates.
type authority struct {
	t    testing.TB
	dir  string
	self *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64 // serial number
}

// issue makes an authority and its certificates in dir.
func issue(t testing.TB, dir string) *Certificates {
	t.Helper()
	a := &authority{t: t, dir: dir}
	c := &Certificates{}
	c.CA, _ = a.sign("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	c.Server, c.ServerKey = a.sign("server", &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		// A replica shows its primary the same certificate that it shows clients.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	c.Client, c.ClientKey = a.sign("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	pair, err := tls.LoadX509KeyPair(c.Client, c.ClientKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.self)
	c.Config = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	return c
}

// sign completes the template and writes the certificate and its key, valid for a day. The first one signs itself and
// becomes the authority.
func (a *authority) sign(name string, template *x509.Certificate) (certificatePath, keyPath string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.last++
	template.SerialNumber = big.NewInt(a.last)
	template.Subject = pkix.Name{CommonName: "redistest " + name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if a.self == nil {
		a.self, a.key = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.self, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.self == template {
		if a.self, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+"-key.pem", "PRIVATE KEY", private)
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// lines returns the lines of redis.conf that make a server show its certificate and ask for one.
func (c *Certificates) lines() []string {
	return []string{
		"tls-ca-cert-file " + c.CA, "tls-cert-file " + c.Server, "tls-key-file " + c.ServerKey, "tls-auth-clients yes",
	}
}
