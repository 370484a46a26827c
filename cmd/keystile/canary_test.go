package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"keystile/admin"
	"keystile/keys"
	"keystile/proxy"
)

// window is how many characters of a secret in a row are a leak. Less is no help to a
// thief and may be chance.
const window = 12

// canaries knows secrets and looks for them in everything that was written or answered.
type canaries struct {
	t      *testing.T
	needle map[string]string // what would be a leak, and of which secret
}

// hide makes c look for a secret: for each part of it, plain, in hexadecimal, as
// numbers, and in base64 wherever the secret may begin in it. Percent-encoding has
// many forms: look decodes instead.
func (c *canaries) hide(name, secret string) {
	c.t.Helper()
	if len(secret) < window {
		c.t.Fatalf("%s is too short", name)
	}
	for i := range len(secret) - window + 1 {
		part := secret[i : i+window]
		c.needle[part] = name
		c.needle[hex.EncodeToString([]byte(part))] = name + " in hexadecimal"
		c.needle[strings.Trim(fmt.Sprint([]byte(part)), "[]")] = name + " as numbers"
		c.needle[base64.RawStdEncoding.EncodeToString([]byte(part))[:window*4/3]] = name + " in base64"
		c.needle[base64.RawURLEncoding.EncodeToString([]byte(part))[:window*4/3]] = name + " in base64"
	}
}

// look reports every secret that is in a text.
func (c *canaries) look(where, text string) {
	c.t.Helper()
	once := decodePercent(text)
	forms := []string{text, once, decodePercent(once), unquote(text), decodePercent(unquote(text))}
	told := map[string]bool{}
	for needle, name := range c.needle {
		for _, form := range forms {
			if at := strings.Index(form, needle); at >= 0 && !told[name] {
				told[name] = true
				c.t.Errorf("%s has %s: ...%q...", where, name, form[max(0, at-200):min(len(form), at+100)])
			}
		}
	}
}

var (
	percent = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	escape  = regexp.MustCompile(`\\u00[0-9A-Fa-f]{2}|\\x[0-9A-Fa-f]{2}`)
)

func decodePercent(text string) string {
	return percent.ReplaceAllStringFunc(text, func(s string) string {
		b, _ := hex.DecodeString(s[1:])
		return string(b)
	})
}

// unquote undoes the escapes of JSON and of %q.
func unquote(text string) string {
	text = escape.ReplaceAllStringFunc(text, func(s string) string {
		b, _ := hex.DecodeString(s[len(s)-2:])
		return string(b)
	})
	return strings.ReplaceAll(text, `\"`, `"`)
}

// proofOf is the part of a client's secret that nobody else knows: without prefix and id.
func proofOf(secret string) string { return secret[strings.LastIndex(secret, "_")+1:] }

