package kafka

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/metrics"
)

type clientMetrics struct {
	records, bytes, unreadable, refetched, gone prometheus.Counter
	seconds                                     prometheus.Histogram
}

func newClientMetrics(r *metrics.Registry) *clientMetrics {
	return &clientMetrics{
		records:    r.Counter("kafka", "records_total", "Records read from input partitions."),
		bytes:      r.Counter("kafka", "fetched_bytes_total", "Bytes of record batches read, as sent by the broker."),
		unreadable: r.Counter("kafka", "unreadable_offsets_total", "Offsets whose batch could not be read and went to quarantine."),
		refetched:  r.Counter("kafka", "refetched_total", "Fetches repeated because a batch did not fit its checksum."),
		gone:       r.Counter("kafka", "lost_offsets_total", "Offsets that retention deleted before they were read."),
		seconds:    r.Seconds("kafka", "fetch_seconds", "Duration of a fetch, waiting for data included."),
	}
}

func (m *clientMetrics) fetched(f *ingest.Fetched, bytes int, d time.Duration) {
	m.records.Add(float64(len(f.Records)))
	m.bytes.Add(float64(bytes))
	m.seconds.Observe(d.Seconds())
	for _, u := range f.Unreadable {
		m.unreadable.Add(float64(u.To - u.From))
	}
}

type groupMetrics struct {
	generations, errors, left, committed, refused prometheus.Counter
	active, partitions                            prometheus.Gauge
}

func newGroupMetrics(r *metrics.Registry) *groupMetrics {
	return &groupMetrics{
		generations: r.Counter("kafka", "group_generations_total", "Generations of the consumer group that this member took part in."),
		errors:      r.Counter("kafka", "group_errors_total", "Failed attempts to join the consumer group."),
		left:        r.Counter("kafka", "group_former_members_total", "Former members of this daemon that were removed from the group."),
		committed:   r.Counter("kafka", "commits_total", "Commits of stored positions that the broker accepted."),
		refused:     r.Counter("kafka", "commits_refused_total", "Commits that would have moved a position back, or came after the generation ended."),
		active:      r.Gauge("kafka", "group_active", "1 while this member holds the partitions, 0 while it stands by."),
		partitions:  r.Gauge("kafka", "group_partitions", "Partitions this member holds."),
	}
}
