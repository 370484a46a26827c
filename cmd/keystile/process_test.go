package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"keystile/admin"
	"keystile/admin/apitest"
	"keystile/cmd/keystile/sample"
)

// patience bounds every wait for something that takes milliseconds when all is well.
const patience = 30 * time.Second

// parentPipe names the descriptor that ends a child when the tests end without cleaning up.
const parentPipe = "PARENT_PIPE"

// TestMain makes the test binary a keystile when it is called by that name, so that
// tests run real processes without a build step, under the race detector too.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keystile": func() {
		go endWithParent()
		main()
	}})
}

func endWithParent() {
	fd, err := strconv.Atoi(os.Getenv(parentPipe))
	if err != nil {
		return
	}
	_, _ = os.NewFile(uintptr(fd), parentPipe).Read(make([]byte, 1))
	os.Exit(3)
}

// command is what a test starts: keystile with arguments, in a folder, with variables
// beside those of the machine. The zero value runs serve without any in a new folder.
type command struct {
	args   []string
	folder string // working directory; "": a new one
	env    []string
	config string // written to config.yaml in folder; "": none
}

// process is a keystile that runs as a process of its own.
type process struct {
	cmd            *exec.Cmd
	folder         string
	stdout, stderr *output
	exited         chan struct{} // closed when it has ended
	err            error         // how it ended; nil: exit code 0

	// What serve and demo tell when they are ready.
	proxy, admin, token string
}

// start starts a process. It is killed at the end of the test, if it lives until then.
func start(t testing.TB, c command) *process {
	t.Helper()
	if c.folder == "" {
		c.folder = t.TempDir()
	}
	if c.config != "" {
		writeFile(t, filepath.Join(c.folder, "config.yaml"), c.config, 0o644)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	alive, mine, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe, c.args...), folder: c.folder, stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	p.cmd.Args[0] = "keystile"
	p.cmd.Dir = c.folder
	p.cmd.Env = append(environment(), "TMPDIR="+t.TempDir()) // what is killed does not clean up
	p.cmd.Env = append(append(p.cmd.Env, c.env...), parentPipe+"=3", "GORACE=atexit_sleep_ms=0")
	p.cmd.ExtraFiles = []*os.File{alive}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = alive.Close()
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		_ = mine.Close()
		if strings.Contains(p.stderr.text(), "DATA RACE") {
			t.Errorf("the process had a data race:\n%s", p.stderr.text())
		}
		if t.Failed() {
			t.Logf("keystile %q in %s ended with %v\nstdout: %s\nstderr: %s", c.args, c.folder, p.err, tail(p.stdout.text()), tail(p.stderr.text()))
		}
	})
	return p
}

// environment is that of the tests, without what would configure keystile.
func environment() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KEYSTILE_") {
			env = append(env, v)
		}
	}
	return env
}

func tail(text string) string {
	const most = 3 << 10
	if len(text) > most {
		return "[...]" + text[len(text)-most:]
	}
	return text
}

// startServe starts serve on free ports in front of upstream, and waits until it
// serves. The token is the one in KEYSTILE_ADMIN_TOKEN or in the file that it made.
func startServe(t testing.TB, upstream string, c command) *process {
	t.Helper()
	c.args = append([]string{"serve", "--proxy-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--upstream", upstream}, c.args...)
	p := start(t, c)
	var line struct{ Msg, Proxy, Admin string }
	p.stderr.wait(t, p, "the line that says it is serving", func(text string) bool {
		return json.Unmarshal([]byte(text), &line) == nil && line.Msg == "keystile is serving"
	})
	p.proxy, p.admin = line.Proxy, line.Admin
	if p.token = lookup(c.env, "KEYSTILE_ADMIN_TOKEN"); p.token == "" {
		p.token = strings.TrimSpace(readFile(t, filepath.Join(p.folder, "data", "admin.token")))
	}
	return p
}

