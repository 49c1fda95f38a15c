package detect

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

type engineMetrics struct {
	events, matches, ownProbes prometheus.Counter
	filled                     prometheus.Counter
	causes                     [256]prometheus.Counter
	firings                    *prometheus.CounterVec
	lag                        prometheus.Gauge
	holding                    prometheus.Gauge
	clockOffset, clockError    *prometheus.GaugeVec
	clockDrift                 *prometheus.GaugeVec
	clocks, clocksBeyond       prometheus.Gauge
}

func newMetrics(r *metrics.Registry, e *Engine) *engineMetrics {
	m := &engineMetrics{
		events:    r.Counter("detect", "events_total", "Events judged live."),
		matches:   r.Counter("detect", "matches_total", "Pairs of an event and a detection rule that it satisfies."),
		ownProbes: r.Counter("detect", "own_probes_total", "Events of our own probes, left out of every signal."),
		filled:    r.Counter("detect", "filled_events_total", "Stored events that filled windows after a restart."),
		firings:   r.Counters("detect", "findings_total", "Findings by rule.", "rule"),
		lag:       r.Gauge("detect", "watermark_lag_seconds", "How far the watermark is behind the clock."),
		holding:   r.Gauge("detect", "watermark_partitions_active", "Partitions that hold the watermark: not drained."),

		clockOffset:  r.Gauges("clock", "offset_seconds", "How far a host's clock is ahead; below 0: behind, or its records are late (state slow_or_delayed). The 100 hosts that mint and are farthest off.", "network", "host", "state"),
		clockError:   r.Gauges("clock", "error_seconds", "Error of offset_seconds.", "network", "host"),
		clockDrift:   r.Gauges("clock", "drift_seconds_per_hour", "How fast offset_seconds grows.", "network", "host"),
		clocks:       r.Gauge("clock", "hosts", "Hosts that mint whose clock is estimated."),
		clocksBeyond: r.Gauge("clock", "hosts_beyond_leeway", "Hosts whose clock is off by more than token_leeway: their tokens are refused."),
	}
	causes := r.Counters("detect", "refused_total", "Refused events by cause.", "cause")
	for _, c := range event.Causes() {
		m.causes[c] = causes.WithLabelValues(c.String())
	}
	r.NewGaugeFunc(prometheus.GaugeOpts{Namespace: metrics.Namespace, Subsystem: "detect", Name: "rules_learning",
		Help: "Rules whose windows lack events of before a restart: they may miss until their timespan has passed."},
		func() float64 { return float64(len(e.Learning())) })
	r.NewCounterFunc(prometheus.CounterOpts{Namespace: metrics.Namespace, Subsystem: "detect", Name: "coverage_untracked_total",
		Help: "Numbered events that coverage had no room to count: too many processes or networks."},
		func() float64 { return float64(e.coverage.lost()) })
	gauge := func(name, help string, v func(correlate.Stats) float64) {
		r.NewGaugeFunc(prometheus.GaugeOpts{Namespace: metrics.Namespace, Subsystem: "correlate", Name: name, Help: help},
			func() float64 { return v(e.Stats()) })
	}
	gauge("groups", "Groups that are kept.", func(s correlate.Stats) float64 { return float64(s.Groups) })
	gauge("bytes", "Estimated memory of the groups.", func(s correlate.Stats) float64 { return float64(s.Bytes) })
	gauge("pending", "Observations that wait for the watermark.", func(s correlate.Stats) float64 { return float64(s.Pending) })
	counter := func(name, help string, v func(correlate.Stats) uint64) {
		r.NewCounterFunc(prometheus.CounterOpts{Namespace: metrics.Namespace, Subsystem: "correlate", Name: name, Help: help},
			func() float64 { return float64(v(e.Stats())) })
	}
	counter("observed_total", "Observations taken in.", func(s correlate.Stats) uint64 { return s.Observed })
	counter("missing_group_total", "Observations without a group-by field.", func(s correlate.Stats) uint64 { return s.MissingGroup })
	counter("missing_field_total", "Observations without the measured field.", func(s correlate.Stats) uint64 { return s.MissingField })
	counter("late_total", "Observations behind the watermark that still counted.", func(s correlate.Stats) uint64 { return s.Late })
	counter("too_late_total", "Observations too late to be correlated.", func(s correlate.Stats) uint64 { return s.TooLate })
	counter("evicted_total", "Groups dropped for room.", func(s correlate.Stats) uint64 { return s.Evicted })
	counter("orphaned_total", "Observations whose group was dropped before they were judged.", func(s correlate.Stats) uint64 { return s.Orphaned })
	counter("forced_total", "Observations judged before the watermark, for room.", func(s correlate.Stats) uint64 { return s.Forced })
	counter("unknown_total", "Absences and new values that were not judged, for want of coverage or of room.", func(s correlate.Stats) uint64 { return s.Unknown })
	counter("held_total", "Episodes that waited for the watermark before they fired.", func(s correlate.Stats) uint64 { return s.Held })
	return m
}
