package proxy

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestClientAddressIsBelievedOnlyFromTrustedProxies(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, peer string
		said       []string
		want       string
		trusted    []netip.Prefix
	}{
		{"nobody is trusted", "10.0.0.1:1", []string{"1.2.3.4"}, "10.0.0.1", nil},
		{"a stranger's claim", "9.9.9.9:1", []string{"1.2.3.4"}, "9.9.9.9", trusted},
		{"a trusted peer's word", "10.0.0.1:1", []string{"1.2.3.4"}, "1.2.3.4", trusted},
		{"what the client put before", "10.0.0.1:1", []string{"6.6.6.6, 1.2.3.4"}, "1.2.3.4", trusted},
		{"on another line", "10.0.0.1:1", []string{"6.6.6.6", "1.2.3.4"}, "1.2.3.4", trusted},
		{"two trusted proxies in a row", "10.0.0.1:1", []string{"6.6.6.6, 1.2.3.4, 10.0.0.2"}, "1.2.3.4", trusted},
		{"trusted proxies alone", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3", trusted},
		{"junk ends the chain", "10.0.0.1:1", []string{"1.2.3.4, unknown, 10.0.0.2"}, "10.0.0.2", trusted},
		{"an address with a port is junk", "10.0.0.1:1", []string{"1.2.3.4:80"}, "10.0.0.1", trusted},
		{"nothing said", "10.0.0.1:1", nil, "10.0.0.1", trusted},
		{"an IPv6 peer", "[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1", trusted},
		{"an IPv6 peer with a zone", "[fd00::1%eth0]:1", []string{"2001:db8::1"}, "2001:db8::1", trusted},
		{"an IPv6 address with a zone", "10.0.0.1:1", []string{"fe80::1%any \"text\""}, "fe80::1", trusted},
		{"an IPv4 peer in IPv6 form", "[::ffff:10.0.0.1]:1", []string{"::ffff:1.2.3.4"}, "1.2.3.4", trusted},
		{"a peer without a port", "pipe", []string{"1.2.3.4"}, "pipe", trusted},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(Options{TrustedProxies: c.trusted})
			defer p.Close()
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = c.peer
			r.Header["X-Forwarded-For"] = c.said
			r.Header.Set("X-Real-Ip", "7.7.7.7")
			if got := p.clientAddress(r); got != c.want {
				t.Errorf("%s, not %s", got, c.want)
			}
		})
	}
}