// startDemo starts demo on free ports and returns what it prints.
func startDemo(t testing.TB, c command) (*process, demoFacts) {
	t.Helper()
	c.args = append([]string{"demo", "-o", "json", "--proxy-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, c.args...)
	p := start(t, c)
	first := p.stdout.wait(t, p, "the first line", func(string) bool { return true })
	var facts demoFacts
	if err := json.Unmarshal([]byte(first), &facts); err != nil {
		t.Fatalf("the first line of demo -o json is %q: %v", first, err)
	}
	p.proxy, p.admin, p.token = facts.Proxy, facts.Admin, facts.Token
	return p, facts
}

// signal sends a signal to this process alone.
func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// standStill stops the process, and returns when it stands: until then, threads that the
// signal has not reached go on.
func (p *process) standStill() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for late := time.Now().Add(patience); time.Now().Before(late); <-time.After(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			return err
		}
		// The name, in parentheses, may hold anything; the state follows it.
		if at := strings.LastIndexByte(string(stat), ')'); strings.HasPrefix(string(stat)[at:], ") T") {
			return nil
		}
	}
	return errors.New("the process did not stop")
}

// wait waits for the end and returns the exit code; -1: it was killed.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("keystile %q did not end", p.cmd.Args[1:])
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends the process as a service manager does, and expects exit code 0.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Fatalf("after SIGTERM: exit code %d, stderr:\n%s", code, tail(p.stderr.text()))
	}
}

// output is what a process has written so far, for several readers.
type output struct {
	mu    sync.Mutex
	whole bytes.Buffer
	grown chan struct{} // closed by the next write
}

func newOutput() *output { return &output{grown: make(chan struct{})} }

// Write keeps b and wakes those who wait.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.grown)
	o.grown = make(chan struct{})
	return o.whole.Write(b)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.whole.String()
}

// wait returns the first whole line that is wanted, and fails when p ends without one.
func (o *output) wait(t testing.TB, p *process, what string, wanted func(line string) bool) string {
	t.Helper()
	late := time.After(patience)
	for ended := false; ; {
		o.mu.Lock()
		text, grown := o.whole.String(), o.grown
		o.mu.Unlock()
		for line := range strings.Lines(text) {
			if strings.HasSuffix(line, "\n") && wanted(strings.TrimSuffix(line, "\n")) {
				return strings.TrimSuffix(line, "\n")
			}
		}
		if ended {
			t.Fatalf("keystile ended before %s; stderr:\n%s", what, tail(p.stderr.text()))
		}
		select {
		case <-grown:
		case <-p.exited:
			ended = true
		case <-late:
			t.Fatalf("waited in vain for %s; stderr:\n%s", what, tail(p.stderr.text()))
		}
	}
}

// eventually polls condition, which something outside of this process makes true.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !condition(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// again makes up to three attempts at something that has to be in time. Only lateness may
// be returned; a wrong outcome is t.Errorf inside attempt.
func again(t testing.TB, attempt func() error) {
	t.Helper()
	var err error
	for n := range 3 {
		if err = attempt(); err == nil {
			return
		}
		t.Logf("attempt %d: %v", n+1, err)
	}
	t.Error(err)
}

// unusedAddress returns an address of this machine at which nobody listens: its port is
// that of a connection, so the system gives it to nobody else until close is called.
func unusedAddress() (address string, close func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return "", nil, err
	}
	return conn.LocalAddr().String(), func() { _ = conn.Close() }, nil
}

// adminClient calls the admin API over HTTP, and reports replies that are not as described.
type adminClient struct {
	url, token string
	http       http.Client
}

// client returns an adminClient with connections of its own.
func (p *process) client(t testing.TB) *adminClient {
	return newAdminClient(t, p.admin, p.token)
}

func newAdminClient(t testing.TB, url, token string) *adminClient {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	checked := &apitest.Transport{Base: transport, Document: apiDescription(t), Report: func(err error) { t.Error(err) }}
	return &adminClient{url: url, token: token, http: http.Client{Transport: checked, Timeout: patience}}
}

var readAPIDescription = sync.OnceValues(func() (*apitest.Document, error) {
	return apitest.Read(filepath.Join("..", "..", "admin", "openapi.json"))
})

// apiDescription is the description of the API that is committed.
func apiDescription(t testing.TB) *apitest.Document {
	t.Helper()
	d, err := readAPIDescription()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// decode reads the body as JSON.
func (r reply) decode(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal(r.body, into); err != nil {
		t.Fatalf("status %d, body %q: %v", r.status, r.body, err)
	}
}

// code is the machine-readable reason of a refusal.
func (r reply) code() string {
	var refusal struct{ Code string }
	_ = json.Unmarshal(r.body, &refusal)
	return refusal.Code
}

// ask sends a request and reads the whole answer. headers are "Name: value".
func ask(client *http.Client, method, url, body string, headers ...string) (reply, error) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Add(name, value)
	}
	return send(client, request)
}

