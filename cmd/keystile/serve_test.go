package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

const (
	aToken  = "an-administrator-token-of-the-operator"
	aPepper = "a pepper that is long enough for its purpose"
)

func TestFirstStartMakesATokenAndLaterStartsKeepIt(t *testing.T) {
	upstream := newSample(t)
	defer syscall.Umask(syscall.Umask(0)) // the modes must not depend on it
	p := startServe(t, upstream.URL, command{})
	for name, want := range map[string]fs.FileMode{
		"data": 0o700 | fs.ModeDir, "data/admin.token": 0o600, "data/keystile.db": 0o600,
	} {
		if info, err := os.Stat(filepath.Join(p.folder, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if log := p.stderr.text(); !strings.Contains(log, `"msg":"made an administrator token","file":"data/admin.token"`) || strings.Contains(log, p.token) {
		t.Errorf("it does not say where the token is, or says what it is:\n%s", log)
	}
	p.client(t).create(t, "")
	p.stop(t)
	first := p.token

	p = startServe(t, upstream.URL, command{folder: p.folder})
	if p.token != first {
		t.Error("the second start made another token")
	}
	if log := p.stderr.text(); strings.Contains(log, "made an administrator token") {
		t.Errorf("the second start says that it made one:\n%s", log)
	}
	if n := len(p.client(t).list(t)); n != 1 {
		t.Errorf("after the restart there are %d keys", n)
	}
}

func TestTokenInTheEnvironmentTakesTheFilesPlace(t *testing.T) {
	upstream := newSample(t)
	env := []string{"KEYSTILE_ADMIN_TOKEN=" + aToken}
	p := startServe(t, upstream.URL, command{env: env})
	if _, err := os.Stat(filepath.Join(p.folder, "data", "admin.token")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a token file was made: %v", err)
	}
	p.client(t).create(t, "")
	p.stop(t)

	p = startServe(t, upstream.URL, command{folder: p.folder})
	made := p.token
	p.stop(t)
	p = startServe(t, upstream.URL, command{folder: p.folder, env: env})
	if got := newAdminClient(t, p.admin, made).call(t, "GET", keysPath, ""); got.status != http.StatusUnauthorized {
		t.Errorf("beside the variable, the token of the file gets %d %s", got.status, got.body)
	}
	if n := len(p.client(t).list(t)); n != 1 {
		t.Errorf("there are %d keys", n)
	}
}

func TestEnvironmentGoesBeforeTheFileAndFlagsBeforeBoth(t *testing.T) {
	upstream := newSample(t)
	p := startServe(t, upstream.URL, command{ // its flags override all three addresses
		config: "keys: {per_account: 5}\nproxy: {listen: '203.0.113.7:1', secret_header: X-Pass, upstream: {url: 'http://203.0.113.7:1'}}",
		env:    []string{"KEYSTILE_KEYS_PER_ACCOUNT=1", "KEYSTILE_PROXY_UPSTREAM_URL=http://203.0.113.7:2", "KEYSTILE_PROXY_KEY_HEADER=X-Login"},
	})
	made := p.client(t).create(t, "")
	if got := p.client(t).call(t, "POST", keysPath, "{}"); got.code() != "key_limit_reached" {
		t.Errorf("beyond the environment's limit: %d %s", got.status, got.body)
	}
	got, err := ask(http.DefaultClient, "GET", p.proxy+"/echo", "", "X-Login: "+made.Key, "X-Pass: "+made.Secret)
	if err != nil || got.status != http.StatusOK {
		t.Errorf("by the headers of file and environment: %v, %d %s", err, got.status, got.body)
	}
}

func TestStoreIsOpenedOnlyWithItsPepper(t *testing.T) {
	upstream := newSample(t)
	folder := t.TempDir()
	peppers := filepath.Join(folder, "peppers")
	withPepper := command{folder: folder, env: []string{"KEYSTILE_KEYS_PEPPER_FILE=peppers"}}
	writeFile(t, peppers, aPepper+"\n", 0o600)
	p := startServe(t, upstream.URL, withPepper)
	made := p.client(t).create(t, "")
	admits(t, p, newLasting(t), made.Secret, "")
	p.stop(t)

	const mismatch = "opening the key store data/keystile.db: the pepper does not match the one this store was written with: "
	writeFile(t, peppers, "another "+aPepper+"\n", 0o600)
	refuses(t, command{folder: folder, env: withPepper.env, args: serveArgs()},
		mismatch+"add the right one to peppers, the file that keys.pepper_file names")
	refuses(t, command{folder: folder, args: serveArgs()},
		mismatch+"have keys.pepper_file, which is not set, name the file with the right one")

	writeFile(t, peppers, "another "+aPepper+"\n"+aPepper+"\n", 0o600)
	p = startServe(t, upstream.URL, withPepper)
	admits(t, p, newLasting(t), made.Secret, "")
	admits(t, p, newLasting(t), p.client(t).create(t, "").Secret, "")
}

func TestUpstreamGetsItsOwnCredentialsAndNotTheClients(t *testing.T) {
	folder := t.TempDir()
	writeFile(t, filepath.Join(folder, "authorization"), "Bearer of-the-upstream\n", 0o640)
	p := startServe(t, newSample(t).URL, command{
		folder: folder, env: []string{"UPSTREAM_KEY=also-of-the-upstream"},
		config: "proxy: {upstream: {headers: {Authorization: {file: authorization}, X-Api-Key: {env: UPSTREAM_KEY}, X-Team: pictures}}}",
	})
	made := p.client(t).create(t, "")
	for name, credentials := range map[string][]string{
		"bearer":    {bearer(made.Secret)},
		"x-api-key": {"x-api-key: " + made.Secret},
		"two":       {"X-Key: Key " + made.Key, "X-Secret: Secret " + made.Secret},
	} {
		got, err := ask(http.DefaultClient, "GET", p.proxy+"/echo", "", append(credentials, "X-Team: mine")...)
		if err != nil || got.status != http.StatusOK {
			t.Fatalf("%s: %v, %d %s", name, err, got.status, got.body)
		}
		var echo struct{ Headers http.Header }
		got.decode(t, &echo)
		for header, want := range map[string]string{
			"Authorization": "Bearer of-the-upstream", "X-Api-Key": "also-of-the-upstream", "X-Team": "pictures",
		} {
			if have := echo.Headers[header]; !slices.Equal(have, []string{want}) {
				t.Errorf("%s: the upstream got %s %q", name, header, have)
			}
		}
		if bytes.Contains(got.body, []byte(made.Secret)) || len(echo.Headers["X-Key"])+len(echo.Headers["X-Secret"]) > 0 {
			t.Errorf("%s: the upstream got the client's credentials: %s", name, got.body)
		}
	}
}

// authority makes certificates for 127.0.0.1.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.cert, _, a.key = a.issue(t, 1, true)
	return a
}

// issue makes a certificate, its PEM and its key. Of a new authority it is the first.
func (a *authority) issue(t testing.TB, serial int64, ca bool) (cert *x509.Certificate, certPEM []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: ca, BasicConstraintsValid: true,
	}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// write puts a new certificate and its key into files.
func (a *authority) write(t testing.TB, folder string, serial int64) {
	t.Helper()
	_, certPEM, key := a.issue(t, serial, false)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(folder, "tls.crt"), string(certPEM), 0o644)
	writeFile(t, filepath.Join(folder, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600)
}

// client trusts the authority and opens a connection for each request.
func (a *authority) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}}
}

