package ingest

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

const subsystem = "ingest"

// maxUnknownNames bounds the names of unknown fields that are told apart.
const maxUnknownNames = 100

// decodeMetrics counts what decoding did.
type decodeMetrics struct {
	events   *prometheus.CounterVec
	rejects  *prometheus.CounterVec
	redacted *prometheus.CounterVec
	cuts     *prometheus.CounterVec
	unknowns *prometheus.CounterVec
	seconds  prometheus.Histogram
	mask     func(string) (string, bool) // secrets in names; nil: none

	mu    sync.Mutex
	known map[string]prometheus.Counter
}

func newDecodeMetrics(r *metrics.Registry) *decodeMetrics {
	return &decodeMetrics{
		events:   r.Counters(subsystem, "events_total", "Events decoded, re-reads included.", "topic"),
		rejects:  r.Counters(subsystem, "rejects_total", "Records that are no events, by reason, re-reads included.", "topic", "reason"),
		redacted: r.Counters(subsystem, "redacted_total", "Secrets masked, by field and kind; the field is record, record key or record header for what no event holds.", "field", "kind"),
		cuts:     r.Counters(subsystem, "cut_fields_total", "Text fields cut at their limit.", "field"),
		unknowns: r.Counters(subsystem, "unknown_fields_total", "Fields outside the contract, dropped; the first 100 names are told apart.", "name"),
		seconds:  r.Seconds(subsystem, "decode_seconds", "Time to decode one fetch."),
		known:    map[string]prometheus.Counter{},
	}
}

func (m *decodeMetrics) decoded(b *Batch, d time.Duration) {
	if len(b.Events)+len(b.Rejects) == 0 {
		return
	}
	m.seconds.Observe(d.Seconds())
	m.events.WithLabelValues(b.Partition.Topic).Add(float64(len(b.Events)))
	for i := range b.Rejects {
		m.rejects.WithLabelValues(b.Partition.Topic, string(b.Rejects[i].Reason)).Inc()
	}
}

func (m *decodeMetrics) cut(f event.Field) { m.cuts.WithLabelValues(f.String()).Inc() }

// unknown counts a field that is not of the contract. The names come from
// messages, so their number and length are bounded, and secrets in them masked.
func (m *decodeMetrics) unknown(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.known[name]
	if !ok {
		switch {
		case len(m.known) >= maxUnknownNames || len(name) > 64:
			c = m.unknowns.WithLabelValues("other")
		default:
			label := strings.Clone(name)
			if m.mask != nil {
				label, _ = m.mask(label)
			}
			c = m.unknowns.WithLabelValues(label)
			m.known[strings.Clone(name)] = c
		}
	}
	c.Inc()
}

// pipelineMetrics shows how far reading and storing are.
type pipelineMetrics struct {
	lag         *prometheus.GaugeVec
	storeLag    *prometheus.GaugeVec
	detached    *prometheus.GaugeVec
	detaches    prometheus.Counter
	reread      prometheus.Counter
	replayed    prometheus.Counter
	fillStored  prometheus.Histogram
	fetchErrors *prometheus.CounterVec
	commits     prometheus.Counter
	commitErrs  prometheus.Counter
	lost        *prometheus.CounterVec
	observe     prometheus.Histogram

	verdictsWritten, verdictsJoined, verdictsMissing prometheus.Counter
	verdictsLost, verdictsForeign                    prometheus.Counter
	verdictErrors                                    *prometheus.CounterVec
}

func newPipelineMetrics(r *metrics.Registry) *pipelineMetrics {
	return &pipelineMetrics{
		lag:         r.Gauges(subsystem, "lag_offsets", "Offsets between what detection has read and the end of the partition.", "topic", "partition"),
		storeLag:    r.Gauges(subsystem, "store_lag_offsets", "Offsets between what is stored and the end of the partition.", "topic", "partition"),
		detached:    r.Gauges(subsystem, "detached", "1 while storage re-reads the partition by itself.", "topic", "partition"),
		detaches:    r.Counter(subsystem, "detaches_total", "Times storage fell behind detection and was detached."),
		reread:      r.Counter(subsystem, "reread_events_total", "Events that storage read again."),
		replayed:    r.Counter(subsystem, "replayed_events_total", "Events read again to fill windows."),
		fillStored:  r.Seconds(subsystem, "fill_seconds", "Time to fill windows from what is stored, once per assignment."),
		fetchErrors: r.Counters(subsystem, "fetch_errors_total", "Fetches that failed and were tried again.", "topic"),
		commits:     r.Counter(subsystem, "commits_total", "Commits of stored positions."),
		commitErrs:  r.Counter(subsystem, "commit_errors_total", "Commits that failed."),
		lost:        r.Counters(subsystem, "lost_offsets_total", "Offsets that retention removed before they were read, by who missed them.", "topic", "reader"),
		observe:     r.Seconds(subsystem, "observe_seconds", "Time that detection took for one fetch."),

		verdictsWritten: r.Counter(subsystem, "verdicts_written_total", "Verdicts on refused events that were written to Kafka because storage was behind."),
		verdictsJoined:  r.Counter(subsystem, "verdicts_joined_total", "Refused events that storage read again and gave the cause of the live verdict."),
		verdictsMissing: r.Counter(subsystem, "verdicts_missing_total", "Refused events that storage read again without a verdict; their causes were decided anew and are flagged rediagnosed."),
		verdictsLost:    r.Counter(subsystem, "verdicts_dropped_total", "Verdicts that were dropped because too many waited to be written."),
		verdictsForeign: r.Counter(subsystem, "verdicts_foreign_total", "Records of verdicts that were passed over: not signed by a daemon, or damaged."),
		verdictErrors:   r.Counters(subsystem, "verdict_errors_total", "Failed attempts to write or read verdicts.", "op"),
	}
}
