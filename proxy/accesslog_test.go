package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// lines is a log that is kept.
type lines struct {
	mu   sync.Mutex
	kept bytes.Buffer
	gate chan struct{} // nil: open; otherwise each write waits for it to be closed
}

func (l *lines) Write(b []byte) (int, error) {
	if l.gate != nil {
		<-l.gate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.Write(b)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.String()
}

// entries returns the lines as JSON objects.
func (l *lines) entries(t testing.TB) (entries []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.text()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		entries = append(entries, entry)
	}
	return entries
}

func (l *lines) logger() *slog.Logger { return l.at(slog.LevelDebug) }

func (l *lines) at(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level}))
}

func TestAccessLogHasALineForEachRequest(t *testing.T) {
	t.Parallel()
	log := new(lines)
	s := newStage(t, func(with *settings) { with.AccessLog = log.at(slog.LevelInfo) })
	c := s.dial(t)
	c.send(s.request("POST /v1/images?prompt=private HTTP/1.1", "Content-Length: 5") + "hello").answer("POST")
	s.disable(s.id)
	c.send(s.request("GET /b HTTP/1.1")).answer("GET")
	s.enable(s.id)
	c.send(s.request("POST /c HTTP/1.1", "Transfer-Encoding: chunked") + "zz\r\n").answer("POST")
	s.settled()
	s.proxy.Close()
	entries := log.entries(t)
	if len(entries) != 3 {
		t.Fatalf("%d lines: %s", len(entries), log.text())
	}
	want := map[string]any{
		"level": "INFO", "msg": "request", "request_id": "test-1", "verdict": "allowed", "status": 200.0, "key": s.id.String(),
		"account": "default", "client": "127.0.0.1", "method": "POST", "path": "/v1/images", "bytes_in": 5.0, "bytes_out": 2.0,
	}
	for name, value := range want {
		if entries[0][name] != value {
			t.Errorf("%s: %v, not %v", name, entries[0][name], value)
		}
	}
	for _, name := range []string{"duration_seconds", "overhead_seconds", "first_byte_seconds"} {
		if seconds, ok := entries[0][name].(float64); !ok || seconds <= 0 || seconds > patience.Seconds() {
			t.Errorf("%s: %v", name, entries[0][name])
		}
	}
	if entries[1]["verdict"] != "key_inactive" || entries[1]["key"] != s.id.String() || entries[1]["status"] != 401.0 {
		t.Errorf("the line of a key that is off: %v", entries[1])
	}
	if entries[2]["verdict"] != "bad_request" || entries[2]["key"] != s.id.String() {
		t.Errorf("the line of a body that breaks off: %v", entries[2])
	}
	for _, secret := range []string{"private", s.secret.Reveal()} {
		if strings.Contains(log.text(), secret) {
			t.Errorf("the log has %q: %s", secret, log.text())
		}
	}
}

func TestAccessLogHasStrangersAtDebugLevelOnly(t *testing.T) {
	t.Parallel()
	for level, want := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 7} {
		log := new(lines)
		s := newStage(t, func(with *settings) { with.AccessLog, with.MaxBody = log.at(level), 5 })
		for _, request := range []string{
			s.stranger("GET /"+s.secret.Reveal()+" HTTP/1.1", "X-A: "+s.secret.Reveal()), s.stranger("GET /a HTTP/1.1", "X-Key: {key}"),
			s.stranger("GET /a HTTP/1.1", "X_Key: {key}"), s.stranger("GET x:a HTTP/1.1"),
			s.stranger("EVIL /a HTTP/1.1"), s.stranger("POST /a HTTP/1.1", "Content-Length: 6") + "hello!",
		} {
			s.dial(t).send(request).answer("GET")
		}
		s.records.setStale(errors.New("cut off")) // then nobody's secret is judged
		s.dial(t).send(s.request("GET /a HTTP/1.1")).answer("GET")
		s.settled()
		s.proxy.Close()
		if got := len(log.entries(t)); got != want {
			t.Errorf("%d lines at %v, not %d: %s", got, level, want, log.text())
		}
		if text := log.text(); strings.Contains(text, s.secret.Reveal()) || strings.Contains(text, "EVIL") {
			t.Errorf("the log repeats what strangers chose: %s", text)
		}
	}
}

func TestAccessLogThatCannotBeWrittenMakesNobodyWait(t *testing.T) {
	t.Parallel()
	log := &lines{gate: make(chan struct{})}
	s := newStage(t, func(with *settings) {
		with.AccessLog = log.logger()
		with.Transport = stub(stubOK)
	})
	const requests = accessLogBuffer + 500
	for range requests {
		if w := judged(s.proxy, s.secret.Reveal()); w.Code != 200 {
			t.Fatalf("status %d", w.Code)
		}
	}
	dropped := s.counter("keystile_access_log_dropped_total")
	if dropped < 499 || dropped > 500 { // the writer may hold one line
		t.Errorf("%v lines were counted as dropped", dropped)
	}
	close(log.gate)
	s.proxy.Close()
	if got := len(log.entries(t)); got != requests-int(dropped) {
		t.Errorf("%d lines were written", got)
	}
}

func TestFailuresOfTheUpstreamAreLoggedWithoutAnAccessLog(t *testing.T) {
	t.Parallel()
	log := new(lines)
	s := newStage(t, func(with *settings) { with.Log = log.logger() }, scripted(func(c *upstreamConn) {
		defer c.Close()
		if r := c.request(); r != nil && r.URL.Path == "/good" {
			c.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}
	}))
	for _, path := range []string{"/good", "/bad"} {
		s.dial(t).send(s.request("GET " + path + " HTTP/1.1")).answer("GET")
	}
	s.dial(t).send(s.stranger("GET /a HTTP/1.1")).answer("GET")
	s.settled()
	s.proxy.Close()
	entries := log.entries(t)
	if len(entries) != 1 || entries[0]["level"] != "WARN" || entries[0]["cause"] != "closed" || entries[0]["path"] != "/bad" || entries[0]["error"] == "" {
		t.Errorf("logged: %s", log.text())
	}
}
