package alert

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/internal/metrics"
)

type counters struct {
	findings  *prometheus.CounterVec // outcome
	queued    prometheus.Gauge
	incidents *prometheus.GaugeVec   // severity: active ones
	decisions *prometheus.CounterVec // action, outcome
	messages  *prometheus.CounterVec // kind, outcome
	unsent    prometheus.Gauge
	appends   *prometheus.CounterVec // outcome
	unread    prometheus.Counter
	leading   prometheus.Gauge
	positions *prometheus.CounterVec // outcome
	journaled prometheus.Histogram
}

func newCounters(r *metrics.Registry) counters {
	r = metrics.OrNew(r)
	const sub = "alert"
	return counters{
		findings: r.Counters(sub, "findings_total",
			"Findings taken from detection, by outcome: opened, joined, inhibited, reopened, shadow, repeated, dropped.", "outcome"),
		queued:    r.Gauge(sub, "queue_deliveries", "Deliveries of detection that wait for the journal."),
		incidents: r.Gauges(sub, "incidents_active", "Incidents that are open, acknowledged or mitigating.", "severity"),
		decisions: r.Counters(sub, "decisions_total", "Decisions of people, by action and outcome: accepted, refused, repeated.", "action", "outcome"),
		messages: r.Counters(sub, "messages_total",
			"Calls to the messenger, by kind (root, reply, edit, chart, lookup) and outcome (sent, found, absent, retry_after, permanent, refused, gone, unknown).", "kind", "outcome"),
		unsent:    r.Gauge(sub, "messages_unsent", "Messages in the outbox that are not known to be sent."),
		appends:   r.Counters(sub, "appends_total", "Appends to the journal, by outcome: ok, error.", "outcome"),
		unread:    r.Counter(sub, "records_unreadable_total", "Journal records whose body could not be read."),
		leading:   r.Gauge(sub, "leading", "1 while this member may act."),
		positions: r.Counters(sub, "positions_saved_total", "Saves of the detected positions, by outcome: ok, error.", "outcome"),
		journaled: r.Seconds(sub, "finding_journaled_seconds", "From a delivery of findings to their acceptance by the journal."),
	}
}
