package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pair is a certificate and its key, as PEM.
type pair struct{ cert, key []byte }

// newPair makes a certificate for 127.0.0.1 that is its own authority.
func newPair(t testing.TB, name string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// certificateFiles are the files of a pair, and the clock of who reads them.
type certificateFiles struct {
	t         testing.TB
	cert, key string
	now       *clock
	written   time.Time
}

func newCertificateFiles(t testing.TB) *certificateFiles {
	dir := t.TempDir()
	return &certificateFiles{t: t, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), now: newClock(), written: time.Now()}
}

// write replaces one file, later than any before.
func (f *certificateFiles) write(name string, content []byte) {
	f.t.Helper()
	f.written = f.written.Add(time.Second)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chtimes(name, f.written, f.written); err != nil {
		f.t.Fatal(err)
	}
}

func (f *certificateFiles) open(log *slog.Logger) (*Certificate, error) {
	return OpenCertificate(f.cert, f.key, log, f.now.read)
}

// shown returns the name in the certificate that the server shows.
func (s *stage) shown(t *testing.T) string {
	t.Helper()
	conn, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Errorf("the protocol is %q", conn.ConnectionState().NegotiatedProtocol)
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestCertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	t.Parallel()
	first, second := newPair(t, "first"), newPair(t, "second")
	files := newCertificateFiles(t)
	files.write(files.cert, first.cert)
	loaded := files.written
	files.write(files.key, first.key)
	log := new(lines)
	certificate, err := files.open(log.logger())
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, func(with *settings) { with.server.Certificate = certificate })
	expect := func(when, name string) {
		t.Helper()
		if got := s.shown(t); got != name {
			t.Errorf("%s the certificate is the %s", when, got)
		}
	}
	expect("at first", "first")
	files.write(files.cert, second.cert)
	files.now.move(certificateCheck)
	expect("with one file replaced", "first")
	files.written = loaded // a copy that keeps the time: only the other file tells of the change
	files.write(files.key, second.key)
	expect("before the files are looked at again", "first")
	files.now.move(certificateCheck)
	expect("with both replaced", "second")
	files.write(files.cert, []byte("no certificate"))
	files.now.move(certificateCheck)
	expect("with a file that is none", "second")
	if err := os.Remove(files.key); err != nil {
		t.Fatal(err)
	}
	files.now.move(certificateCheck)
	expect("with a file gone", "second")
	errors := 0
	for _, entry := range log.entries(t) {
		if entry["level"] == "ERROR" {
			errors++
		}
	}
	if errors != 3 {
		t.Errorf("%d errors were logged: %s", errors, log.text())
	}
}

func TestCertificateThatCannotBeLoadedNamesItsFiles(t *testing.T) {
	t.Parallel()
	files := newCertificateFiles(t)
	_, err := files.open(slog.New(slog.DiscardHandler))
	if err == nil || !containsAll(err.Error(), files.cert, files.key) {
		t.Errorf("error: %v", err)
	}
}

func TestRequestsOverTLSAreForwardedAsHTTPS(t *testing.T) {
	t.Parallel()
	own := newPair(t, "own")
	files := newCertificateFiles(t)
	files.write(files.cert, own.cert)
	files.write(files.key, own.key)
	certificate, err := OpenCertificate(files.cert, files.key, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, func(with *settings) { with.server.Certificate = certificate })
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(own.cert)
	conn, err := tls.Dial("tcp", s.address, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	if res, _ := newClient(t, conn).send(s.request("GET /a HTTP/1.1")).answer("GET"); res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
	if got := s.upstream.bytes(); !containsAll(got, "X-Forwarded-Proto: https\r\n") {
		t.Errorf("the upstream received %q", got)
	}
	if _, err := tls.Dial("tcp", s.address, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is accepted")
	}
}
