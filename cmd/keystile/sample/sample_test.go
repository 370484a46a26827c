package sample

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// TestMain also checks that the generator leaves no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream is a generator behind a real listener, with a client that follows no
// redirect.
type upstream struct {
	t       *testing.T
	url     string
	client  *http.Client
	service *service
}

func start(t *testing.T, o Options) upstream {
	t.Helper()
	handler := New(o)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error {
		return errors.New("the generator redirected")
	}
	return upstream{t: t, url: server.URL, client: client, service: handler.(*service)}
}

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (u upstream) send(method, path, kind string, body io.Reader) reply {
	u.t.Helper()
	request, err := http.NewRequest(method, u.url+path, body)
	if err != nil {
		u.t.Fatal(err)
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := u.client.Do(request)
	if err != nil {
		u.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, data}
}

func (u upstream) get(path string) reply { u.t.Helper(); return u.send("GET", path, "", nil) }

func (u upstream) postJSON(path, body string) reply {
	u.t.Helper()
	return u.send("POST", path, "application/json", strings.NewReader(body))
}

// object decodes a reply that must have the status.
func (r reply) object(t *testing.T, status int) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(r.body, &object); err != nil {
		t.Fatalf("status %d, body %.200q: %v", r.status, r.body, err)
	}
	if r.status != status {
		t.Fatalf("status %d, want %d: %.300s", r.status, status, r.body)
	}
	if kind := r.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("Content-Type %q", kind)
	}
	return object
}

// clock is a time that moves only when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_700_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// eventually polls until the condition holds, for half a minute at most.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for tick := time.NewTicker(2 * time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

func TestUnknownPathIsJSONInTheShapeOfItsFamily(t *testing.T) {
	u := start(t, Options{})
	for _, path := range []string{
		"/", "/key", "/key/api/v1/nothing", "/key/api/v1/models/", "/key/../key/api/v1/models", "/key/api/v1/pipeline/x/y", "/bytes",
	} {
		body := u.get(path).object(t, 404)
		if body["error"] != "Not Found" || body["status"] != 404.0 || body["path"] == nil || body["timestamp"] == nil || body["message"] == nil {
			t.Errorf("%s: not a Spring error: %v", path, body)
		}
	}
	body := u.get("/v1/nothing").object(t, 404)
	inner, _ := body["error"].(map[string]any)
	if inner["code"] != "not_found" || inner["type"] != "invalid_request_error" || inner["message"] == "" {
		t.Errorf("not an OpenAI error: %v", body)
	}
}

func TestRepeatedSlashesAreServedAndNeverRedirected(t *testing.T) {
	u := start(t, Options{RenderDelay: -1})
	if got := u.get("//key/api/v1/models"); got.status != 200 {
		t.Errorf("GET: %d %s", got.status, got.body)
	}
	kind, body := multipartBody(t, formPart{name: "model_id", body: "4"}, paramsPart(`{"generateParams":{"query":"a"}}`))
	got := u.send("POST", "//key//api/v1/text2image/run", kind, bytes.NewReader(body)).object(t, 200)
	if got["uuid"] == "" {
		t.Errorf("POST: %v", got)
	}
	if got := u.get("//v1/models"); got.status != 200 {
		t.Errorf("/v1: %d", got.status)
	}
	if got := u.get("/key/api%2F%2Fv1/models"); got.status != 404 {
		t.Errorf("escaped slashes: %d", got.status)
	}
}

func TestWrongMethodIsRefusedWithAllow(t *testing.T) {
	u := start(t, Options{})
	for path, allow := range map[string]string{
		"/key/api/v1/models": "GET", "/key/api/v1/text2image/run": "POST", "/v1/chat/completions": "POST", "/bytes/1": "GET",
	} {
		got := u.send("DELETE", path, "", nil)
		if got.object(t, 405); got.header.Get("Allow") != allow {
			t.Errorf("%s: Allow %q", path, got.header.Get("Allow"))
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	u := start(t, Options{})
	big := bytes.Repeat([]byte("a"), maxBody+1)
	u.send("POST", "/v1/images/generations", "application/json", bytes.NewReader(big)).object(t, 413)
	kind, body := multipartBody(t, formPart{name: "file", body: string(big)})
	u.send("POST", "/key/api/v1/pipeline/run", kind, bytes.NewReader(body)).object(t, 413)
}

func TestEchoSaysWhatArrived(t *testing.T) {
	u := start(t, Options{})
	body := strings.Repeat("body", 1000)
	got := u.send("PATCH", "/echo/a%2Fb//c?q=1&q=%20", "text/plain", strings.NewReader(body)).object(t, 200)
	headers, _ := got["headers"].(map[string]any)
	delete(headers, "User-Agent")
	delete(headers, "Accept-Encoding")
	want := map[string]any{
		"method": "PATCH", "host": strings.TrimPrefix(u.url, "http://"), "path": "/echo/a%2Fb//c", "raw_query": "q=1&q=%20",
		"headers":  map[string]any{"Content-Type": []any{"text/plain"}, "Content-Length": []any{"4000"}},
		"trailers": nil, "content_length": 4000.0, "body_size": 4000.0,
		"body_sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(body))),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	u.get("/echo").object(t, 200)
}

func TestBytesSendsAsManyAsAskedAndNoMoreThanItsBound(t *testing.T) {
	u := start(t, Options{})
	for _, n := range []int{0, 1, 32 << 10, 100_001} {
		got := u.get(fmt.Sprintf("/bytes/%d", n))
		if got.status != 200 || len(got.body) != n || got.header.Get("Content-Length") != fmt.Sprint(n) {
			t.Errorf("%d: status %d, %d bytes", n, got.status, len(got.body))
		}
	}
	if got := u.send("HEAD", "/bytes/1073741824", "", nil); got.status != 200 || got.header.Get("Content-Length") != "1073741824" {
		t.Errorf("HEAD: %d %v", got.status, got.header)
	}
	for _, path := range []string{"/bytes/1073741825", "/bytes/-1", "/bytes/x", "/bytes/99999999999999999999"} {
		u.get(path).object(t, 400)
	}
}
