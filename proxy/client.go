package proxy

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddress returns the address of the client for the access log: the peer's,
// or, behind trusted proxies, the last address in X-Forwarded-For that is not a
// trusted proxy's own.
func (p *Proxy) clientAddress(r *http.Request) string {
	client := peerHost(r)
	if !p.trusts(r) {
		return client
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		client = hop.Unmap().WithZone("").String() // a zone may be any text
		if !p.trusted(hop) {
			break
		}
	}
	return client
}

// trusts reports whether the peer of r is a trusted proxy.
func (p *Proxy) trusts(r *http.Request) bool {
	if len(p.options.TrustedProxies) == 0 {
		return false
	}
	peer, err := netip.ParseAddr(peerHost(r))
	return err == nil && p.trusted(peer)
}

func (p *Proxy) trusted(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	for _, prefix := range p.options.TrustedProxies {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}
