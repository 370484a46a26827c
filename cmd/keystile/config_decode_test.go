package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update-config", false, "write what testdata/config expects anew; read the difference before you commit it")

// Each archive in testdata/config has a config.yaml, if wanted an env with one variable on each line, and under mistakes and warnings exactly
// what the operator reads.
func TestEveryMistakeIsReportedWithItsPlace(t *testing.T) {
	archives, err := filepath.Glob("testdata/config/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { checkArchive(t, path) })
	}
}

func checkArchive(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, file := range archive.Files {
		parts[file.Name] = string(file.Data)
	}
	env := strings.Split(strings.TrimSpace(parts["env"]), "\n")
	_, warnings, err := parseConfig("config.yaml", []byte(parts["config.yaml"]), env)
	got := map[string]string{"mistakes": "", "warnings": ""}
	if err != nil {
		got["mistakes"] = err.Error() + "\n"
	}
	for _, warning := range warnings {
		got["warnings"] += warning + "\n"
	}
	if *update {
		updateArchive(t, path, archive, got)
		return
	}
	for _, name := range []string{"mistakes", "warnings"} {
		if diff := cmp.Diff(strings.Split(parts[name], "\n"), strings.Split(got[name], "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func updateArchive(t *testing.T, path string, archive *txtar.Archive, got map[string]string) {
	for i, file := range archive.Files {
		if text, found := got[file.Name]; found {
			archive.Files[i].Data = []byte(text)
		}
	}
	if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsReadOverTheDefaults(t *testing.T) {
	got, _, err := parseConfig("config.yaml", []byte(`
proxy:
  listen: "127.0.0.1:9999"
  upstream:
    url: https://api.example.com/v2
    headers:
      Authorization: {file: /run/secrets/upstream}
      X-Api-Key:
        env: UPSTREAM_KEY
      X-Version: 3
      X-Team: "pictures and sound"
    timeouts: {silence: 1h}
  trusted_proxies:
    - 10.0.0.0/8
    - 192.0.2.1
  tls:
  default_rate: {per_second: 0.5, burst: 3}
  ignore_carriers: [bearer, basic]
  websocket: true
  max_body: 1048576
  drain_timeout: 0s
admin: {hosts: [keystile.example.com]}
keys:
  per_account: 25
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Proxy.Listen = "127.0.0.1:9999"
	want.Proxy.Upstream.URL = "https://api.example.com/v2"
	want.Proxy.Upstream.Headers = map[string]headerSource{
		"Authorization": {File: "/run/secrets/upstream"},
		"X-Api-Key":     {Env: "UPSTREAM_KEY"},
		"X-Version":     {Value: "3"},
		"X-Team":        {Value: "pictures and sound"},
	}
	want.Proxy.Upstream.Timeouts.Silence = time.Hour
	want.Proxy.TrustedProxies = []string{"10.0.0.0/8", "192.0.2.1"}
	want.Proxy.DefaultRate = rateConfig{PerSecond: 0.5, Burst: 3}
	want.Proxy.IgnoreCarriers = []string{"bearer", "basic"}
	want.Proxy.WebSocket = true
	want.Proxy.MaxBody = 1 << 20
	want.Proxy.DrainTimeout = 0
	want.Admin.Hosts = []string{"keystile.example.com"}
	want.Keys.PerAccount = 25
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFilesThatSayNothingMeanTheDefaults(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                "",
		"blank lines":          "\n\n",
		"only a comment":       "# later\n",
		"a byte order mark":    "\ufeff",
		"a mark and a comment": "\ufeff# later\n",
		"an empty document":    "---\n",
		"null":                 "null\n",
		"an ended document":    "---\n...\n",
		"empty sections":       "proxy:\nadmin: {}\nkeys: ~\nstore:\n  bolt:\nlog:\n",
		"empty lists":          "proxy:\n  trusted_proxies:\n  ignore_carriers: []\n  upstream:\n    headers:\n",
		"Windows line ends":    "proxy:\r\n  listen: \":8080\"\r\n",
		"an anchor never used": "proxy: &p\n  listen: \":8080\"\n",
	} {
		got, _, err := parseConfig("config.yaml", []byte(text), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(defaultConfig(), got); diff != "" {
			t.Errorf("%s (-default +got):\n%s", name, diff)
		}
	}
}

func TestByteOrderMarkDoesNotHideTheFirstOption(t *testing.T) {
	got, _, err := parseConfig("config.yaml", []byte("\ufefflog: {level: debug}\n"), nil)
	if err != nil || got.Log.Level != "debug" {
		t.Errorf("got level %q, %v", got.Log.Level, err)
	}
}

func TestFilesThatAreNoConfigurationAreRefusedWithALine(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"a NUL byte":         {"log:\n  level: in\x00fo\n", "config.yaml:2:12: the file contains the control character U+0000"},
		"an escape sequence": {"\x1b[1mlog", "config.yaml:1:1: the file contains the control character U+001B"},
		"Latin-1":            {"# d\xe9but\n", "config.yaml:1:4: the file is not UTF-8 text"},
		"UTF-16":             {"\xff\xfel\x00o\x00g\x00", "config.yaml:1:1: the file is not UTF-8 text"},
		"a control in C1":    {"a: \u0090\n", "config.yaml:1:4: the file contains the control character U+0090"},
		"two documents":      {"log: {level: info}\n---\nlog: {level: debug}\n", "config.yaml:2:1: a second YAML document begins here; the configuration is a single one"},
		"an open list":       {"proxy:\n  trusted_proxies: [10.0.0.1\nadmin:\n", "config.yaml:3:6: this is not valid YAML: while parsing a flow sequence: did not find expected ',' or ']'"},
		"a tab":              {"log:\n\tlevel: info\n", "config.yaml:2:1: this is not valid YAML: while scanning for the next token: found character that cannot start any token; indent the line with spaces, not with a tab"},
		"an unknown anchor":  {"log: *nothing\n", "config.yaml:1:6: this is not valid YAML: unknown anchor 'nothing' referenced"},
		"deep nesting":       {strings.Repeat("[", 20000), "config.yaml:1:10001: this is not valid YAML: while increasing flow level: exceeded max depth of 10000"},
		"another version":    {"%YAML 3.0\n---\nlog:\n", "config.yaml:1:1: this is not valid YAML: found incompatible YAML document"},
		"a token by mistake": {"kst-token-by-mistake\n", "config.yaml:1:1: expected a section: options on lines of their own, indented, got a single value"},
		"a list":             {"- proxy\n", "config.yaml:1:1: expected a section: options on lines of their own, indented, got a list"},
	} {
		_, _, err := parseConfig("config.yaml", []byte(test.text), nil)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, test.want)
		}
	}
}

// Who leaves a section out, or indents too much, is told where the option belongs.
func TestOptionInTheWrongPlaceIsToldWhereItBelongs(t *testing.T) {
	for text, want := range map[string]string{
		"upstream: {url: x}":            `unknown option "upstream"; it belongs in the section proxy`,
		"listen: x":                     `unknown option "listen"; it belongs in the section proxy or admin`,
		"proxy.listen: x":               `unknown option "proxy.listen"; it belongs in the section proxy`,
		"proxy: {url: x}":               `proxy: unknown option "url"; it belongs in the section proxy.upstream or store.redis`,
		"admin: {log: {level: info}}":   `admin: unknown option "log"; it is a section or option of its own: write it at the beginning of a line`,
		"proxy: {timeouts: {idles: 1}}": `proxy.timeouts: unknown option "idles"; did you mean "idle"?`,
		"nothing: x":                    `unknown option "nothing"`,
		`"": x`:                         `unknown option nothing`,
		".: x":                          `unknown option "."`,
	} {
		_, _, err := parseConfig("c", []byte(text), nil)
		if err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
}

// A few hundred bytes of nested aliases can stand for gigabytes. They are refused where they stand, without being expanded.
func TestAliasBombIsRefused(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("log: &a {level: info}\n")
	for level := range 20 {
		fmt.Fprintf(&bomb, "%c: &%c [%s*%c]\n", 'b'+level, 'b'+level, strings.Repeat(fmt.Sprintf("*%c, ", 'a'+level), 9), 'a'+level)
	}
	bomb.WriteString("admin: *u\n")
	_, _, err := parseConfig("config.yaml", []byte(bomb.String()), nil)
	if err == nil || !strings.Contains(err.Error(), "config.yaml:22:8: admin: aliases (*name) are not supported here") {
		t.Errorf("got %v", err)
	}
}

func TestOneOptionIsReportedOncePerPlace(t *testing.T) {
	_, _, err := parseConfig("config.yaml", []byte("proxy:\n  drain_timeout: soon\n  trusted_proxies: [[a]]\n"), nil)
	want := "config.yaml:2:18: proxy.drain_timeout: expected a duration with its unit such as 500ms, 30s or 5m, got \"soon\"\n" +
		"config.yaml:3:21: proxy.trusted_proxies[0]: expected text, got a list"
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestVeryManyMistakesAreCutShort(t *testing.T) {
	var text strings.Builder
	text.WriteString("proxy:\n  trusted_proxies:\n")
	for range 50_000 {
		text.WriteString("  - x\n")
	}
	_, _, err := parseConfig("config.yaml", []byte(text.String()), nil)
	if err == nil {
		t.Fatal("want an error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxMistakesShown+1 || lines[maxMistakesShown] != "and 49900 more mistakes" {
		t.Errorf("got %d lines, the last one %q", len(lines), lines[len(lines)-1])
	}
}

// Secrets end up in the wrong place of a configuration; no message may carry them to a log.
func TestMisplacedSecretsAreNotRepeated(t *testing.T) {
	const secret = "hunter2-hunter2"
	for name, text := range map[string]string{
		"in the upstream's URL":     "proxy: {upstream: {url: \"http://user:" + secret + "@host\"}}",
		"in a URL without a scheme": "proxy: {upstream: {url: \"user:" + secret + "@host:1\"}}",
		"in a query":                "proxy: {upstream: {url: \"http://host/?key=" + secret + "\"}}",
		"in a fragment":             "proxy: {upstream: {url: \"http://host/#" + secret + "\"}}",
		"in Redis' URL":             "store: {redis: {url: \"redis://:" + secret + "@127.0.0.1\"}}",
		"in Redis' URL, half":       "store: {redis: {url: \":" + secret + "@127.0.0.1\"}}",
		"as a header":               "proxy: {upstream: {headers: {Authorization: " + secret + "}}}",
		"as a header, quoted":       "proxy: {upstream: {headers: {X-Token: \"" + secret + "\\r\\n\"}}}",
		"as a header's list":        "proxy: {upstream: {headers: {Authorization: [" + secret + "]}}}",
		"in a header's reference":   "proxy: {upstream: {headers: {Authorization: {value: " + secret + "}}}}",
		"instead of a section":      "keys: " + secret,
		"instead of headers":        "proxy: {upstream: {headers: " + secret + "}}",
		"instead of everything":     secret,
		"in bad YAML":               "keys: \"" + secret,
		"in more bad YAML":          "keys: {pepper: " + secret + ": x}\n}",
	} {
		_, _, err := parseConfig("config.yaml", []byte(text), nil)
		if err == nil {
			t.Errorf("%s: want an error", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the message repeats the secret: %v", name, err)
		}
	}
}
