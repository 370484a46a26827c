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
	trusted := p.trusts(pr.In)
	for name := range h {
		spelt := spelling(name)
		if p.carriers.removed[spelt] || forwardedHeader(spelt) && !(trusted && believed(name)) {
			delete(h, name)
		}
	}
	setForwarded(pr, trusted)
	pr.Out.Trailer = nil // a client could announce a header of ours
	h.Set(requestIDHeader, x.requestID)
	for name, values := range p.options.UpstreamHeaders {
		h[name] = values
	}
	hideIdempotencyKey(h)
}

// believed reports whether a trusted peer's forwarding header is kept: not where a
// client could have slipped it past that peer under another spelling, nor in the name
// of this proxy.
func believed(name string) bool {
	return !strings.Contains(name, "_") && !strings.HasPrefix(name, "X-Keystile-")
}

// setForwarded sets the X-Forwarded headers once. What a trusted peer said of the
// client before it is kept.
func setForwarded(pr *httputil.ProxyRequest, trusted bool) {
	in, out := pr.In.Header, pr.Out.Header
	if !trusted {
		pr.SetXForwarded()
		return
	}
	out["Forwarded"] = in["Forwarded"]             // ReverseProxy has removed these two
	out["X-Forwarded-For"] = in["X-Forwarded-For"] // and SetXForwarded adds the peer
	pr.SetXForwarded()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
		if said := in[name]; len(said) == 1 {
			out[name] = said
		}
	}
}

// dropUpgrade lets only WebSocket upgrades through (RFC 6455), where configured: any
// other is a raw tunnel past every later check. It changes what came in, because
// ReverseProxy judges the upgrade before it calls Rewrite, and blames the upstream.
func (p *Proxy) dropUpgrade(in *http.Request) {
	upgrade := in.Header["Upgrade"]
	if !p.options.WebSocket || in.Method != http.MethodGet || len(upgrade) != 1 || !isWebSocket(upgrade[0]) || !connectionNames(in.Header, "upgrade") {
		in.Header.Del("Upgrade")
	}
	in.Header.Del("Http2-Settings")
}

// connectionNames reports whether Connection names the option (RFC 9110 section 7.6.1).
// An Upgrade that it does not name is none.
func connectionNames(h http.Header, option string) bool {
	for _, value := range h["Connection"] {
		for named := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(trim(named), option) {
				return true
			}
		}
	}
	return false
}

func isWebSocket(upgrade string) bool { return strings.EqualFold(upgrade, "websocket") }

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
