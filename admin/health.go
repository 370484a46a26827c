package admin

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics counts what this listener does. Every label is from a closed set.
type metrics struct {
	requests *prometheus.CounterVec // by class of status
	refused  *prometheus.CounterVec // by reason
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	factory := promauto.With(registerer)
	m := &metrics{
		requests: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "keystile_admin_requests_total",
			Help: "Requests to the admin listener by class of status.",
		}, []string{"class"}),
		refused: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "keystile_admin_authentication_failures_total",
			Help: "Requests to the admin listener without the administrator token, or with a wrong one.",
		}, []string{"reason"}),
	}
	for _, class := range []string{"2xx", "3xx", "4xx", "5xx"} {
		m.requests.WithLabelValues(class)
	}
	for _, reason := range []string{"missing", "wrong"} {
		m.refused.WithLabelValues(reason)
	}
	return m
}

// observe counts a reply; a status outside of 200 to 499 is our fault.
func (m *metrics) observe(status int) {
	class := 5
	if status >= 200 && status < 500 {
		class = status / 100
	}
	m.requests.WithLabelValues(strconv.Itoa(class) + "xx").Inc()
}

// healthz says that the process answers.
func (a *Admin) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}

// readiness is the body of /readyz.
type readiness struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// readyz says whether the process can serve, and why not.
func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	status, body := http.StatusOK, readiness{Status: "ready"}
	if err := a.ready(); err != nil {
		status, body = http.StatusServiceUnavailable, readiness{"not ready", err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// exposition serves what gatherer has. A collector that fails is logged, and the rest
// is served.
func (a *Admin) exposition(gatherer prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      slog.NewLogLogger(a.log.Handler(), slog.LevelError),
	})
}
