package playbook

import (
	"slices"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// RunView is a run as the outside sees it.
type RunView struct {
	journal.RunPlanned
	Planned event.Instant
	State   State
	Ended   bool
	Since   event.Instant // when the state was entered
	Reason  string
	Text    string
	Clock   string
	// Approvers are the people whose approval counts so far.
	Approvers []string
	// StoppedBy is who pulled the kill switch, while it is pulled.
	StoppedBy string
	// Expires is when the plan ends unless approved: ExpiresAt, or earlier once
	// the incident is acknowledged.
	Expires event.Instant
	Steps   []StepView
}

// StepView is one step of a run; compensations come last and only once begun.
type StepView struct {
	ID, Type string
	State    string // "", started, done, failed, unknown, compensated
	Attempt  int
	Text     string
	Error    string
	Started  event.Instant
	Ended    event.Instant
}

// Runs returns every run, newest first.
func (r *Runner) Runs() []RunView {
	runs := r.fold.all()
	out := make([]RunView, 0, len(runs))
	for _, run := range slices.Backward(runs) {
		out = append(out, run.view())
	}
	return out
}

// Get returns one run.
func (r *Runner) Get(runID string) (RunView, bool) {
	run := r.fold.snapshot(runID)
	if run == nil {
		return RunView{}, false
	}
	return run.view(), true
}

func (run *run) view() RunView {
	v := RunView{RunPlanned: run.planned, Planned: run.at, State: run.state, Ended: run.ended, Since: run.since,
		Reason: run.reason, Text: run.text, Clock: run.clock, Approvers: run.approvals, StoppedBy: run.stopped, Expires: run.expires}
	for _, s := range run.planned.Plan.Steps {
		v.Steps = append(v.Steps, run.stepView(s))
	}
	for _, s := range run.planned.Plan.Compensations {
		if run.steps[s.ID] != nil {
			v.Steps = append(v.Steps, run.stepView(s))
		}
	}
	return v
}

func (run *run) stepView(s journal.PlanStep) StepView {
	v := StepView{ID: s.ID, Type: s.Type}
	if st := run.steps[s.ID]; st != nil {
		v.State, v.Attempt, v.Text, v.Error, v.Started, v.Ended = st.state, st.attempt, st.text, st.err, st.started, st.ended
	}
	return v
}
