package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironmentGoesBeforeFileAndFlagBeforeBoth(t *testing.T) {
	file := []byte("proxy: {listen: \":1\", drain_timeout: 1s, max_body: 1}\n")
	env := []string{"KEYSTILE_PROXY_LISTEN=:2", "KEYSTILE_PROXY_DRAIN_TIMEOUT=2s"}
	got, _, err := parseConfig("config.yaml", file, env, override{"--proxy-listen", "proxy.listen", ":3"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Proxy.Listen != ":3" || got.Proxy.DrainTimeout != 2*time.Second || got.Proxy.MaxBody != 1 {
		t.Errorf("got listen %s (flag :3), drain %s (environment 2s), body %s (file 1)", got.Proxy.Listen, got.Proxy.DrainTimeout, got.Proxy.MaxBody)
	}
	if got.Proxy.Engine != "auto" {
		t.Errorf("got engine %q, want the default", got.Proxy.Engine)
	}
}

// For each option that is no map, a value that differs from its default arrives through its variable.
func TestEveryOptionCanBeSetFromTheEnvironment(t *testing.T) {
	values := map[string]string{
		"proxy.listen": "127.0.0.1:1", "proxy.upstream.url": "https://up.example.com", "proxy.upstream.ca_file": "ca.pem",
		"proxy.engine": "standard", "proxy.trusted_proxies": "10.0.0.1,10.1.0.0/16", "proxy.key_header": "X-Mine",
		"proxy.secret_header": "X-Hush", "proxy.ignore_carriers": "basic,bearer", "admin.listen": "127.0.0.1:2",
		"admin.token_file": "t", "admin.hosts": "a.example.com", "keys.pepper_file": "p", "store.bolt.path": "k.db",
		"store.redis.url": "rediss://r:1/2", "store.redis.prefix": "{other}", "store.redis.password_file": "pw",
		"log.level": "debug", "log.format": "json", "proxy.tls.cert_file": "c.pem", "proxy.tls.key_file": "k.pem",
		"admin.tls.cert_file": "c.pem", "admin.tls.key_file": "k.pem",
		"proxy.default_rate.per_second": "2.5", "proxy.max_body": "3GiB", "store.driver": "redis",
		"store.redis.addresses": "a:1,b:2", "store.redis.sentinel_primary": "mymaster", "store.redis.user": "me",
		"store.redis.sentinel_user": "me", "store.redis.sentinel_password_file": "spw", "store.redis.name": "n",
		"store.redis.tls.ca_file": "ca.pem", "store.redis.tls.cert_file": "c.pem", "store.redis.tls.key_file": "k.pem",
		"store.redis.tls.server_name": "r.example.com", "store.redis.state_file": "s", "store.redis.receipt_deadline": "7s",
	}
	byType := map[reflect.Type]string{reflect.TypeFor[int](): "77", reflect.TypeFor[time.Duration](): "77s"}
	c := defaultConfig()
	var env, set []string
	for _, o := range options(&c) {
		text, found := values[o.path]
		if !found {
			text = byType[o.field.Type]
		}
		if o.field.Type.Kind() == reflect.Bool {
			text = map[bool]string{true: "false", false: "true"}[o.value.Bool()]
		}
		// A Cluster has no Sentinels: TestClusterFromTheEnvironment sets it.
		if text != "" && o.path != "store.redis.cluster" {
			env, set = append(env, o.variable()+"="+text), append(set, o.path)
		}
	}
	got, warnings, err := parseConfig("config.yaml", nil, env)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, "unknown") }) {
		t.Errorf("got warnings %q", warnings)
	}
	before := defaultConfig()
	defaults := options(&before)
	for i, o := range options(&got) {
		changed := !cmp.Equal(o.value.Interface(), defaults[i].value.Interface())
		if exempt := o.path == "store.redis.cluster" || o.field.Type.Kind() == reflect.Map; !changed && !exempt {
			t.Errorf("%s has its default although %s was set", o.path, o.variable())
		}
	}
	if len(set) < 55 {
		t.Errorf("only %d options were tried", len(set))
	}
}

func TestClusterFromTheEnvironment(t *testing.T) {
	got, _, err := parseConfig("config.yaml", nil, []string{"KEYSTILE_STORE_REDIS_CLUSTER=true"})
	if err != nil || !got.Store.Redis.Cluster {
		t.Errorf("got %v, %v", got.Store.Redis.Cluster, err)
	}
}

