package admin

import (
	"log/slog"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics counts what this listener does. Every label is from a closed set.
type metrics struct {
	requests  *prometheus.CounterVec // by class of status
	refused   *prometheus.CounterVec // by reason
	displaced prometheus.Counter
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
			Help: "Requests to the admin listener without a token, or with a wrong one.",
		}, []string{"reason"}),
		displaced: factory.NewCounter(prometheus.CounterOpts{
			Name: "keystile_admin_connections_displaced_total",
			Help: "Connections to the admin listener that were closed because a new one came while all were taken.",
		}),
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

// exposition serves what gatherer has. A collector that fails is logged, and the rest
// is served.
func (a *Admin) exposition(gatherer prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      slog.NewLogLogger(a.log.Handler(), slog.LevelError),
	})
}
