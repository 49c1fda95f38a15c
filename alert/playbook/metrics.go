package playbook

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/internal/metrics"
)

type runnerMetrics struct {
	runs      *prometheus.CounterVec
	steps     *prometheus.CounterVec
	probes    *prometheus.CounterVec
	decisions *prometheus.CounterVec
	lateActs  prometheus.Counter
	overdue   prometheus.Gauge
}

func newRunnerMetrics(reg *metrics.Registry) *runnerMetrics {
	m := metrics.OrNew(reg)
	return &runnerMetrics{
		runs:      m.Counters("playbook", "runs_total", "Runs that entered a state, by playbook and state.", "playbook", "state"),
		steps:     m.Counters("playbook", "steps_total", "Step records written by this member, by step type and state.", "type", "state"),
		probes:    m.Counters("playbook", "probes_total", "Probes sent, by result: ok, dead, error.", "result"),
		decisions: m.Counters("playbook", "decisions_ignored_total", "Accepted decisions about a run that had no effect, by why.", "why"),
		lateActs:  m.Counter("playbook", "intents_too_old_total", "Intents that were accepted too late to act on; they are written anew."),
		overdue:   m.Gauge("playbook", "runs_overdue", "Runs whose overlap is over without proof."),
	}
}
