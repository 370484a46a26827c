package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keystile/keys"
)

func TestRequestIDIsTheClientsWhereWellFormed(t *testing.T) {
	b := newBench(t)
	for _, sent := range []string{"a", "A-1._b", strings.Repeat("x", 64)} {
		if got := b.send("GET", "/api/v1/keys/x", "", "X-Request-Id", sent); got.header.Get("X-Request-Id") != sent || got.member("request_id") != sent {
			t.Errorf("%s became %s", sent, got.text)
		}
	}
	seen := map[string]bool{}
	for _, sent := range [][]string{{}, {""}, {"a b"}, {"a/b"}, {"kss_0123456789"}, {testToken}, {"é"}, {strings.Repeat("x", 65)}, {"a", "a"}} {
		var header []string
		for _, value := range sent {
			header = append(header, "X-Request-Id", value)
		}
		got := b.send("GET", "/api/v1/keys", "", header...).header.Get("X-Request-Id")
		if len(got) != 32 || seen[got] {
			t.Errorf("%q became %q", sent, got)
		}
		seen[got] = true
	}
}

func TestStoreFailureIsLoggedAndNotShown(t *testing.T) {
	for name, row := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"unavailable": {fmt.Errorf("syncing data/inner.db: %w", keys.ErrUnavailable), 503, "store_unreachable"},
		"timeout":     {fmt.Errorf("asking inner: %w", context.DeadlineExceeded), 503, "store_unreachable"},
		"unexpected":  {errors.New("inner bucket lost"), 500, "internal_error"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			key, secret := b.create("")
			b.store.err = fmt.Errorf("%s: %w", secret, row.err)
			path := "/api/v1/keys/" + key
			for _, got := range []reply{
				b.send("GET", "/api/v1/keys", "", "X-Request-Id", "find-me"),
				b.send("POST", "/api/v1/keys", ""),
				b.send("GET", path, ""),
				b.send("PATCH", path, `{"active":false}`, "If-Match", `"1"`),
				b.send("DELETE", path, ""),
			} {
				got.wants(t, row.status, row.code)
				if strings.Contains(got.text, "inner") || strings.Contains(got.text, secret) {
					t.Errorf("the client reads %s", got.text)
				}
				if (got.header.Get("Retry-After") != "") != (row.status == 503) {
					t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
				}
			}
			log := b.log.String()
			if strings.Count(log, `"level":"ERROR"`) != 5 || !strings.Contains(log, "inner") || !strings.Contains(log, `"request_id":"find-me"`) {
				t.Errorf("the log is %s", log)
			}
			if strings.Contains(log, secret) {
				t.Errorf("the log shows the secret: %s", log)
			}
		})
	}
}

func TestClientThatLeftIsNoError(t *testing.T) {
	b := newBench(t)
	b.store.err = fmt.Errorf("%w: %w", keys.ErrUnavailable, context.Canceled)
	b.send("GET", "/api/v1/keys", "").wants(t, 503, "store_unreachable")
	if strings.Contains(b.log.String(), "ERROR") {
		t.Errorf("the log is %s", b.log)
	}
}

func TestPanicIsAnsweredAndItsValueIsNotLogged(t *testing.T) {
	b := newBench(t)
	b.store.panic = "the value"
	b.send("POST", "/api/v1/keys", "").wants(t, 500, "internal_error")
	b.store.panic = errors.New("the value")
	b.send("GET", "/api/v1/keys", "").wants(t, 500, "internal_error")
	log := b.log.String()
	if !strings.Contains(log, "admin request panicked") || !strings.Contains(log, "*errors.errorString") || !strings.Contains(log, "fakeStore") {
		t.Errorf("the log is %s", log)
	}
	if strings.Contains(log, "the value") {
		t.Errorf("the log has the value: %s", log)
	}
	b.store.panic = nil
	b.send("GET", "/api/v1/keys", "").wants(t, 200, "")
}

