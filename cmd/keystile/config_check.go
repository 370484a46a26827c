package main

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// problem is something wrong with the value of one option, wherever that value came from.
type problem struct {
	option, text string
	with         string // another option that the problem is about; it may be the only one that was set
}

// problems lists everything wrong with c: what the tags of each option ask for, then what concerns several options together.
func (c config) problems() []problem {
	var list []problem
	for _, o := range options(&c) {
		list = append(list, o.problems()...)
	}
	list = append(list, c.headerProblems()...)
	return append(list, c.crossProblems()...)
}

// problems checks the option against its tags enum, min and is.
func (o option) problems() []problem {
	switch value := o.value.Interface().(type) {
	case string:
		return o.textProblems(o.path, value)
	case []string:
		var list []problem
		for i, item := range value {
			list = append(list, o.textProblems(fmt.Sprintf("%s[%d]", o.path, i), item)...)
		}
		return list
	}
	if low, bounded := o.minimum(); bounded && numberOf(o.value) < numberOf(low) {
		text := fmt.Sprintf("must be at least %v, got %v", low.Interface(), o.value.Interface())
		return []problem{{option: o.path, text: text}}
	}
	return nil
}

// minimum is the lowest value of a number, a duration or a size, in the option's own type.
func (o option) minimum() (low reflect.Value, bounded bool) {
	tag := o.field.Tag.Get("min")
	if tag == "" {
		return low, false
	}
	low = reflect.New(o.field.Type).Elem()
	return low, setScalar(low, tag) == nil
}

func numberOf(v reflect.Value) float64 {
	if v.CanInt() {
		return float64(v.Int())
	}
	return v.Float()
}

func (o option) textProblems(path, text string) []problem {
	if err := o.checkText(text); err != nil {
		return []problem{{option: path, text: err.Error()}}
	}
	return nil
}

func (o option) checkText(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\uFFFD' }) {
		return fmt.Errorf("must not contain control characters or bytes that are not UTF-8")
	}
	if choices := o.choices(); len(choices) > 0 && !slices.Contains(choices, text) {
		return fmt.Errorf("expected %s, got %s%s", joinOr(choices), shown(text), didYouMean(text, choices))
	}
	if rule, found := textRules()[o.field.Tag.Get("is")]; found {
		return rule(text)
	}
	return nil
}

func joinOr(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// textRules are the checks that the tag is names.
func textRules() map[string]func(string) error {
	return map[string]func(string) error{
		"address":       checkAddress,
		"header":        checkCredentialHeader,
		"host":          checkHost,
		"http_url":      checkHTTPURL,
		"optional_host": checkOptionalHost,
		"prefix":        func(text string) error { _, err := parsePrefix(text); return err },
		"redis_prefix":  checkRedisPrefix,
		"redis_server":  checkRedisServer,
		"redis_url":     checkRedisURL,
		"required":      checkRequired,
	}
}

func checkRequired(text string) error {
	if text == "" {
		return fmt.Errorf("must not be empty")
	}
	return nil
}

func checkAddress(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		hint := ""
		if isPort(text) {
			hint = fmt.Sprintf(" (did you mean %q?)", ":"+text)
		}
		return fmt.Errorf("expected an address as host:port or :port, got %s%s", shown(text), hint)
	}
	if !isPort(port) {
		return fmt.Errorf("expected a port from 0 to 65535 after the colon, got %s", shown(text))
	}
	if host != "" && !isHost(host) {
		return fmt.Errorf("expected a host name or an IP address before the port, got %s", shown(text))
	}
	return nil
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// isHost accepts IP addresses and names made of the letters that host names and container names have.
func isHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}
	return text != "" && len(text) <= 253 && !strings.ContainsFunc(text, odd) && text[0] != '.' && text[0] != '-' && !strings.Contains(text, "..")
}

func checkHost(text string) error {
	if !isHost(text) {
		return fmt.Errorf("expected a host name without a scheme or a port, got %s", shown(text))
	}
	return nil
}

// parsePrefix reads a network or a single address. A network whose address has bits below its length is refused: it is as likely a wrong
// length as a wrong address.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("expected an IP address or a network such as 10.0.0.0/8, got %s", shown(text))
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s is not the beginning of a network; did you mean %s or %s?", prefix, prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

func checkHTTPURL(text string) error {
	return checkWebURL(text, "set it as a header under proxy.upstream.headers, from {file: path} or {env: NAME}")
}

// checkWebURL is checkHTTPURL with another place for a password.
func checkWebURL(text, passwordAdvice string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" {
		return fmt.Errorf("expected an http or https URL, got %s%s", shown(text), schemeHint(text))
	}
	return checkAuthority(u, text, passwordAdvice)
}

// schemeHint suggests http:// where only that is missing.
func schemeHint(text string) string {
	guess := "http://" + text
	if text == "" || strings.Contains(text, "//") || strings.Contains(text, "@") || checkHTTPURL(guess) != nil {
		return ""
	}
	return " (did you mean " + guess + "?)"
}

