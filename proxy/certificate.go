package proxy

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often the files may be looked at, at most.
const certificateCheck = time.Second

// Certificate is a TLS certificate and its key in files, read again when they change.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu      sync.Mutex
	loaded  *tls.Certificate
	stamp   [2]fileStamp // of the files that were loaded last, or tried
	checked time.Time
}

// fileStamp tells whether a file has changed.
type fileStamp struct {
	size     int64
	modified time.Time
}

// OpenCertificate loads a certificate chain and its key, both PEM. now may be nil:
// time.Now.
func OpenCertificate(certFile, keyFile string, log *slog.Logger, now func() time.Time) (*Certificate, error) {
	if now == nil {
		now = time.Now
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, now: now, checked: now()}
	c.stamp = c.stamps()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("loading the TLS certificate from %s and %s: %w", certFile, keyFile, err)
	}
	c.loaded = &pair
	return c, nil
}

// TLSConfig returns what a server that shows the certificate needs: TLS 1.2 or later, and
// HTTP/1.1 alone.
func (c *Certificate) TLSConfig() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

// get answers a TLS handshake. When the files have changed it loads them first; if
// that fails, the certificate loaded before goes on serving.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now().Sub(c.checked) < certificateCheck {
		return c.loaded, nil
	}
	c.checked = c.now()
	if stamp := c.stamps(); stamp != c.stamp {
		c.reload(stamp)
	}
	return c.loaded, nil
}

func (c *Certificate) reload(stamp [2]fileStamp) {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		// The stamp stays: a pair that is half replaced is tried again.
		c.log.Error("the TLS certificate was not reloaded; the old one goes on serving", "cert_file", c.certFile, "error", err)
		return
	}
	c.loaded, c.stamp = &pair, stamp
	c.log.Info("the TLS certificate was reloaded", "cert_file", c.certFile)
}

func (c *Certificate) stamps() (stamps [2]fileStamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamps[i] = fileStamp{info.Size(), info.ModTime()}
		}
	}
	return stamps
}
