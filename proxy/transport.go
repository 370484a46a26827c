package proxy

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// TransportOptions bound the connections to the upstream. A zero duration means the
// default in its comment.
type TransportOptions struct {
	Dial            time.Duration  // to connect; 5 s
	TLS             time.Duration  // to agree on TLS; 5 s
	ResponseHeaders time.Duration  // from the end of the request to the head of its answer; 600 s
	Idle            time.Duration  // a connection is kept unused for this long; 4 s, less than what servers allow
	MaxConnections  int            // open at once; requests beyond wait; 0: no limit
	RootCAs         *x509.CertPool // whom to trust; nil: the system's
}

// NewTransport returns a transport for HTTP/1.1 that changes nothing on the way: no
// compression of its own and no proxy from the environment, which would carry the
// upstream's credentials away. HTTP/2 is left out because a request that a change
// came before is stopped by closing its connection, which must be its alone.
func NewTransport(o TransportOptions) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	dialer := net.Dialer{Timeout: cmp.Or(o.Dial, 5*time.Second), KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  nil,
		Protocols:              protocols,
		DialContext:            dialer.DialContext,
		DisableCompression:     true,
		TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    cmp.Or(o.TLS, 5*time.Second),
		ResponseHeaderTimeout:  cmp.Or(o.ResponseHeaders, 600*time.Second),
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        cmp.Or(o.Idle, 4*time.Second),
		MaxIdleConnsPerHost:    1024,
		MaxConnsPerHost:        o.MaxConnections,
		MaxResponseHeaderBytes: 256 << 10,
	}
}