// everyPercent encodes each byte.
func everyPercent(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

// raw sends the head of a request as it is, on a connection of its own, and reads until
// the other side closes.
func raw(t testing.TB, conn net.Conn, head string) string {
	t.Helper()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, head+"\r\nConnection: close\r\n\r\n") // one who is refused early may see a reset
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func dial(t testing.TB, url string) net.Conn {
	t.Helper()
	_, address, _ := strings.Cut(url, "://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// rawTLS is raw for the proxy listener with TLS.
func rawTLS(t testing.TB, p *process, head string) string {
	t.Helper()
	return raw(t, tls.Client(dial(t, p.proxy), &tls.Config{InsecureSkipVerify: true}), head)
}

const (
	pepperCanary   = "pepper-Q7wZt3Yb5LmXc9Vd1KfRg8Hj2"
	fileCanary     = "upstream-file-N4sPq6Wr8Ty2Ui1Oa3"
	variableCanary = "upstream-variable-Zx5Cv7Bn9Mq1We3"
	tokenCanary    = "kat_LK8JH6GF4DS2AQ1WZ3EX5MNBVCXZLKJHGFDSAPOIUYTREWQ765432K"
)

func TestSecretsAppearNowhereButInTheReplyThatMakesThem(t *testing.T) {
	c := &canaries{t: t, needle: map[string]string{}}
	use := c.operator()
	var secret string
	p := startServe(t, indiscreet(t, func() string { return secret }).URL, use)
	api := p.client(t)

	reply := api.call(t, "POST", keysPath, nameBody("canary"))
	var made struct{ Key, Secret string }
	reply.decode(t, &made)
	if strings.Count(string(reply.body), made.Secret) != 1 {
		t.Errorf("the reply to the creation does not have the secret once: %s", reply.body)
	}
	secret = made.Secret
	c.hide("the client's secret", proofOf(secret))
	c.look("the head of the reply that makes it", fmt.Sprint(reply.header))
	c.hide("the secret after it", proofOf(api.rotate(t, made.Key, "1h").Secret))

	for _, carrier := range []string{bearer(secret), "x-api-key: " + secret, "X-Key: " + made.Key + "\r\nX-Secret: " + secret} {
		c.provokeProxy(p, secret, carrier)
	}
	c.provokeAdmin(p, secret)
	c.provokeAdmin(p, tokenCanary)
	c.lookAtAnswers(p, made.Key, secret)
	c.lookAtCommands(use)
	c.lookAtTheEnd(p)
}

// operator makes everything secret that an operator configures.
func (c *canaries) operator() command {
	folder := c.t.TempDir()
	c.hide("the pepper", pepperCanary)
	c.hide("the upstream's credential from a file", fileCanary)
	c.hide("the upstream's credential from a variable", variableCanary)
	c.hide("the administrator token", tokenCanary)
	newAuthority(c.t).write(c.t, folder, 2)
	c.hide("the TLS key", strings.Split(readFile(c.t, filepath.Join(folder, "tls.key")), "\n")[1])
	writeFile(c.t, filepath.Join(folder, "peppers"), pepperCanary+"\n", 0o600)
	writeFile(c.t, filepath.Join(folder, "credential"), "Bearer "+fileCanary+"\n", 0o600)
	return command{
		folder: folder, env: []string{"UPSTREAM_KEY=" + variableCanary, "KEYSTILE_ADMIN_TOKEN=" + tokenCanary},
		config: `log: {level: debug}
keys: {pepper_file: peppers}
proxy:
  tls: {cert_file: tls.crt, key_file: tls.key}
  upstream: {headers: {Authorization: {file: credential}, X-Upstream-Key: {env: UPSTREAM_KEY}}}
`,
	}
}

// provokeProxy sends everything that is wrong to the proxy, and has the upstream fail.
func (c *canaries) provokeProxy(p *process, secret, carrier string) {
	for _, head := range hostileHeads(secret, everyPercent(secret), carrier) {
		c.look("the answer to "+head[:min(len(head), 40)], rawTLS(c.t, p, head+"\r\nHost: x"))
	}
	for _, path := range []string{"closed", "garbage", "status", "header", "length", "encoding", "broken", "switch", "elsewhere"} {
		c.look("the answer to a failure of the upstream: "+path, rawTLS(c.t, p, "GET /"+path+" HTTP/1.1\r\nHost: x\r\n"+carrier))
	}
	// What an upstream says in a body is its own affair; that it is logged is ours.
	for _, path := range []string{"chunk", "unsolicited"} {
		rawTLS(c.t, p, "GET /"+path+" HTTP/1.1\r\nHost: x\r\n"+carrier)
	}
}

// provokeAdmin sends a secret to the admin API wherever it does not belong.
func (c *canaries) provokeAdmin(p *process, secret string) {
	api := p.client(c.t)
	for _, call := range hostileCalls(secret, everyPercent(secret)) {
		got, err := api.try(call[0], call[1], call[2], call[3:]...)
		if err != nil {
			continue // the error of this client shows the URL that it was given
		}
		if got.status == http.StatusCreated {
			var created struct{ Key, Secret string }
			got.decode(c.t, &created)
			c.hide("another secret", proofOf(created.Secret))
			got.body = bytes.ReplaceAll(got.body, []byte(created.Secret), nil)
			api.delete(c.t, created.Key)
		}
		c.look("the answer to "+call[0]+" "+call[1][:8], fmt.Sprint(got.header, string(got.body)))
	}
	for _, head := range []string{"GET " + keysPath + " HTTP/1.1\r\nHost: " + secret, "GET /" + secret + "\r\nX " + secret} {
		c.look("the answer to "+head[:20], raw(c.t, dial(c.t, p.admin), head))
	}
}

func (c *canaries) lookAtAnswers(p *process, key, secret string) {
	api := p.client(c.t)
	c.look("the list of keys", string(api.call(c.t, "GET", keysPath, "").body))
	c.look("the key", string(api.call(c.t, "GET", keyPath(key), "").body))
	c.look("the switched key", string(api.call(c.t, "PATCH", keyPath(key), `{"active":false}`).body))
	c.look("what an inactive key reads", rawTLS(c.t, p, "GET / HTTP/1.1\r\nHost: x\r\n"+bearer(secret)))
	c.look("the metrics", metricsOf(c.t, api))
	c.look("the description of the API", string(api.call(c.t, "GET", "/api/v1/openapi.json", "").body))
}

func (c *canaries) lookAtCommands(use command) {
	c.t.Helper()
	for _, args := range [][]string{{"config", "print"}, {"config", "check"}, {"healthcheck"}, serveArgs()} {
		p := start(c.t, command{folder: use.folder, args: args, env: use.env})
		p.wait(c.t) // the store is in use
		c.look(fmt.Sprint(args), p.stdout.text()+p.stderr.text())
	}
	wrong := strings.ReplaceAll(use.config, "{file: credential}", fileCanary) + "no such option: " + fileCanary
	p := start(c.t, command{args: []string{"config", "check"}, env: use.env, config: wrong})
	if code := p.wait(c.t); code != 2 {
		c.t.Errorf("with a secret in the configuration file: exit code %d", code)
	}
	c.look("the mistakes of a configuration", p.stderr.text())
}

// lookAtTheEnd ends the process so that the runtime dumps every stack, as it does after
// a panic, and looks at what is left.
func (c *canaries) lookAtTheEnd(p *process) {
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid)); err != nil || len(line) == 0 {
		c.t.Errorf("the process's arguments: %v", err)
	} else {
		c.look("the process's arguments", string(line))
	}
	p.signal(c.t, syscall.SIGQUIT)
	p.wait(c.t)
	log := p.stderr.text()
	for _, want := range []string{"SIGQUIT", `"level":"DEBUG"`, `"cause":"protocol"`, "Unsolicited response", `"verdict":"bad_request"`} {
		if !strings.Contains(log, want) {
			c.t.Errorf("the log lacks %s, so this test does not show much:\n%s", want, tail(log))
		}
	}
	c.look("the log", log)
	c.look("the standard output", p.stdout.text())
	lookInFiles(c.t, c, filepath.Join(p.folder, "data"))
}

// lookInFiles looks into every byte that is kept.
func lookInFiles(t *testing.T, c *canaries, folder string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files++
			c.look(entry.Name(), readFile(t, path))
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("there are %d files of the store: %v", files, err)
	}
}