// checkAuthority checks what all our URLs have in common. Where a URL carries more than an address its text is not repeated: the surplus
// may be a secret.
func checkAuthority(u *url.URL, text, passwordAdvice string) error {
	switch port := u.Port(); {
	case u.User != nil:
		return fmt.Errorf("must not contain a user or a password; %s", passwordAdvice)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return fmt.Errorf("must not contain a query (?) or a fragment (#)")
	case !isHost(u.Hostname()):
		return fmt.Errorf("expected a host after %s://, got %s", u.Scheme, shown(text))
	case port == "0" || port != "" && !isPort(port) || strings.HasSuffix(u.Host, ":"):
		return fmt.Errorf("expected a port from 1 to 65535, got %s", shown(text))
	}
	return nil
}

// crossProblems are those of options that must fit together.
func (c config) crossProblems() []problem {
	var list []problem
	add := func(wrong bool, option, with, text string) {
		if wrong {
			list = append(list, problem{option, text, with})
		}
	}
	p := c.Proxy
	for _, of := range []struct {
		section string
		tlsConfig
	}{{"proxy.tls", p.TLS}, {"admin.tls", c.Admin.TLS}} {
		add(of.CertFile != "" && of.KeyFile == "", of.section+".cert_file", "", "needs "+of.section+".key_file beside it")
		add(of.KeyFile != "" && of.CertFile == "", of.section+".key_file", "", "needs "+of.section+".cert_file beside it")
	}
	add(p.DefaultRate.PerSecond > 0 && p.DefaultRate.Burst < 1, "proxy.default_rate.per_second", "",
		"needs proxy.default_rate.burst of at least 1 beside it, or no request would ever pass")
	add(strings.EqualFold(p.KeyHeader, p.SecretHeader), "proxy.secret_header", "proxy.key_header", "must differ from proxy.key_header")
	add(ignoresAll(p.IgnoreCarriers), "proxy.ignore_carriers", "", "must leave at least one way of sending credentials")
	add(sameAddress(p.Listen, c.Admin.Listen), "admin.listen", "proxy.listen", "must differ from proxy.listen")
	add(c.Admin.readable(c.Admin.Listen) && !c.Admin.AllowPlainHTTP, "admin.listen", "", plainBeyondLoopback(c.Admin.Listen))
	add(c.callsItself(), "proxy.upstream.url", "proxy.listen", "is the address of proxy.listen: Keystile would call itself without end")
	return append(list, c.Store.Redis.problems()...)
}

func ignoresAll(carriers []string) bool {
	distinct := map[string]bool{}
	for _, carrier := range carriers {
		distinct[carrier] = true
	}
	return distinct["key_secret"] && distinct["bearer"] && distinct["x_api_key"] && distinct["basic"]
}

// sameAddress reports whether two listeners cannot both exist. Port 0 is a free port each time.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || isWildcard(hostA) || isWildcard(hostB)
}

func isWildcard(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.Unmap().IsUnspecified()
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// readable reports whether others could read what is sent when the admin listener is at
// address. Of names only localhost is known to stay on this machine.
func (c adminConfig) readable(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && c.TLS.CertFile == "" && !isLoopback(host)
}

func plainBeyondLoopback(address string) string {
	return address + " can be reached from other machines, and without TLS the administrator's token would cross the network readable: " +
		"listen on loopback such as 127.0.0.1:8081, or set admin.tls.cert_file and admin.tls.key_file, or, " +
		"if the network is private or something in front encrypts, set admin.allow_plain_http to true"
}

func (c config) callsItself() bool {
	u, err := c.upstreamURL()
	host, port, splitErr := net.SplitHostPort(c.Proxy.Listen)
	if err != nil || splitErr != nil || port == "0" || !isLoopback(u.Hostname()) {
		return false
	}
	upstreamPort := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	return upstreamPort == port && (isWildcard(host) || isLoopback(host))
}

// cautions are settings that are allowed and that an operator should know about.
func (c config) cautions() []string {
	var list []string
	add := func(odd bool, text string) {
		if odd {
			list = append(list, text)
		}
	}
	add(c.Admin.readable(c.Admin.Listen), "admin.listen: "+c.Admin.Listen+" can be reached from other machines, and without TLS the administrator's token "+
		"crosses the network readable; keep it on a private network")
	prefixes, _ := c.trustedProxies()
	all := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Bits() == 0 })
	add(all, "proxy.trusted_proxies: every address is trusted, so clients can choose the address that is logged for them")
	add(c.Proxy.DefaultRate.Burst > 0 && c.Proxy.DefaultRate.PerSecond == 0, "proxy.default_rate: burst without per_second limits nothing")
	add(c.Store.Driver == "redis" && c.Store.Redis.readable(), "store.redis.url: without TLS (rediss://) the password and the records cross the "+
		"network readable, and whoever is in between can change them; keep it on a private network")
	add(c.Proxy.Upstream.CAFile != "" && !strings.HasPrefix(c.Proxy.Upstream.URL, "https:"), "proxy.upstream.ca_file: has no use with an http URL")
	return list
}
