package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
)

// containsAll reports whether text has all parts.
func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// TestProxyOfTheEnvironmentIsNotUsed: it would carry the upstream's credentials away.
func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://proxy-of-the-environment.test:3128")
	}
	for _, scheme := range []string{"http", "https"} {
		dialed := make(chan string, 1)
		s := newStage(t, func(with *settings) {
			with.Upstream = &url.URL{Scheme: scheme, Host: "upstream.test"}
			with.dial = func(_ context.Context, _, address string) (net.Conn, error) {
				dialed <- address
				return nil, &net.OpError{Op: "dial", Err: errors.New("not in this test")}
			}
		})
		s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET")
		if address := receive(t, "the proxy dials", dialed); !strings.HasPrefix(address, "upstream.test:") {
			t.Errorf("%s: dialed %s", scheme, address)
		}
	}
}

func TestUpstreamOverTLSIsVerified(t *testing.T) {
	t.Parallel()
	own := newPair(t, "upstream")
	certificate, err := tls.X509KeyPair(own.cert, own.key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(own.cert)
	for name, c := range map[string]struct {
		roots  *x509.CertPool
		status int
	}{"trusted": {roots, 200}, "not trusted": {x509.NewCertPool(), 502}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(with *settings) {
				with.Upstream = &url.URL{Scheme: "https", Host: with.Upstream.Host}
				with.transport.RootCAs = c.roots
				with.script = func(u *upstreamConn) {
					defer u.Close()
					conn := tls.Server(u.Conn, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}})
					if conn.Handshake() == nil {
						answerAll(u.upstream.record(conn))
					}
				}
			})
			res, body := s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET")
			if res.StatusCode != c.status {
				t.Errorf("status %d: %s", res.StatusCode, body)
			}
			failed := s.counter("keystile_upstream_failures_total", "tls")
			if (failed == 1) != (c.status == 502) {
				t.Errorf("%v failures were counted as tls", failed)
			}
			if c.status == 502 && containsAll(s.upstream.bytes(), "GET /a") {
				t.Error("the request was sent to an upstream that is not trusted")
			}
		})
	}
}
