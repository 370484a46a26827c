package main

import (
	"strings"
	"testing"
)

func TestNamesForTheKeyAndSecretHeaders(t *testing.T) {
	checkRule(t, "header", []ruleCase{
		{"X-Key", ""},
		{"x-secret", ""},
		{"Api-Client", ""},
		{"X-Client-Secret", ""},
		{"", "expected the name of a header"},
		{"X Key", "expected the name of a header"},
		{"X-Key:", "expected the name of a header"},
		{"X-Kéy", "expected the name of a header"},
		{"X-Key\r\n", "expected the name of a header"},
		{"X_Key", "must not contain an underscore"},
		{"Authorization", "has a meaning of its own"},
		{"authorization", "has a meaning of its own"},
		{"x-api-key", "has a meaning of its own"},
		{"Cookie", "has a meaning of its own"},
		{"Proxy-Authorization", "has a meaning of its own"},
		{"Connection", "has a meaning of its own"},
		{"keep-alive", "has a meaning of its own"},
		{"TE", "has a meaning of its own"},
		{"Trailer", "has a meaning of its own"},
		{"Transfer-Encoding", "has a meaning of its own"},
		{"Upgrade", "has a meaning of its own"},
		{"Host", "has a meaning of its own"},
		{"Content-Length", "has a meaning of its own"},
		{"Content-Type", "has a meaning of its own"},
		{"Expect", "has a meaning of its own"},
		{"Forwarded", "has a meaning of its own"},
		{"X-Forwarded-For", "has a meaning of its own"},
		{"x-forwarded-anything", "has a meaning of its own"},
		{"X-Real-IP", "has a meaning of its own"},
		{"X-Request-ID", "has a meaning of its own"},
		{"X-Keystile-Account", "has a meaning of its own"},
		{"Idempotency-Key", "has a meaning of its own"},
	})
}

func TestUpstreamHeaders(t *testing.T) {
	file, env := headerSource{File: "/run/secrets/a"}, headerSource{Env: "UPSTREAM_KEY"}
	text := func(value string) headerSource { return headerSource{Value: value} }
	for _, test := range []struct {
		name   string
		source headerSource
		want   string // empty: accepted
	}{
		{"Authorization", file, ""},
		{"authorization", env, ""},
		{"X-Api-Key", env, ""},
		{"X-Key", file, ""},
		{"X-Secret", file, ""},
		{"Proxy-Authorization", file, ""},
		{"Cookie", file, ""},
		{"X-Team", text("pictures"), ""},
		{"X-Team", text("tab\tinside"), ""},
		{"X-Team", text("Привет"), ""},
		{"User-Agent", text("keystile"), ""},
		{"Authorization", text("Bearer x"), "{file: path} or {env: NAME}"},
		{"X-Api-Key", text("x"), "looks like a secret"},
		{"X-Team", headerSource{}, "has no value"},
		{"X-Team", text("a\r\nX-Evil: b"), "which no header may have"},
		{"X-Team", text(" a"), "which no header may have"},
		{"X-Team", text("a\x00"), "which no header may have"},
		{"X-Team", headerSource{Env: "A=B"}, "expected the name of a variable"},
		{"X-Team", headerSource{Env: "A B"}, "expected the name of a variable"},
		{"Bad Name", text("x"), "is not the name of a header"},
		{"", text("x"), "is not the name of a header"},
		{"Host", text("x"), "set by Keystile or by the connection itself"},
		{"Connection", text("x"), "set by Keystile or by the connection itself"},
		{"X-Forwarded-For", text("x"), "set by Keystile or by the connection itself"},
		{"X_Forwarded_For", text("x"), "set by Keystile or by the connection itself"},
		{"Transfer_Encoding", text("x"), "set by Keystile or by the connection itself"},
		{"X-Keystile-Key", text("x"), "set by Keystile or by the connection itself"},
		{"Content-Length", file, "set by Keystile or by the connection itself"},
	} {
		err := checkUpstreamHeader(test.name, test.source)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s %+v: refused: %v", test.name, test.source, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s %+v: got %v, want %q", test.name, test.source, err, test.want)
		}
	}
}

func TestHeadersThatCarrySecretsAreRecognized(t *testing.T) {
	for _, name := range []string{
		"Authorization", "Proxy-Authorization", "X-Authorization", "Cookie", "X-Api-Key", "Api-Key", "ApiKey", "x-goog-api-key",
		"Ocp-Apim-Subscription-Key", "X-Key", "X_Key", "X-Secret", "X-Auth", "X-Auth-Token", "PRIVATE-TOKEN", "X-Client-Secret", "X-Password",
		"X-Signature", "X-Amz-Credential", "x.auth", "X-Hub-Sig",
	} {
		if !isSecretHeader(name) {
			t.Errorf("%s is not taken for a secret", name)
		}
	}
	for _, name := range []string{"X-Team", "User-Agent", "Accept", "X-Author", "X-Keyboard", "Anthropic-Version", "OpenAI-Organization", "X-Monkey"} {
		if isSecretHeader(name) {
			t.Errorf("%s is taken for a secret", name)
		}
	}
}

func TestTheSameHeaderInTwoSpellingsIsAProblem(t *testing.T) {
	got := problemsAfter(func(c *config) {
		c.Proxy.Upstream.Headers = map[string]headerSource{"X-Team": {Value: "a"}, "x-team": {Value: "b"}, "X-TEAM": {Value: "c"}, "X-Other": {Value: "d"}}
	})
	want := "proxy.upstream.headers.X-Team proxy.upstream.headers.x-team"
	if strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTokens(t *testing.T) {
	for text, want := range map[string]bool{"X-Key": true, "!#$%&'*+-.^_`|~09az": true, "": false, "a b": false, "a:": false, "é": false, "a\x00": false, "(a)": false} {
		if isToken(text) != want {
			t.Errorf("%q: got %v", text, !want)
		}
	}
}
