package proxy

import (
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

// flushInterval bounds how long a byte of an answer of known length may wait here.
// Streams (text/event-stream, or no Content-Length) are flushed at once.
const flushInterval = 5 * time.Millisecond

// newReverseProxy returns the reverse proxy that all requests share; what belongs
// to one of them is in its exchange. Rewrite, never Director: hop-by-hop headers
// are removed before our own are set, so no client can remove those.
func (p *Proxy) newReverseProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      roundTripper{p},
		ModifyResponse: p.modifyResponse,
		ErrorHandler:   p.upstreamFailed,
		FlushInterval:  flushInterval,
		BufferPool:     newBufferPool(),
		ErrorLog:       log.New(io.Discard, "", 0), // failures are classified in the exchange instead
	}
}

// forward sends the request to the upstream and streams the answer back.
func (p *Proxy) forward(x *exchange) {
	p.dropUpgrade(x.in)
	if x.in.Body != nil && x.in.Body != http.NoBody {
		x.body = newRequestBody(x.out.ResponseWriter, x.in, p.options.MaxBody, p.options.BodyProgress, p.options.Now)
		x.in.Body = x.body
		// Sending what is left of the answer may take as long as the client may refuse bytes.
		defer x.body.boundRest(p.options.WriteProgress + drainDeadline)
	}
	p.reverse.ServeHTTP(x.out, x.in)
}

// rewrite makes the upstream's request of the client's.
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	upstream := p.options.Upstream
	pr.Out.URL.Scheme, pr.Out.URL.Host = upstream.Scheme, upstream.Host
	setTarget(pr.Out.URL, strings.TrimSuffix(upstream.EscapedPath(), "/"), pr.In)
	if !p.options.PreserveHost {
		pr.Out.Host = ""
	}
	p.cleanHeaders(pr, exchangeOf(pr.In.Context()))
}

// roundTripper carries a request to the upstream and watches over its connection.
type roundTripper struct{ p *Proxy }

// RoundTrip calls the upstream.
func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r.Context())
	x.called = t.p.options.Now()
	trace := &httptrace.ClientTrace{
		GotConn:      func(info httptrace.GotConnInfo) { t.p.gotConn(x, info) },
		WroteHeaders: func() { x.wrote.Store(true) },
	}
	return t.p.options.Transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// gotConn starts the flight, or closes the connection before anything is written to
// it when a change came first. The request may have waited long for its connection, so
// that its secret has ended by now, or this may be the second one, because net/http
// could write nothing to the first: freshness and record are read again.
func (p *Proxy) gotConn(x *exchange, info httptrace.GotConnInfo) {
	p.metrics.attempts.Inc()
	if x.barred = p.barConn(x); x.barred != Allowed {
		_ = info.Conn.Close()
		x.cancel(errSuperseded)
	}
}

// barConn returns why the request may not use the connection it got, or Allowed.
func (p *Proxy) barConn(x *exchange) Verdict {
	if p.options.Records.Fresh() != nil {
		return StoreUnreachable
	}
	started := x.flight.start() // before reading: a change then ends the flight, or is in the record
	grant, _ := p.options.Records.Get(x.key)
	if !started || !grant.Admits(x.flight.proved, p.options.Now()) {
		return p.revokedVerdict(x)
	}
	return Allowed
}

// modifyResponse prepares an answer for its way to the client.
func (p *Proxy) modifyResponse(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	if res.StatusCode < 100 {
		return errNoStatus
	}
	res.Header.Set(requestIDHeader, x.requestID)
	if res.StatusCode == http.StatusSwitchingProtocols {
		if len(x.in.Header["Upgrade"]) == 0 || !isWebSocket(res.Header.Get("Upgrade")) {
			return errUnaskedSwitch // ReverseProxy would refuse it too, and leave the connection open
		}
		return nil
	}
	if x.body.unread() {
		res.Header.Set("Connection", "close")
	}
	res.Body = newResponseBody(x, res.Body, p.options.Silence)
	return nil
}

// bufferPool lends the buffers through which answers are copied.
type bufferPool struct{ pool sync.Pool }

func newBufferPool() *bufferPool {
	return &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}
}

// Get returns a buffer of 32 KiB.
func (b *bufferPool) Get() []byte { return b.pool.Get().(*[32 << 10]byte)[:] }

// Put takes it back.
func (b *bufferPool) Put(buffer []byte) { b.pool.Put((*[32 << 10]byte)(buffer)) }