// panicking is a transport with a fault.
type panicking struct{}

// RoundTrip panics with everything that it was given.
func (panicking) RoundTrip(r *http.Request) (*http.Response, error) {
	panic(errors.New(fmt.Sprint("fault with ", r.Header, r.URL)))
}

func TestPanicShowsNoSecret(t *testing.T) {
	c := &canaries{t: t, needle: map[string]string{}}
	c.hide("the upstream's credential", variableCanary)
	config := defaultConfig()
	config.Proxy.Upstream.Headers = map[string]headerSource{"Authorization": {Env: "UPSTREAM_KEY"}}
	config.Proxy.Listen, config.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
	config.Store.Bolt.Path = filepath.Join(t.TempDir(), "keystile.db")
	log := newOutput()
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	env := []string{"UPSTREAM_KEY=" + variableCanary}
	turnstile, err := openTurnstile(config, adminTokenOf(t), env, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(turnstile.close)
	_, secret, err := firstKey(t.Context(), turnstile.store)
	if err != nil {
		t.Fatal(err)
	}
	c.hide("the client's secret", proofOf(secret))

	options, err := proxyOptions(config, env)
	if err != nil {
		t.Fatal(err)
	}
	options.Records, options.Transport, options.Log, options.AccessLog = turnstile.mirror, panicking{}, logger, logger
	faulty := proxy.New(options)
	server := httptest.NewUnstartedServer(nil)
	server.Config = proxy.NewServer(faulty, proxy.ServerOptions{Log: logger})
	server.Start()
	defer server.Close()
	answer := raw(t, dial(t, server.URL), "GET /"+secret+"?"+secret+" HTTP/1.1\r\nHost: x\r\n"+bearer(secret))
	faulty.Close()
	if !strings.HasPrefix(answer, "HTTP/1.1 500 ") || !strings.Contains(log.text(), "panicking.RoundTrip") {
		t.Errorf("there was no panic: %s\n%s", answer, log.text())
	}
	c.look("the answer after a panic", answer)
	c.look("the log of a panic", log.text())
}

func TestPanicInTheAdminListenerShowsNoSecret(t *testing.T) {
	c := &canaries{t: t, needle: map[string]string{}}
	config := defaultConfig()
	config.Proxy.Listen, config.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
	config.Store.Bolt.Path = filepath.Join(t.TempDir(), "keystile.db")
	log := newOutput()
	turnstile, err := openTurnstile(config, adminTokenOf(t), nil, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(turnstile.close)
	c.hide("the administrator token", tokenCanary)
	turnstile.mirror.Observe(func(id keys.ID, grant keys.Grant, _ bool) {
		panic(fmt.Sprint("fault with ", tokenCanary, id, grant))
	})
	request := httptest.NewRequest("POST", "http://127.0.0.1"+keysPath, strings.NewReader("{}"))
	request.Header.Set("Authorization", "Bearer "+tokenCanary)
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	turnstile.adminServer.Handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusInternalServerError || !strings.Contains(log.text(), "panicked") {
		t.Errorf("there was no panic: %d %s\n%s", answer.Code, answer.Body, log.text())
	}
	c.look("the answer after a panic", answer.Body.String())
	c.look("the log of a panic", log.text())
}

func adminTokenOf(t *testing.T) admin.Token {
	t.Helper()
	token, err := admin.ParseAdminToken(tokenCanary)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
