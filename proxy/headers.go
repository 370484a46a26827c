package proxy

import (
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
)

// forwardedHeader reports names by which proxies tell where a request came from,
// in any spelling: a client could otherwise claim to be somebody else.
func forwardedHeader(spelt string) bool {
	return spelt == "forwarded" || spelt == "x-real-ip" ||
		strings.HasPrefix(spelt, "x-forwarded-") || strings.HasPrefix(spelt, "x-keystile-")
}

// cleanHeaders removes what must not reach the upstream and sets what is ours.
func (p *Proxy) cleanHeaders(pr *httputil.ProxyRequest, x *exchange) {
	h := pr.Out.Header
	for name := range h {
		spelt := spelling(name)
		if p.carriers.removed[spelt] || forwardedHeader(spelt) {
			delete(h, name)
		}
	}
	p.setForwarded(pr)
	p.cleanUpgrade(h)
	pr.Out.Trailer = nil // a client could announce a header of ours
	h.Set(requestIDHeader, x.requestID)
	for name, values := range p.options.UpstreamHeaders {
		h[name] = values
	}
	hideIdempotencyKey(h)
}

// setForwarded sets the X-Forwarded headers once. What a trusted peer said of the
// client before it is kept.
func (p *Proxy) setForwarded(pr *httputil.ProxyRequest) {
	in, out := pr.In.Header, pr.Out.Header
	if !p.trusts(pr.In) {
		pr.SetXForwarded()
		return
	}
	out["X-Forwarded-For"] = in["X-Forwarded-For"] // SetXForwarded adds the peer
	pr.SetXForwarded()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
		if said := in[name]; len(said) == 1 {
			out[name] = said
		}
	}
}

// cleanUpgrade lets only WebSocket upgrades through (RFC 6455), where configured:
// any other is a raw tunnel past every later check.
func (p *Proxy) cleanUpgrade(h http.Header) {
	if upgrade := h.Get("Upgrade"); upgrade != "" &&
		(!p.options.WebSocket || !strings.EqualFold(upgrade, "websocket")) {
		h.Del("Upgrade")
		h.Del("Connection")
	}
	h.Del("Http2-Settings")
}

// hideIdempotencyKey writes the names in lower case. The upstream reads the same
// header (RFC 9110 section 5.1), but net/http's Transport does not find it and so
// does not take it for leave to send a POST twice.
func hideIdempotencyKey(h http.Header) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[name]; ok {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
}

// peerHost returns the address part of r.RemoteAddr.
func peerHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