func TestValueFromTheEnvironmentIsNeverReadAsYAML(t *testing.T) {
	for _, text := range []string{"{env: HOME}", "[a]", "*a", "!!str x", "a: b", "# none", "'x'", "\"x\"", "~", "null"} {
		got, _, err := parseConfig("config.yaml", nil, []string{"KEYSTILE_STORE_BOLT_PATH=" + text})
		if err != nil || got.Store.Bolt.Path != text {
			t.Errorf("%q: got %q, %v", text, got.Store.Bolt.Path, err)
		}
	}
}

func TestEmptyVariableEmptiesTextAndLists(t *testing.T) {
	file := []byte("keys: {pepper_file: p}\nproxy: {trusted_proxies: [10.0.0.1]}\n")
	got, _, err := parseConfig("config.yaml", file, []string{"KEYSTILE_KEYS_PEPPER_FILE=", "KEYSTILE_PROXY_TRUSTED_PROXIES="})
	if err != nil || got.Keys.PepperFile != "" || len(got.Proxy.TrustedProxies) != 0 {
		t.Errorf("got %q, %q, %v", got.Keys.PepperFile, got.Proxy.TrustedProxies, err)
	}
}

// An operator who sets a list to fewer items than the file has must not see the file's places, nor its items, again.
func TestListFromTheEnvironmentReplacesTheFilesListWhole(t *testing.T) {
	file := []byte("proxy:\n  trusted_proxies:\n    - 10.0.0.1\n    - 10.0.0.2\n")
	got, _, err := parseConfig("config.yaml", file, []string{"KEYSTILE_PROXY_TRUSTED_PROXIES=192.0.2.1"})
	if err != nil || !slices.Equal(got.Proxy.TrustedProxies, []string{"192.0.2.1"}) {
		t.Errorf("got %q, %v", got.Proxy.TrustedProxies, err)
	}
	_, _, err = parseConfig("config.yaml", file, []string{"KEYSTILE_PROXY_TRUSTED_PROXIES=nobody"})
	if err == nil || !strings.HasPrefix(err.Error(), "KEYSTILE_PROXY_TRUSTED_PROXIES: ") {
		t.Errorf("got %v, want a mistake in the variable", err)
	}
}

func TestFlagsAreNamedInTheirMistakes(t *testing.T) {
	_, _, err := parseConfig("config.yaml", nil, []string{"KEYSTILE_PROXY_LISTEN=nowhere"},
		override{"--proxy-listen", "proxy.listen", "8080"},
		override{"--max-body", "proxy.max_body", "big"},
		override{"--nothing", "proxy.nothing", "1"})
	want := strings.Join([]string{
		`--max-body: proxy.max_body: expected a size in bytes such as 65536 or 64MiB, got "big"`,
		`--nothing: proxy.nothing: there is no such option`,
		`--proxy-listen: proxy.listen: expected an address as host:port or :port, got "8080" (did you mean ":8080"?)`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestLastOfTwoEqualVariablesCounts(t *testing.T) {
	env := []string{"KEYSTILE_LOG_LEVEL=debug", "KEYSTILE_LOG_LEVEL=warn", "KEYSTILE_LOG_LEVELS=x", "KEYSTILE_LOG_LEVELS=y"}
	got, warnings, err := parseConfig("config.yaml", nil, env)
	if err != nil || got.Log.Level != "warn" {
		t.Errorf("got %q, %v", got.Log.Level, err)
	}
	if len(warnings) != 1 {
		t.Errorf("want one warning, got %q", warnings)
	}
}

func TestLookup(t *testing.T) {
	env := []string{"A=1", "AB=2", "A=3", "EMPTY=", "ODD", "EQ=a=b"}
	for name, want := range map[string]string{"A": "3", "AB": "2", "EMPTY": "", "MISSING": "", "ODD": "", "EQ": "a=b"} {
		if got := lookup(env, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestUnknownVariableIsAWarningThatDoesNotShowItsValue(t *testing.T) {
	_, warnings, err := parseConfig("config.yaml", nil, []string{"KEYSTILE_UPSTREAM_PASSWORD=hunter2", "KEYSTILE=x", "KEYSTILE_"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"KEYSTILE_UPSTREAM_PASSWORD: unknown variable, ignored"}; !slices.Equal(warnings, want) {
		t.Errorf("got %q, want %q", warnings, want)
	}
}
