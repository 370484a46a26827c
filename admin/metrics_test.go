package admin

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestMetricsCountRepliesByClass(t *testing.T) {
	b := newBench(t, withRegistry(prometheus.NewRegistry()))
	b.send("GET", "/api/v1/keys", "").wants(t, 200, "")
	b.send("GET", "/nothing", "").wants(t, 404, "not_found")
	key, _ := b.create("")
	b.send("GET", "/api/v1/keys/"+key, "", "If-None-Match", "*").wants(t, 304, "")
	b.store.err = errors.New("broken")
	b.send("GET", "/api/v1/keys", "").wants(t, 500, "internal_error")
	metrics := b.send("GET", "/metrics", "").wants(t, 200, "").text
	for _, line := range []string{
		`keystile_admin_requests_total{class="2xx"} 2`,
		`keystile_admin_requests_total{class="3xx"} 1`,
		`keystile_admin_requests_total{class="4xx"} 1`,
		`keystile_admin_requests_total{class="5xx"} 1`,
		`keystile_admin_authentication_failures_total{reason="missing"} 0`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("%s is missing: %s", line, metrics)
		}
	}
}

// failing is a collector that cannot collect.
type failing struct{ desc *prometheus.Desc }

func (f failing) Describe(descs chan<- *prometheus.Desc) { descs <- f.desc }
func (f failing) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.NewInvalidMetric(f.desc, errors.New("cannot collect"))
}

func TestOneFailingCollectorHidesNoOther(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(failing{prometheus.NewDesc("keystile_failing", "Fails.", nil, nil)})
	b := newBench(t, withRegistry(registry))
	metrics := b.send("GET", "/metrics", "").wants(t, 200, "").text
	if !strings.Contains(metrics, "keystile_admin_requests_total") {
		t.Errorf("got %s", metrics)
	}
	if !strings.Contains(b.log.String(), "cannot collect") {
		t.Errorf("the log is %s", b.log)
	}
}

func TestMetricsAreNotAnAccounts(t *testing.T) {
	b := newBench(t, withRegistry(prometheus.NewRegistry()))
	token := b.account("acme")
	for text, status := range map[string]int{testToken: 200, token: 403, "wrong": 401} {
		r := httptest.NewRequest("GET", "http://localhost/metrics", nil)
		r.RemoteAddr = "10.0.0.1:5"
		r.Header.Set("Authorization", "Bearer "+text)
		w := httptest.NewRecorder()
		b.admin.ServeHTTP(w, r)
		if w.Code != status || strings.Contains(w.Body.String(), "keystile_admin_requests_total") != (status == 200) {
			t.Errorf("%s gets %d: %s", text, w.Code, w.Body)
		}
	}
}
