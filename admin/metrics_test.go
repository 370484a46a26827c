package admin

import (
	"errors"
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