func TestTLSListenerServesAndTakesANewCertificate(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.write(t, folder, 2)
	p := startServe(t, newSample(t).URL, command{folder: folder, config: "proxy: {tls: {cert_file: tls.crt, key_file: tls.key}}"})
	if !strings.HasPrefix(p.proxy, "https://127.0.0.1:") {
		t.Fatalf("it says that the proxy is at %s", p.proxy)
	}
	made := p.client(t).create(t, "")
	var serial int64
	get := func() {
		request, _ := http.NewRequest("GET", p.proxy+"/echo", nil)
		request.SetBasicAuth(made.Key, made.Secret)
		response, err := a.client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK || response.ProtoMajor != 1 {
			t.Errorf("over TLS: %s %s", response.Proto, response.Status)
		}
		serial = response.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if get(); serial != 2 {
		t.Errorf("the certificate is number %d", serial)
	}
	a.write(t, folder, 3)
	eventually(t, "the new certificate is served", func() bool { get(); return serial == 3 })

	plain, err := ask(http.DefaultClient, "GET", "http://"+strings.TrimPrefix(p.proxy, "https://")+"/", "", bearer(made.Secret))
	if err != nil || plain.status != http.StatusBadRequest {
		t.Errorf("without TLS: %v, %d %s", err, plain.status, plain.body)
	}
	p.stop(t)
}

func TestLogIsJSONWhenNotOnATerminal(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	p.client(t).create(t, "")
	p.stop(t)
	for line := range strings.Lines(p.stderr.text()) {
		var entry struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Msg == "" {
			t.Errorf("not a line of JSON: %q, %v", line, err)
		}
	}
	if p.stdout.text() != "" {
		t.Errorf("serve writes to its standard output: %q", p.stdout.text())
	}
}

// TestStartSaysWhichFileItReads: in another folder it would be another, or none.
func TestStartSaysWhichFileItReads(t *testing.T) {
	for config, want := range map[string]string{"log: {level: info}": "config.yaml", "": noConfigFile} {
		p := startServe(t, newSample(t).URL, command{config: config})
		if log := p.stderr.text(); !strings.Contains(log, `"config":"`+want+`"`) {
			t.Errorf("%q is not named: %s", want, log)
		}
	}
}

func TestLogIsTextOnATerminalAndWhereItIsAskedFor(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for name, c := range map[string]struct {
		format string
		on     *os.File
		text   bool
	}{
		"auto on a terminal": {"auto", terminal, true},
		"json on a terminal": {"json", terminal, false},
		"auto into a pipe":   {"auto", nil, false},
		"text into a pipe":   {"text", nil, true},
	} {
		log := newLog(logConfig{Level: "info", Format: c.format}, new(bytes.Buffer))
		if c.on != nil {
			log = newLog(logConfig{Level: "info", Format: c.format}, c.on)
		}
		if _, isText := log.Handler().(*slog.TextHandler); isText != c.text {
			t.Errorf("%s: %T", name, log.Handler())
		}
	}
}

func TestMetricsAreCleanAndFollowTheKeys(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	api := p.client(t)
	first, second := api.create(t, ""), api.create(t, "")
	admits(t, p, newLasting(t), first.Secret, "")
	admits(t, p, newLasting(t), "nonsense", "malformed_credentials")

	text := metricsOf(t, api)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	for line := range strings.Lines(text) {
		name, isHelp := strings.CutPrefix(line, "# HELP ")
		if isHelp && !strings.HasPrefix(name, "keystile_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("a metric of an unknown family: %s", name)
		}
	}
	wanted := []string{
		`keystile_build_info{go_version="go`, "keystile_mirror_age_seconds 0\n", "keystile_upstream_attempts_total 2\n",
		`keystile_requests_total{status_class="2xx",verdict="allowed"} 2` + "\n",
		`keystile_requests_total{status_class="4xx",verdict="malformed_credentials"} 2` + "\n",
		"keystile_requests_in_flight 0\n", "go_goroutines ", "process_open_fds ",
	}
	missing := func(want string) bool { return !strings.Contains(text, want) }
	eventually(t, "the requests are counted, after their answers", func() bool {
		text = metricsOf(t, api)
		return !slices.ContainsFunc(wanted, missing)
	})
	keysByState(t, api, 2, 0)
	api.patch(t, first.Key, `{"active":false}`)
	keysByState(t, api, 1, 1)
	api.patch(t, first.Key, `{"name":"renamed"}`)
	keysByState(t, api, 1, 1)
	api.delete(t, second.Key)
	keysByState(t, api, 0, 1)
	api.patch(t, first.Key, `{"active":true}`)
	keysByState(t, api, 1, 0)
}

func metricsOf(t testing.TB, api *adminClient) string {
	t.Helper()
	got := api.call(t, "GET", "/metrics", "")
	if got.status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", got.status, got.body)
	}
	return string(got.body)
}

func keysByState(t *testing.T, api *adminClient, active, inactive int) {
	t.Helper()
	text := metricsOf(t, api)
	for state, n := range map[string]int{"active": active, "inactive": inactive} {
		if want := "keystile_keys{state=\"" + state + "\"} " + big.NewInt(int64(n)).String() + "\n"; !strings.Contains(text, want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
}
