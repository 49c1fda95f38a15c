package store

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/internal/metrics"
)

type writerMetrics struct {
	rows       *prometheus.CounterVec
	bytes      prometheus.Counter
	inserts    prometheus.Counter
	retries    *prometheus.CounterVec
	seconds    prometheus.Histogram
	queueBytes prometheus.Gauge
	unknown    prometheus.Counter
	duplicates prometheus.Counter
	poisoned   prometheus.Counter
	gaps       *prometheus.CounterVec
	healthy    prometheus.Gauge
}

func newWriterMetrics(r *metrics.Registry) writerMetrics {
	const s = "store"
	return writerMetrics{
		rows:       r.Counters(s, "rows_total", "Rows stored, by table.", "table"),
		bytes:      r.Counter(s, "insert_bytes_total", "Bytes of column data in acknowledged inserts, before compression."),
		inserts:    r.Counter(s, "inserts_total", "Inserts that were acknowledged."),
		retries:    r.Counters(s, "insert_retries_total", "Attempts to insert that failed and were repeated, by kind of failure.", "kind"),
		seconds:    r.Seconds(s, "insert_seconds", "Time from sending an insert to its acknowledgement."),
		queueBytes: r.Gauge(s, "queue_bytes", "Memory of the rows that wait or are in flight."),
		unknown:    r.Counter(s, "unknown_outcomes_total", "Inserts whose answer was lost; the stored rows were looked up before the next attempt."),
		duplicates: r.Counter(s, "duplicates_avoided_total", "Rows left out because they were stored or queued already."),
		poisoned:   r.Counter(s, "poisoned_rows_total", "Rows that the server refused for their content and that went to quarantine."),
		gaps:       r.Counters(s, "gap_offsets_total", "Offsets of which nothing is stored, by reason: empty, lost or unreadable. A replay counts them again.", "reason"),
		healthy:    r.Gauge(s, "healthy", "1 when the last attempt to store succeeded."),
	}
}
