package main

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"keystile/cache"
)

// newRegistry returns the registry of the process, with what no other package
// counts: keys by state, the age of the mirror, the build, Go and the process.
func newRegistry(mirror *cache.Mirror) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		keysGauge("active", func() float64 { active, _ := mirror.Counts(); return float64(active) }),
		keysGauge("inactive", func() float64 { _, inactive := mirror.Counts(); return float64(inactive) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "keystile_mirror_age_seconds",
			Help: "Time since the records in memory were last known to be those of the store.",
		},
			func() float64 { return mirror.Age().Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "keystile_build_info",
			Help:        "Always 1; the labels say which build this is.",
			ConstLabels: prometheus.Labels{"version": version(), "go_version": runtime.Version()},
		},
			func() float64 { return 1 }),
	)
	return registry
}

func keysGauge(state string, count func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "keystile_keys",
		Help: "Keys in memory by state.", ConstLabels: prometheus.Labels{"state": state},
	}, count)
}
