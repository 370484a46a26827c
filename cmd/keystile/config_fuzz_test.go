package main

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzConfig gives loadConfig any file and any environment. Nothing panics; every mistake says where it is; what is accepted can be printed
// and means the same when it is read back.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(""), "KEYSTILE_PROXY_LISTEN=:80\nKEYSTILE_PROXY_TRUSTED_PROXIES=10.0.0.1,::1")
	f.Add([]byte("proxy: {upstream: {url: localhost, headers: {Authorization: {file: a}, X-A: b}}}"), "KEYSTILE_PROXY_KEY_HEADER=X-Secret")
	f.Add([]byte("a: &a [*a, !!x y]\n? {}\n: - ~"), "")
	place := regexp.MustCompile(`^(config\.yaml:[1-9]\d*:[1-9]\d*|KEYSTILE_[A-Z_]+): .`)
	f.Fuzz(func(t *testing.T, file []byte, variables string) {
		c, _, err := parseConfig("config.yaml", file, strings.Split(variables, "\n"))
		if err != nil {
			checkMistakes(t, err, place)
			return
		}
		var out bytes.Buffer
		if err := printConfig(&out, c); err != nil {
			t.Fatal(err)
		}
		again, _, err := parseConfig("printed.yaml", out.Bytes(), nil)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, out.Bytes())
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatalf("printed and read back (-before +after):\n%s\n%s", diff, out.Bytes())
		}
	})
}

func checkMistakes(t *testing.T, err error, place *regexp.Regexp) {
	t.Helper()
	mistakes, ok := errors.AsType[configMistakes](err)
	if !ok {
		t.Fatalf("not a list of mistakes: %v", err)
	}
	for _, m := range mistakes {
		if line := m.String(); !place.MatchString(line) || strings.ContainsAny(line, "\n\r\x00") {
			t.Fatalf("this line names no place, or is more than one: %q", line)
		}
	}
}
