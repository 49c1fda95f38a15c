// Package metrics gives every component the same way to count: a registry of
// its own process, never a global one, and names that begin with keysentry_.
package metrics

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Namespace is the first word of every metric's name.
const Namespace = "keysentry"

// Registry holds the metrics of one process (or of one test).
type Registry struct {
	reg *prometheus.Registry
	promauto.Factory
}

// New returns a registry with the Go runtime's and the process's own metrics.
func New() *Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Registry{reg: reg, Factory: promauto.With(replacing{reg})}
}

// replacing lets a component that is built anew (after a takeover, say) take the
// place of its former life: its counters start again from zero.
type replacing struct{ *prometheus.Registry }

// MustRegister registers, in place of an equal collector if there is one.
func (r replacing) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		err := r.Register(c)
		var dup prometheus.AlreadyRegisteredError
		if errors.As(err, &dup) {
			r.Unregister(dup.ExistingCollector)
			err = r.Register(c)
		}
		if err != nil {
			panic(err)
		}
	}
}

// OrNew returns r, or a registry that nobody reads when r is nil, so that a
// component can be built without one.
func OrNew(r *Registry) *Registry {
	if r != nil {
		return r
	}
	reg := prometheus.NewRegistry()
	return &Registry{reg: reg, Factory: promauto.With(replacing{reg})}
}

// Gatherer gives tests and the reference documentation the metrics themselves.
func (r *Registry) Gatherer() prometheus.Gatherer { return r.reg }

// Handler serves the metrics in the Prometheus exposition format.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{Registry: r.reg})
}

// Counter registers keysentry_SUBSYSTEM_NAME.
func (r *Registry) Counter(subsystem, name, help string) prometheus.Counter {
	return r.NewCounter(prometheus.CounterOpts{Namespace: Namespace, Subsystem: subsystem, Name: name, Help: help})
}

// Counters registers a counter with labels.
func (r *Registry) Counters(subsystem, name, help string, labels ...string) *prometheus.CounterVec {
	return r.NewCounterVec(prometheus.CounterOpts{Namespace: Namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
}

// Gauge registers a gauge.
func (r *Registry) Gauge(subsystem, name, help string) prometheus.Gauge {
	return r.NewGauge(prometheus.GaugeOpts{Namespace: Namespace, Subsystem: subsystem, Name: name, Help: help})
}

// Gauges registers a gauge with labels.
func (r *Registry) Gauges(subsystem, name, help string, labels ...string) *prometheus.GaugeVec {
	return r.NewGaugeVec(prometheus.GaugeOpts{Namespace: Namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
}

// Seconds registers a histogram of durations, 100 microseconds to 100 seconds.
func (r *Registry) Seconds(subsystem, name, help string) prometheus.Histogram {
	return r.NewHistogram(prometheus.HistogramOpts{Namespace: Namespace, Subsystem: subsystem, Name: name, Help: help,
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 20)})
}
