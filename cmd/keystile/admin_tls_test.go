package main

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

const adminTLS = "admin: {tls: {cert_file: tls.crt, key_file: tls.key}}"

// writeAuthority writes the certificate of the authority itself.
func (a *authority) writeAuthority(t testing.TB, path string) {
	t.Helper()
	writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})), 0o644)
}

// startWithAdminTLS starts serve with a certificate of the authority for its admin
// listener. Beside it in its folder is that of the authority, ca.pem.
func startWithAdminTLS(t testing.TB, a *authority, folder string) *process {
	t.Helper()
	a.write(t, folder, 2)
	a.writeAuthority(t, filepath.Join(folder, "ca.pem"))
	return startServe(t, newSample(t).URL, command{folder: folder, config: adminTLS})
}

func TestAdminListenerSpeaksTLSAndTakesANewCertificate(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	p := startWithAdminTLS(t, a, folder)
	if !strings.HasPrefix(p.admin, "https://127.0.0.1:") || !strings.HasPrefix(p.proxy, "http://") {
		t.Fatalf("it says that the proxy is at %s and the admin listener at %s", p.proxy, p.admin)
	}
	serial := func() int64 {
		response, err := a.client().Get(p.admin + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK || response.ProtoMajor != 1 {
			t.Errorf("over TLS: %s %s", response.Proto, response.Status)
		}
		return response.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Errorf("the certificate is number %d", got)
	}
	a.write(t, folder, 3)
	eventually(t, "the new certificate is served", func() bool { return serial() == 3 })
	expectHealth(t, p, 0, "ready\n")

	address := strings.TrimPrefix(p.admin, "https://")
	plain, err := ask(http.DefaultClient, "GET", "http://"+address+keysPath, "", bearer(p.token))
	if err != nil || plain.status != http.StatusBadRequest {
		t.Errorf("without TLS: %v, %d %s", err, plain.status, plain.body)
	}
	for what, offer := range map[string]*tls.Config{
		"TLS 1.1": {InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"HTTP/2":  {InsecureSkipVerify: true, NextProtos: []string{"h2"}},
	} {
		if conn, err := tls.Dial("tcp", address, offer); err == nil {
			_ = conn.Close()
			t.Errorf("%s is accepted", what)
		}
	}
	p.stop(t)
}

// TestConsoleSignsInAndOutOverTLS does what a browser does, in the process that is shipped.
func TestConsoleSignsInAndOutOverTLS(t *testing.T) {
	a := newAuthority(t)
	p := startWithAdminTLS(t, a, t.TempDir())
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := a.client()
	browser.Jar = jar
	call := func(method, path, body string, status int) reply {
		t.Helper()
		got, err := ask(browser, method, p.admin+path, body, "Content-Type: application/json", "Origin: "+p.admin)
		if err != nil || got.status != status {
			t.Fatalf("%s %s: %v, %d %s", method, path, err, got.status, got.body)
		}
		return got
	}
	const session = "/api/v1/session"
	call("GET", keysPath, "", http.StatusUnauthorized)
	given := call("POST", session, fmt.Sprintf(`{"token":%q}`, p.token), http.StatusOK).header.Get("Set-Cookie")
	if !strings.HasPrefix(given, "__Host-") || !strings.Contains(given, "; Secure; ") {
		t.Errorf("the cookie is %s", given)
	}
	call("POST", keysPath, `{"name":"shop"}`, http.StatusCreated)
	call("DELETE", session, "", http.StatusNoContent)
	call("GET", keysPath, "", http.StatusUnauthorized)
	copied, _, _ := strings.Cut(given, ";")
	if got, err := ask(a.client(), "GET", p.admin+keysPath, "", "Cookie: "+copied); err != nil || got.status != http.StatusUnauthorized {
		t.Errorf("a copy of the cookie after sign-out: %v, %d %s", err, got.status, got.body)
	}
}

// The scripts in testdata/tls run commands beside a process whose admin listener has a
// certificate: by its configuration, and as from another machine.
func TestCommandsReachTheAdminListenerOverTLS(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "tls"), RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			t, a := env.T().(testing.TB), newAuthority(t)
			p := startWithAdminTLS(t, a, env.WorkDir)
			other := t.TempDir()
			newAuthority(t).write(t, other, 9)
			writeFile(t, filepath.Join(env.WorkDir, "other.crt"), readFile(t, filepath.Join(other, "tls.crt")), 0o644)
			address := strings.TrimPrefix(p.admin, "https://")
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return err
			}
			env.Setenv("ADDRESS", address)
			env.Setenv("PORT", port)
			env.Setenv("PLAIN", strings.TrimPrefix(p.proxy, "http://"))
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
	})
}

func TestOnlyLoopbackIsNotReadableByOthers(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": false, "127.8.9.10:1": false, "[::1]:1": false, "[::ffff:127.0.0.1]:1": false, "localhost:1": false, "LOCALHOST:1": false,
		":1": true, "0.0.0.0:1": true, "[::]:1": true, "192.168.0.1:1": true, "10.0.0.1:1": true, "[fe80::1%eth0]:1": true,
		"keystile.example.com:1": true, "localhost.example.com:1": true, "localhost.:1": true,
	} {
		c := defaultConfig()
		c.Admin.Listen = address
		refused := len(c.problems()) > 0
		if c.Admin.readable(address) != want || refused != want {
			t.Errorf("%s: readable %v, refused %v", address, c.Admin.readable(address), refused)
		}
		c.Admin.TLS = tlsConfig{"c", "k"}
		if c.Admin.readable(address) || len(c.problems()) > 0 || len(c.cautions()) > 0 {
			t.Errorf("%s with TLS: %v, %v", address, c.problems(), c.cautions())
		}
		c.Admin.TLS, c.Admin.AllowPlainHTTP = tlsConfig{}, true
		if warned := len(c.cautions()) == 1; len(c.problems()) > 0 || warned != want {
			t.Errorf("%s where it is allowed: %v, %v", address, c.problems(), c.cautions())
		}
	}
}
