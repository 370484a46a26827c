package main

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"keystile/admin"
)

// TestSilentConnectionsDoNotFillTheAdminListener opens more than it keeps, and asks as
// the operator and his probe do.
func TestSilentConnectionsDoNotFillTheAdminListener(t *testing.T) {
	a := newAuthority(t)
	for name, serve := range map[string]func(*testing.T) *process{
		"plain": func(t *testing.T) *process { return startServe(t, newSample(t).URL, command{}) },
		"TLS":   func(t *testing.T) *process { return startWithAdminTLS(t, a, t.TempDir()) },
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t)
			_, address, _ := strings.Cut(p.admin, "://")
			for range 250 {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
			}
			got, err := ask(a.client(), "GET", p.admin+keysPath, "", bearer(p.token))
			if err != nil || got.status != http.StatusOK {
				t.Errorf("the operator gets %d %s %v", got.status, got.body, err)
			}
			check := start(t, command{folder: p.folder, args: []string{"healthcheck"}, env: []string{"KEYSTILE_ADMIN_LISTEN=" + address}})
			if code := check.wait(t); code != 0 {
				t.Errorf("the probe ends with %d: %s", code, check.stderr.text())
			}
		})
	}
}

// TestNumberOfAdminConnectionsIsAsDocumented looks where operators read it.
func TestNumberOfAdminConnectionsIsAsDocumented(t *testing.T) {
	c := defaultConfig()
	for _, o := range options(&c) {
		if want := fmt.Sprintf("keeps %d connections", admin.MaxConnections); o.path == "admin.listen" && !strings.Contains(o.field.Tag.Get("doc"), want) {
			t.Errorf("%s does not say that it %s", o.path, want)
		}
	}
	readme := readFile(t, filepath.Join(moduleRoot(t), "README.md"))
	if want := fmt.Sprintf("all of its %d connections", admin.MaxConnections); !strings.Contains(readme, want) {
		t.Errorf("the README does not speak of %s", want)
	}
}
