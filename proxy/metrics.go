package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// statusClasses label the first digit of a status; 0 is a request without one.
var statusClasses = [6]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// metrics are kept as values that need no lookup on the hot path. Every label value
// comes from a closed set: verdicts, status classes, causes, directions.
type metrics struct {
	requests   [verdictCount][len(statusClasses)]prometheus.Counter
	failures   [causeCount]prometheus.Counter
	attempts   prometheus.Counter
	inFlight   prometheus.Gauge
	firstByte  prometheus.Histogram
	total      prometheus.Histogram
	overhead   prometheus.Histogram
	bytesIn    prometheus.Counter
	bytesOut   prometheus.Counter
	logDropped prometheus.Counter
	turnedAway prometheus.Counter
}

// durations are buckets in seconds, from a refusal to a long generation.
var durations = []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

// overheads are buckets in seconds for the time spent here.
var overheads = []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .01, .1, 1}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		attempts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keystile_upstream_attempts_total",
			Help: "Connections on which a request was about to be sent to the upstream.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keystile_requests_in_flight",
			Help: "Requests being served at the moment, refused ones included.",
		}),
		firstByte: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keystile_time_to_first_byte_seconds",
			Help: "Time from the request's head to the head of its answer, for requests let through.", Buckets: durations,
		}),
		total: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keystile_request_duration_seconds",
			Help: "Time from the request's head to the end of its answer, for requests let through.", Buckets: durations,
		}),
		overhead: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keystile_overhead_seconds",
			Help: "Time spent in Keystile before the upstream was called.", Buckets: overheads,
		}),
		logDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keystile_access_log_dropped_total",
			Help: "Lines of the access log dropped because writing them would have made requests wait.",
		}),
		turnedAway: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keystile_connections_refused_total",
			Help: "Connections closed at once because as many were open as the process can serve.",
		}),
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keystile_requests_total",
		Help: "Requests by verdict and class of status.",
	}, []string{"verdict", "status_class"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keystile_upstream_failures_total",
		Help: "Requests that the upstream failed, by cause.",
	}, []string{"cause"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keystile_body_bytes_total",
		Help: "Bytes of bodies from (in) and to (out) clients.",
	}, []string{"direction"})
	m.bytesIn, m.bytesOut = bytes.WithLabelValues("in"), bytes.WithLabelValues("out")
	m.fillChildren(requests, failures)
	if registerer != nil {
		registerer.MustRegister(requests, failures, bytes, m.attempts, m.inFlight,
			m.firstByte, m.total, m.overhead, m.logDropped, m.turnedAway)
	}
	return m
}

// fillChildren makes every series that can occur, so that strangers cannot make new
// ones and a rate over a first event is right.
func (m *metrics) fillChildren(requests, failures *prometheus.CounterVec) {
	for v := range verdictCount {
		if v != Allowed {
			class := classOf(rulings[v].status)
			m.requests[v][class] = requests.WithLabelValues(v.String(), statusClasses[class])
		}
		if v.mayFollowAnyStatus() {
			for class, name := range statusClasses {
				m.requests[v][class] = requests.WithLabelValues(v.String(), name)
			}
		}
	}
	for c := causeDial; c < causeCount; c++ {
		m.failures[c] = failures.WithLabelValues(causeWords[c])
	}
}

func classOf(status int) int {
	if class := status / 100; class < len(statusClasses) {
		return class
	}
	return 0
}

// observe counts a finished exchange.
func (m *metrics) observe(x *exchange, now time.Time) {
	m.inFlight.Dec()
	if counter := m.requests[x.verdict][classOf(x.status())]; counter != nil {
		counter.Inc()
	}
	if x.cause != causeNone {
		m.failures[x.cause].Inc()
	}
	m.bytesIn.Add(float64(x.bytesIn()))
	m.bytesOut.Add(float64(x.out.bytes()))
	if x.called.IsZero() {
		return
	}
	m.overhead.Observe(x.called.Sub(x.began).Seconds())
	m.total.Observe(now.Sub(x.began).Seconds())
	if first := x.out.firstByte(); !first.IsZero() {
		m.firstByte.Observe(first.Sub(x.began).Seconds())
	}
}
