package httpingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/internal/metrics"
)

type handlerMetrics struct {
	requests, events, bytes *prometheus.CounterVec
	produce                 prometheus.Histogram
}

func newHandlerMetrics(r *metrics.Registry) *handlerMetrics {
	return &handlerMetrics{
		requests: r.Counters("ingest_http", "requests_total", "Requests to /v1/events by source (empty: none was recognised) and by the status of the answer.", "source", "status"),
		events:   r.Counters("ingest_http", "events_total", "Events posted by a source and acknowledged by Kafka.", "source"),
		bytes:    r.Counters("ingest_http", "event_bytes_total", "Bytes of the events posted by a source and acknowledged by Kafka, after decompression.", "source"),
		produce:  r.Seconds("ingest_http", "produce_seconds", "Time until Kafka acknowledged all events of a request, or refused."),
	}
}

// accepted counts the events of one request.
func (m *handlerMetrics) accepted(source string, records []Record) {
	size := 0
	for i := range records {
		size += len(records[i].Value)
	}
	m.events.WithLabelValues(source).Add(float64(len(records)))
	m.bytes.WithLabelValues(source).Add(float64(size))
}
