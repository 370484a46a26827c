package main

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"keystile/admin"
	"keystile/cache"
)

// newRegistry returns the registry of the process, with what no other package
// counts: keys by state, version and age of the mirror, the build, Go and the process.
func newRegistry(mirror *cache.Mirror) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		keysGauge("active", func() float64 { active, _ := mirror.Counts(); return float64(active) }),
		keysGauge("inactive", func() float64 { _, inactive := mirror.Counts(); return float64(inactive) }),
		gauge("keystile_mirror_age_seconds", "Time since the records in memory were last known to be those of the store.",
			func() float64 { return mirror.Age().Seconds() }),
		gauge("keystile_applied_version", "Version of the last change of the store by which requests are judged here.",
			func() float64 { return float64(mirror.Version()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "keystile_build_info",
			Help:        "Always 1; the labels say which build this is.",
			ConstLabels: prometheus.Labels{"version": version(), "go_version": runtime.Version()},
		},
			func() float64 { return 1 }),
	)
	return registry
}

func gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}

func keysGauge(state string, count func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "keystile_keys",
		Help: "Keys in memory by state.", ConstLabels: prometheus.Labels{"state": state},
	}, count)
}

// storeMetrics count what happens to a store that several processes share.
type storeMetrics struct {
	lag, polls                          prometheus.Histogram
	failed, reasserted, lost, rollbacks prometheus.Counter
	resyncs                             *prometheus.CounterVec // by cause
}

func newStoreMetrics(registerer prometheus.Registerer) *storeMetrics {
	factory := promauto.With(registerer)
	counter := func(name, help string) prometheus.Counter {
		return factory.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &storeMetrics{
		lag: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "keystile_revocation_lag_seconds",
			Help:    "Time from the commit of a revocation, by the server's clock, until it was applied here.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		}),
		polls: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "keystile_store_poll_seconds",
			Help:    "Duration of polls of the store, the failed ones included.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5},
		}),
		failed:     counter("keystile_store_polls_failed_total", "Polls of the store that failed."),
		reasserted: counter("keystile_store_reasserted_total", "Revocations that the store had lost and that this process made again."),
		lost:       counter("keystile_store_lost_keys_total", "Keys that the store has lost, by the knowledge of this process."),
		rollbacks:  counter("keystile_store_rollbacks_total", "Times the store was not the one remembered, or had gone back: an alarm."),
		resyncs: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "keystile_store_resyncs_total",
			Help: "Times the whole set of records was read again, by cause.",
		}, []string{"cause"}),
	}
	for _, cause := range cache.ResyncCauses() {
		m.resyncs.WithLabelValues(string(cause))
	}
	return m
}

// registerProxies shows how many processes share the store, and how far they are.
func registerProxies(registerer prometheus.Registerer, proxies func() []admin.Proxy, mirror *cache.Mirror) {
	registerer.MustRegister(
		gauge("keystile_proxies_alive", "Processes that share the store and have not lapsed, this one included.",
			func() float64 { return float64(len(proxies())) }),
		gauge("keystile_proxies_applied_version_lowest", "Lowest version by which one of those that serve, or this one, judges requests.",
			func() float64 { return float64(lowestApplied(proxies(), mirror.Version())) }),
	)
}

func lowestApplied(proxies []admin.Proxy, own uint64) uint64 {
	for _, p := range proxies {
		if p.Serving {
			own = min(own, p.Applied)
		}
	}
	return own
}
