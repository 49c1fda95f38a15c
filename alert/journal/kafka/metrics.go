package kafkajournal

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/internal/metrics"
)

type logMetrics struct {
	accepted, resent, fetchErrors prometheus.Counter
	strays                        *prometheus.CounterVec
	head, leading                 prometheus.Gauge
	appendSeconds                 prometheus.Histogram
}

func newLogMetrics(r *metrics.Registry) *logMetrics {
	m := &logMetrics{
		accepted:      r.Counter("journal", "accepted_total", "Journal records read and accepted."),
		resent:        r.Counter("journal", "resent_total", "Writes of journal records sent again because the answer was lost."),
		fetchErrors:   r.Counter("journal", "fetch_errors_total", "Failed attempts to read the journal."),
		strays:        r.Counters("journal", "strays_total", "Records of the journal's topic that are not part of the history, by reason.", "reason"),
		head:          r.Gauge("journal", "head", "Number of the last accepted record."),
		leading:       r.Gauge("journal", "leading", "1 while this process may append, else 0."),
		appendSeconds: r.Seconds("journal", "append_seconds", "Time to write records and read them back."),
	}
	for _, reason := range journal.Reasons() {
		m.strays.WithLabelValues(string(reason))
	}
	return m
}
