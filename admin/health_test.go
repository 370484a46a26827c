package admin

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthAndReadinessNeedNoToken(t *testing.T) {
	b := newBench(t)
	if got := b.do(b.request("GET", "/healthz", "")).wants(t, 200, ""); got.text != "ok\n" {
		t.Errorf("got %q", got.text)
	}
	if got := b.do(b.request("GET", "/readyz", "")).wants(t, 200, ""); strings.TrimSpace(got.text) != `{"status":"ready"}` {
		t.Errorf("got %s", got.text)
	}
}

func TestUnreadyProcessSaysWhyAndStaysHealthy(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Ready = func() error { return errors.New("shutting down") } })
	w := httptest.NewRecorder()
	b.admin.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	if w.Code != 503 || strings.TrimSpace(w.Body.String()) != `{"status":"not ready","reason":"shutting down"}` {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	b.do(b.request("GET", "/healthz", "")).wants(t, 200, "")
}

func TestHealthAsksNoStore(t *testing.T) {
	b := newBench(t)
	b.store.panic = "asked"
	for _, path := range []string{"/healthz", "/readyz"} {
		b.do(b.request("GET", path, "")).wants(t, 200, "")
	}
}
