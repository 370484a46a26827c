package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func printed(t *testing.T, c config) string {
	t.Helper()
	var out bytes.Buffer
	if err := printConfig(&out, c); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPrintedConfigReadsBackAsItself(t *testing.T) {
	changed := defaultConfig()
	changed.Proxy.Listen = "[::1]:8443"
	changed.Proxy.Upstream.Headers = map[string]headerSource{
		"Authorization": {File: "/run/secrets/upstream: #1"},
		"X-Api-Key":     {Env: "UPSTREAM_KEY"},
		"X-Version":     {Value: "3"},
		"X-Odd":         {Value: "true # {a: b} 'c' \"d\" ж\ttab"},
	}
	changed.Proxy.TrustedProxies = []string{"10.0.0.0/8", "2001:db8::/32"}
	changed.Proxy.DefaultRate = rateConfig{PerSecond: 0.125, Burst: 2}
	changed.Proxy.MaxBody = 12345
	changed.Proxy.Timeouts.Idle = 1500 * time.Millisecond
	changed.Admin.TokenFile = "- odd: name"
	changed.Admin.Hosts = []string{"null", "1e3", "yes"}
	changed.Keys.PepperFile = "~"
	for name, c := range map[string]config{"defaults": defaultConfig(), "changed": changed} {
		text := printed(t, c)
		got, _, err := parseConfig("printed.yaml", []byte(text), nil)
		if err != nil {
			t.Errorf("%s: %v in:\n%s", name, err, text)
		} else if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("%s (-printed +read back):\n%s", name, diff)
		}
	}
}

func TestPrintedConfigIsTheEffectiveOne(t *testing.T) {
	c, _, err := parseConfig("config.yaml", []byte("log: {level: debug, format: json}\n"), []string{"KEYSTILE_LOG_LEVEL=warn"})
	if err != nil {
		t.Fatal(err)
	}
	text := printed(t, c)
	if !strings.Contains(text, "log:\n  level: warn\n  format: json\n") {
		t.Errorf("got:\n%s", text)
	}
	if !strings.Contains(text, "  max_body: 64MiB\n") || !strings.Contains(text, "  drain_timeout: 10s\n") {
		t.Errorf("sizes or durations do not read as people write them:\n%s", text)
	}
}

func TestPrintedConfigHoldsReferencesNeverSecrets(t *testing.T) {
	file := writeSecret(t, canary, 0o600)
	env := []string{"UPSTREAM_KEY=" + canary, "KEYSTILE_ADMIN_TOKEN=" + canary + canary, "KEYSTILE_UPSTREAM_PASSWORD=" + canary}
	c, warnings, err := parseConfig("config.yaml", []byte("proxy:\n  upstream:\n    headers:\n"+
		"      Authorization: {file: "+file+"}\n      X-Api-Key: {env: UPSTREAM_KEY}\nkeys: {pepper_file: "+file+"}\n"), env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resolveHeaders(c.Proxy.Upstream.Headers, env); err != nil {
		t.Fatal(err)
	}
	text := printed(t, c)
	if strings.Contains(text+strings.Join(warnings, "\n"), canary) {
		t.Errorf("a secret shows in:\n%s\n%q", text, warnings)
	}
	for _, want := range []string{"Authorization:\n        file: " + file, "X-Api-Key:\n        env: UPSTREAM_KEY", "pepper_file: " + file} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestPrintingReportsWhatItCouldNotWrite(t *testing.T) {
	if err := printConfig(brokenWriter{}, defaultConfig()); err == nil {
		t.Error("printConfig: want an error")
	}
	if err := writeSchema(brokenWriter{}); err == nil {
		t.Error("writeSchema: want an error")
	}
}