func TestRuntimePanicIsLoggedInWords(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Store = nil })
	b.send("GET", "/api/v1/keys", "").wants(t, 500, "internal_error")
	if !strings.Contains(b.log.String(), "nil pointer dereference") {
		t.Errorf("the log is %s", b.log)
	}
}

func TestPanicAfterTheReplyBeganCutsTheConnection(t *testing.T) {
	b := newBench(t)
	broken := b.admin.observe(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		_, _ = io.WriteString(w, "half")
		panic("now")
	}))
	b.admin.router.Mount("/broken", broken)
	response, err := http.Get(b.url + "/broken")
	if err == nil {
		_, err = io.ReadAll(response.Body)
		response.Body.Close()
	}
	if err == nil {
		t.Error("the client takes half a reply for a whole one")
	}
}

// logLines returns the decoded lines of the log with this message.
func logLines(t *testing.T, log, message string) (lines []map[string]any) {
	t.Helper()
	scanner := bufio.NewScanner(strings.NewReader(log))
	for scanner.Scan() {
		var line map[string]any
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, scanner.Text())
		}
		if line["msg"] == message {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestEachChangeIsOneLineAtInfo(t *testing.T) {
	b := newBench(t)
	key, _ := b.create("")
	path := "/api/v1/keys/" + key
	b.send("PATCH", path, `{"active":false}`, "X-Request-Id", "off").wants(t, 200, "")
	b.send("PATCH", path, `{"active":7}`, "X-Request-Id", "bad").wants(t, 422, "invalid_body")
	b.send("DELETE", path, "", "X-Request-Id", "gone").wants(t, 200, "")
	b.send("GET", path, "").wants(t, 404, "key_not_found")
	b.send("GET", "/nothing", "").wants(t, 404, "not_found")
	var got []string
	for _, line := range logLines(t, b.log.String(), "admin request") {
		if line["level"] == "INFO" {
			got = append(got, fmt.Sprint(line["principal"], " ", line["operation"], " ", line["key"] == key, " ", line["status"], " ", line["request_id"]))
		}
	}
	got[0] = got[0][:strings.LastIndex(got[0], " ")] // a made request id
	want := []string{
		"administrator create-key true 201",
		"administrator update-key true 200 off",
		"administrator update-key true 422 bad",
		"administrator delete-key true 200 gone",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestServerEndsSlowAndHugeRequests(t *testing.T) {
	b := newBench(t)
	server := NewServer(b.admin, nil)
	for name, limit := range map[string]time.Duration{
		"read header": server.ReadHeaderTimeout, "read": server.ReadTimeout, "write": server.WriteTimeout, "idle": server.IdleTimeout,
	} {
		if limit <= 0 || limit > time.Minute {
			t.Errorf("the %s timeout is %v", name, limit)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = NewServer(b.admin, slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	b.url = "http://" + listener.Addr().String()
	whole, err := http.NewRequest("OPTIONS", b.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	whole.URL.Opaque = "*"
	b.do(whole).wants(t, 404, "not_found")
	request, _ := http.NewRequest("GET", b.url+"/healthz", nil)
	request.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	if response, err := http.DefaultTransport.RoundTrip(request); err != nil || response.StatusCode != 431 {
		t.Errorf("got %v %v", response, err)
	}
}

func TestNewNeedsOnlyStoreAndToken(t *testing.T) {
	token, err := ParseAdminToken(testToken)
	if err != nil {
		t.Fatal(err)
	}
	handler := New(Options{Store: newFakeStore(), Token: token})
	for path, status := range map[string]int{"/api/v1/keys": 200, "/healthz": 200, "/readyz": 200, "/metrics": 404} {
		r := httptest.NewRequest("GET", "http://localhost"+path, nil)
		r.Header.Set("Authorization", "Bearer "+testToken)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("%s: got %d, want %d", path, w.Code, status)
		}
	}
}
