package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// ruleCase is one text and the words its refusal must have; no words means accepted.
type ruleCase struct{ text, want string }

func checkRule(t *testing.T, rule string, cases []ruleCase) {
	t.Helper()
	for _, test := range cases {
		err := textRules()[rule](test.text)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s %q: refused: %v", rule, test.text, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s %q: got %v, want %q", rule, test.text, err, test.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	checkRule(t, "address", []ruleCase{
		{":8080", ""},
		{":0", ""},
		{"127.0.0.1:8081", ""},
		{"localhost:80", ""},
		{"[::1]:65535", ""},
		{"[fe80::1%eth0]:80", ""},
		{"keystile_1.internal:80", ""},
		{"", "expected an address as host:port"},
		{"8080", `did you mean ":8080"?`},
		{"localhost", "expected an address as host:port"},
		{"::1:80", "expected an address as host:port"},
		{":http", "expected a port"},
		{":65536", "expected a port"},
		{":-1", "expected a port"},
		{":", "expected a port"},
		{"http://localhost:80", "expected an address as host:port"},
		{"bad host:80", "expected a host name or an IP address"},
		{"a..b:80", "expected a host name or an IP address"},
		{"-a:80", "expected a host name or an IP address"},
	})
}

func TestUpstreamURLs(t *testing.T) {
	checkRule(t, "http_url", []ruleCase{
		{"http://127.0.0.1:9000", ""},
		{"https://api.example.com", ""},
		{"https://api.example.com/", ""},
		{"https://api.example.com/base/path", ""},
		{"http://[::1]:9000", ""},
		{"http://[fe80::1%25eth0]:9000", ""},
		{"HTTPS://API.EXAMPLE.COM", ""},
		{"http://model-server:80", ""},
		{"", "expected an http or https URL, got nothing"},
		{"localhost:9000", "did you mean http://localhost:9000?"},
		{"127.0.0.1:9000", "did you mean http://127.0.0.1:9000?"},
		{"api.example.com/base", "did you mean http://api.example.com/base?"},
		{"ftp://example.com", "expected an http or https URL"},
		{"unix:///run/model.sock", "expected an http or https URL"},
		{"http:example.com", "expected an http or https URL"},
		{"//example.com", "expected an http or https URL"},
		{"http://exa mple.com", "expected an http or https URL"},
		{"http://", "expected a host"},
		{"http:///base", "expected a host"},
		{"http://:9000", "expected a host"},
		{"http://a,b", "expected a host"},
		{"http://host:", "expected a port"},
		{"http://host:0", "expected a port"},
		{"http://host:65536", "expected a port"},
		{"http://user:password@host", "proxy.upstream.headers"},
		{"http://user@host", "must not contain a user or a password"},
		{"http://host/?a=b", "must not contain a query"},
		{"http://host/?", "must not contain a query"},
		{"http://host/#part", "must not contain a query (?) or a fragment (#)"},
		{"http://host/#", "must not contain a query (?) or a fragment (#)"},
	})
}

func TestSuggestionIsOnlyMadeWhenItWouldWork(t *testing.T) {
	for _, text := range []string{"", "host:port", "a b:80", "user:password@host:80", "ftp://host", "host/?query", "host:99999"} {
		if hint := schemeHint(text); hint != "" {
			t.Errorf("%q: suggests%s", text, hint)
		}
	}
}

func TestTrustedProxies(t *testing.T) {
	checkRule(t, "prefix", []ruleCase{
		{"10.0.0.0/8", ""},
		{"192.0.2.1", ""},
		{"192.0.2.1/32", ""},
		{"0.0.0.0/0", ""},
		{"2001:db8::/32", ""},
		{"::1", ""},
		{"", "expected an IP address or a network"},
		{"localhost", "expected an IP address or a network"},
		{"10.0.0.0/33", "expected an IP address or a network"},
		{"10.0.0.0/", "expected an IP address or a network"},
		{"10.0.0/8", "expected an IP address or a network"},
		{"10.0.0.0-10.0.0.9", "expected an IP address or a network"},
		{"fe80::1%eth0", "expected an IP address or a network"},
		{"192.0.2.1/24", "did you mean 192.0.2.0/24 or 192.0.2.1?"},
		{"2001:db8::1/32", "did you mean 2001:db8::/32 or 2001:db8::1?"},
	})
}

func TestHosts(t *testing.T) {
	checkRule(t, "host", []ruleCase{
		{"keystile.example.com", ""},
		{"keystile", ""},
		{"192.0.2.1", ""},
		{"", "expected a host name"},
		{"keystile.example.com:8081", "without a scheme or a port"},
		{"http://keystile.example.com", "without a scheme or a port"},
		{"*.example.com", "expected a host name"},
		{strings.Repeat("a", 254), "expected a host name"},
	})
}

func TestControlCharactersAreRefusedInEveryText(t *testing.T) {
	c := defaultConfig()
	for _, o := range options(&c) {
		if _, isText := o.value.Interface().(string); !isText {
			continue
		}
		for _, text := range []string{"a\nb", "a\x00", "\x1b[1m", "a\x7f", "a\xff"} {
			if err := o.checkText(text); err == nil {
				t.Errorf("%s accepts %q", o.path, text)
			}
		}
	}
}

// problemsAfter changes the defaults and returns the options that then have a problem.
func problemsAfter(change func(c *config)) []string {
	c := defaultConfig()
	change(&c)
	var list []string
	for _, p := range c.problems() {
		list = append(list, p.option)
	}
	return list
}

func TestOptionsThatMustFitTogether(t *testing.T) {
	for name, test := range map[string]struct {
		change func(c *config)
		want   string // empty: no problem
	}{
		"a certificate without its key": {func(c *config) { c.Proxy.TLS.CertFile = "c" }, "proxy.tls.cert_file"},
		"a key without its certificate": {func(c *config) { c.Proxy.TLS.KeyFile = "k" }, "proxy.tls.key_file"},
		"certificate and key":           {func(c *config) { c.Proxy.TLS = tlsConfig{"c", "k"} }, ""},
		"admin's certificate alone":     {func(c *config) { c.Admin.TLS.CertFile = "c" }, "admin.tls.cert_file"},
		"admin's key alone":             {func(c *config) { c.Admin.TLS.KeyFile = "k" }, "admin.tls.key_file"},
		"a rate without a burst":        {func(c *config) { c.Proxy.DefaultRate = rateConfig{0.1, 0} }, "proxy.default_rate.per_second"},
		"a rate with a burst":           {func(c *config) { c.Proxy.DefaultRate = rateConfig{0.1, 1} }, ""},
		"one header for both":           {func(c *config) { c.Proxy.KeyHeader = "x-secret" }, "proxy.secret_header"},
		"no carrier left": {func(c *config) {
			c.Proxy.IgnoreCarriers = []string{"basic", "bearer", "key_secret", "x_api_key"}
		}, "proxy.ignore_carriers"},
		"one carrier named often": {func(c *config) {
			c.Proxy.IgnoreCarriers = []string{"basic", "basic", "basic", "basic"}
		}, ""},
		"one carrier left":            {func(c *config) { c.Proxy.IgnoreCarriers = []string{"basic", "bearer", "x_api_key"} }, ""},
		"the same port twice":         {func(c *config) { c.Admin.Listen, c.Admin.AllowPlainHTTP = ":8080", true }, "admin.listen"},
		"the same port on loopback":   {func(c *config) { c.Admin.Listen = "127.0.0.1:8080" }, "admin.listen"},
		"two addresses with one port": {func(c *config) { c.Proxy.Listen, c.Admin.Listen = "192.0.2.1:80", "127.0.0.1:80" }, ""},
		"free ports":                  {func(c *config) { c.Proxy.Listen, c.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0" }, ""},
		"itself as upstream":          {func(c *config) { c.Proxy.Upstream.URL = "http://localhost:8080/base" }, "proxy.upstream.url"},
		"itself by the default port": {func(c *config) {
			c.Proxy.Listen, c.Proxy.Upstream.URL = "127.0.0.1:80", "http://127.0.0.1"
		}, "proxy.upstream.url"},
		"itself by the TLS port": {func(c *config) {
			c.Proxy.Listen, c.Proxy.Upstream.URL = "[::]:443", "https://[::1]"
		}, "proxy.upstream.url"},
		"another machine's port":   {func(c *config) { c.Proxy.Upstream.URL = "http://192.0.2.1:8080" }, ""},
		"another address' port":    {func(c *config) { c.Proxy.Listen, c.Proxy.Upstream.URL = "192.0.2.1:80", "http://127.0.0.1:80" }, ""},
		"an unlimited body":        {func(c *config) { c.Proxy.MaxBody = 0 }, ""},
		"draining at once":         {func(c *config) { c.Proxy.DrainTimeout = 0 }, ""},
		"no keys at all":           {func(c *config) { c.Keys.PerAccount = 0 }, "keys.per_account"},
		"no audit trail":           {func(c *config) { c.Audit.Keep = 0 }, "audit.keep"},
		"a negative rate":          {func(c *config) { c.Proxy.DefaultRate.PerSecond = -0.5 }, "proxy.default_rate.per_second"},
		"a negative duration":      {func(c *config) { c.Proxy.DrainTimeout = -time.Second }, "proxy.drain_timeout"},
		"a timeout of nothing":     {func(c *config) { c.Proxy.Timeouts.Idle = 0 }, "proxy.timeouts.idle"},
		"a timeout in nanoseconds": {func(c *config) { c.Proxy.Upstream.Timeouts.Silence = 30 }, "proxy.upstream.timeouts.silence"},
		"a negative body":          {func(c *config) { c.Proxy.MaxBody = -1 }, "proxy.max_body"},
		"an unknown carrier":       {func(c *config) { c.Proxy.IgnoreCarriers = []string{"cookie"} }, "proxy.ignore_carriers[0]"},
		"no place for the store":   {func(c *config) { c.Store.Bolt.Path = "" }, "store.bolt.path"},
	} {
		var want []string
		if test.want != "" {
			want = []string{test.want}
		}
		if got := problemsAfter(test.change); !slices.Equal(got, want) {
			t.Errorf("%s: got problems with %q, want %q", name, got, want)
		}
	}
}

// Every duration that is waited for must be positive: a zero would mean "for ever" or "never" depending on who reads it.
func TestEveryTimeoutIsPositive(t *testing.T) {
	c := defaultConfig()
	for _, o := range options(&c) {
		if _, isDuration := o.value.Interface().(time.Duration); !isDuration || o.path == "proxy.drain_timeout" {
			continue
		}
		o.value.SetInt(0)
		if got := problemsAfter(func(changed *config) { *changed = c }); !slices.Contains(got, o.path) {
			t.Errorf("%s may be zero", o.path)
		}
	}
}

func TestCautionsAreGivenOnlyWhereTheyApply(t *testing.T) {
	for name, test := range map[string]struct {
		change func(c *config)
		want   string
	}{
		"admin on every interface": {func(c *config) { c.Admin.Listen, c.Admin.AllowPlainHTTP = ":8081", true }, "admin.listen: :8081"},
		"admin beyond, with TLS":   {func(c *config) { c.Admin.Listen, c.Admin.TLS = ":8081", tlsConfig{"c", "k"} }, ""},
		"admin on localhost":       {func(c *config) { c.Admin.Listen = "localhost:8081" }, ""},
		"admin on loopback, IPv6":  {func(c *config) { c.Admin.Listen = "[::1]:8081" }, ""},
		"everybody is trusted":     {func(c *config) { c.Proxy.TrustedProxies = []string{"10.0.0.1", "0.0.0.0/0"} }, "proxy.trusted_proxies"},
		"one network is trusted":   {func(c *config) { c.Proxy.TrustedProxies = []string{"10.0.0.0/8"} }, ""},
		"a burst of nothing":       {func(c *config) { c.Proxy.DefaultRate.Burst = 3 }, "proxy.default_rate"},
		"authorities without TLS":  {func(c *config) { c.Proxy.Upstream.CAFile = "ca.pem" }, "proxy.upstream.ca_file"},
		"authorities with TLS": {func(c *config) {
			c.Proxy.Upstream.CAFile, c.Proxy.Upstream.URL = "ca.pem", "https://up.example.com"
		}, ""},
	} {
		c := defaultConfig()
		test.change(&c)
		got := c.cautions()
		if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], test.want)) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