func send(client *http.Client, request *http.Request) (reply, error) {
	response, err := client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	r := reply{status: response.StatusCode, header: response.Header}
	r.body, err = io.ReadAll(response.Body)
	return r, err
}

// try calls the API. path begins below /api/v1 unless it is one of the root's.
func (a *adminClient) try(method, path, body string, headers ...string) (reply, error) {
	headers = append(headers, "Authorization: Bearer "+a.token)
	if body != "" {
		headers = append(headers, "Content-Type: application/json")
	}
	return ask(&a.http, method, a.url+path, body, headers...)
}

// call is try for calls that must be answered.
func (a *adminClient) call(t testing.TB, method, path, body string, headers ...string) reply {
	t.Helper()
	r, err := a.try(method, path, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// create makes a key; "" has the server choose its name.
func (a *adminClient) create(t testing.TB, name string) admin.Created {
	t.Helper()
	var made admin.Created
	a.expect(t, http.StatusCreated, a.call(t, "POST", keysPath, nameBody(name)), &made)
	return made
}

func nameBody(name string) string {
	if name == "" {
		return "{}"
	}
	body, _ := json.Marshal(map[string]string{"name": name})
	return string(body)
}

// patch changes a key, by a body such as {"active":false}.
func (a *adminClient) patch(t testing.TB, key, body string) admin.Updated {
	t.Helper()
	var changed admin.Updated
	a.expect(t, http.StatusOK, a.call(t, "PATCH", keyPath(key), body), &changed)
	return changed
}

// rotate gives a key another secret; the old one goes on for the overlap.
func (a *adminClient) rotate(t testing.TB, key, overlap string) admin.Rotated {
	t.Helper()
	var rotated admin.Rotated
	a.expect(t, http.StatusOK, a.call(t, "POST", keyPath(key)+"/rotate", `{"overlap":"`+overlap+`"}`), &rotated)
	return rotated
}

func (a *adminClient) delete(t testing.TB, key string) admin.Deleted {
	t.Helper()
	var gone admin.Deleted
	a.expect(t, http.StatusOK, a.call(t, "DELETE", keyPath(key), ""), &gone)
	return gone
}

func (a *adminClient) get(t testing.TB, key string) admin.Record {
	t.Helper()
	var record admin.Record
	a.expect(t, http.StatusOK, a.call(t, "GET", keyPath(key), ""), &record)
	return record
}

func (a *adminClient) list(t testing.TB) []admin.Record {
	t.Helper()
	var all struct{ Keys []admin.Record }
	a.expect(t, http.StatusOK, a.call(t, "GET", keysPath, ""), &all)
	return all.Keys
}

func (a *adminClient) expect(t testing.TB, status int, got reply, into any) {
	t.Helper()
	if got.status != status {
		t.Fatalf("the admin API answered %d %s, want %d", got.status, got.body, status)
	}
	got.decode(t, into)
}

// bearer is the header of a client that has only a secret.
func bearer(secret string) string { return "Authorization: Bearer " + secret }

// newSample is the sample generator without its delays.
func newSample(t testing.TB) *httptest.Server {
	server := httptest.NewServer(sample.New(sample.Options{TokenDelay: -1, RenderDelay: -1}))
	t.Cleanup(server.Close)
	return server
}

func writeFile(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	err := os.WriteFile(path, []byte(text), mode)
	if err = errors.Join(err, os.Chmod(path, mode)); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The harness itself: what it starts serves, tells where, and ends.
func TestProcessServesUntilItIsTold(t *testing.T) {
	p := startServe(t, newSample(t).URL, command{})
	made := p.client(t).create(t, "first")
	got, err := ask(http.DefaultClient, "GET", p.proxy+"/echo", "", bearer(made.Secret))
	if err != nil || got.status != http.StatusOK {
		t.Fatalf("through the proxy: %v, %d %s", err, got.status, got.body)
	}
	p.stop(t)
	if _, err := ask(http.DefaultClient, "GET", p.proxy+"/echo", "", bearer(made.Secret)); err == nil {
		t.Error("the proxy answers after the process has ended")
	}
}
