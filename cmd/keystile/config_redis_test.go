package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRedisURLs(t *testing.T) {
	checkRule(t, "redis_url", []ruleCase{
		{"redis://127.0.0.1:6379/0", ""},
		{"rediss://redis.example.com", ""},
		{"redis://redis:6379/", ""},
		{"redis://redis:6379/15", ""},
		{"", "expected a URL such as redis://"},
		{"redis:6379", "expected a URL such as redis://"},
		{"127.0.0.1:6379", "expected a URL such as redis://"},
		{"http://127.0.0.1:6379", "expected a URL such as redis://"},
		{"redis://:password@127.0.0.1:6379/0", "store.redis.password_file"},
		{"redis://user:password@127.0.0.1", "store.redis.user"},
		{"redis://127.0.0.1?password=x", "must not contain a query"},
		{"redis:///0", "expected a host"},
		{"redis://127.0.0.1/first", "expected the number of a database"},
		{"redis://127.0.0.1/0/1", "expected the number of a database"},
	})
}

func TestRedisServers(t *testing.T) {
	checkRule(t, "redis_server", []ruleCase{
		{"redis-1:6379", ""},
		{"[::1]:26379", ""},
		{":6379", "expected a server as host:port"},
		{"redis-1:0", "expected a server as host:port"},
		{"redis-1", "expected an address"},
		{"redis://redis-1:6379", "expected an address"},
	})
	checkRule(t, "optional_host", []ruleCase{{"", ""}, {"redis.example.com", ""}, {"redis:6379", "without a scheme or a port"}})
}

func TestRedisPrefixKeepsAHashTag(t *testing.T) {
	checkRule(t, "redis_prefix", []ruleCase{
		{"{keystile}", ""},
		{"prod:{keystile}:", ""},
		{"{a}{b}", ""},
		{"", "part in braces"},
		{"keystile", "part in braces"},
		{"{}", "part in braces"},
		{"}a{", "part in braces"},
		{"{keystile", "part in braces"},
	})
}

func TestRedisOptionsThatMustFitTogether(t *testing.T) {
	for name, test := range map[string]struct {
		change func(c *redisConfig)
		want   string // empty: no problem
	}{
		"nodes of a Cluster":      {func(c *redisConfig) { c.Addresses, c.Cluster = []string{"a:1", "b:1"}, true }, ""},
		"Sentinels":               {func(c *redisConfig) { c.Addresses, c.SentinelPrimary = []string{"a:1", "b:1"}, "p" }, ""},
		"one other address":       {func(c *redisConfig) { c.Addresses = []string{"a:1"} }, ""},
		"servers of no kind":      {func(c *redisConfig) { c.Addresses = []string{"a:1", "b:1"} }, "addresses"},
		"both kinds":              {func(c *redisConfig) { c.Cluster, c.SentinelPrimary = true, "p" }, "cluster"},
		"a Cluster's database":    {func(c *redisConfig) { c.Cluster, c.URL = true, "redis://a/1" }, "url"},
		"a database":              {func(c *redisConfig) { c.URL = "redis://a/1" }, ""},
		"a user with a password":  {func(c *redisConfig) { c.User, c.PasswordFile = "u", "f" }, ""},
		"a user without":          {func(c *redisConfig) { c.User = "u" }, "user"},
		"a password alone":        {func(c *redisConfig) { c.PasswordFile = "f" }, ""},
		"a Sentinels' user alone": {func(c *redisConfig) { c.SentinelPrimary, c.SentinelUser = "p", "u" }, "sentinel_user"},
		"a Sentinels' password without any": {func(c *redisConfig) {
			c.SentinelPasswordFile = "f"
		}, "sentinel_password_file"},
		"a Sentinels' user and password": {func(c *redisConfig) {
			c.SentinelPrimary, c.SentinelUser, c.SentinelPasswordFile = "p", "u", "f"
		}, ""},
		"a certificate without its key": {func(c *redisConfig) { c.URL, c.TLS.CertFile = "rediss://a", "c" }, "tls.cert_file"},
		"a key without its certificate": {func(c *redisConfig) { c.URL, c.TLS.KeyFile = "rediss://a", "k" }, "tls.key_file"},
		"authorities without TLS":       {func(c *redisConfig) { c.TLS.CAFile = "ca" }, "tls.ca_file"},
		"a name without TLS":            {func(c *redisConfig) { c.TLS.ServerName = "a" }, "tls.server_name"},
		"all of TLS":                    {func(c *redisConfig) { c.URL, c.TLS = "rediss://a", redisTLSConfig{"ca", "c", "k", "a"} }, ""},
		"a reply that nobody gets":      {func(c *redisConfig) { c.ReceiptDeadline = time.Minute }, "receipt_deadline"},
		"nothing remembered":            {func(c *redisConfig) { c.StateFile = "" }, "state_file"},
		"no fence":                      {func(c *redisConfig) { c.FenceLag = 0 }, "fence_lag"},
	} {
		var want []string
		if test.want != "" {
			want = []string{"store.redis." + test.want}
		}
		if got := problemsAfter(func(c *config) { test.change(&c.Store.Redis) }); !slices.Equal(got, want) {
			t.Errorf("%s: got problems with %q, want %q", name, got, want)
		}
	}
}

func TestRedisServersAreTheAddressesOrTheHostOfTheURL(t *testing.T) {
	for name, test := range map[string]struct {
		c    redisConfig
		want []string
	}{
		"url":            {redisConfig{URL: "redis://a:1/2"}, []string{"a:1"}},
		"usual port":     {redisConfig{URL: "rediss://a"}, []string{"a:6379"}},
		"IPv6":           {redisConfig{URL: "redis://[::1]"}, []string{"[::1]:6379"}},
		"a Sentinel":     {redisConfig{URL: "redis://a", SentinelPrimary: "p"}, []string{"a:26379"}},
		"addresses":      {redisConfig{URL: "redis://a", Addresses: []string{"b:1", "c:2"}}, []string{"b:1", "c:2"}},
		"other database": {redisConfig{URL: "redis://a:1/15"}, []string{"a:1"}},
	} {
		if got := test.c.servers(); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	if n := (redisConfig{URL: "redis://a/15"}).database(); n != 15 {
		t.Errorf("the database is %d", n)
	}
}

func TestReadableRedisIsWarnedOfOnlyWhereItIsUsed(t *testing.T) {
	for name, test := range map[string]struct {
		driver string
		redis  redisConfig
		warned bool
	}{
		"another driver":      {"bolt", redisConfig{URL: "redis://redis"}, false},
		"another machine":     {"redis", redisConfig{URL: "redis://redis"}, true},
		"this machine":        {"redis", redisConfig{URL: "redis://localhost"}, false},
		"encrypted":           {"redis", redisConfig{URL: "rediss://redis"}, false},
		"one other machine":   {"redis", redisConfig{URL: "redis://localhost", Addresses: []string{"127.0.0.1:1", "redis:1"}}, true},
		"all encrypted":       {"redis", redisConfig{URL: "rediss://localhost", Addresses: []string{"redis:1"}}, false},
		"only this machine's": {"redis", redisConfig{URL: "redis://redis", Addresses: []string{"[::1]:1"}}, false},
	} {
		c := defaultConfig()
		c.Store.Driver, c.Store.Redis = test.driver, test.redis
		got := c.cautions()
		if warned := len(got) == 1 && strings.HasPrefix(got[0], "store.redis.url: without TLS"); warned != test.warned {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
