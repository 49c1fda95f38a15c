package playbook

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// fold is the state of all runs as the journal tells it.
type fold struct {
	cfg     Config
	ignored func(why string)

	mu   sync.Mutex
	runs map[string]*run
	acks map[string]event.Instant // first acknowledgement by incident, since it was last reopened
}

// run is one run. Everything in it comes from records.
type run struct {
	planned journal.RunPlanned
	at      event.Instant
	expires event.Instant

	state    State
	progress State // the last state that was none of stopped, failed, unknown, overdue
	since    event.Instant
	entered  map[State]event.Instant // the first time
	ended    bool
	lastN    int64 // of RunState, Step and Probe records

	reason, text, clock string
	clockAt             event.Instant
	laggardsTold        bool

	decided    map[string]bool // ids of decisions
	approvals  []string
	preset     string // the outcome that an approver chose beforehand
	denied     string // by whom
	stopped    string // by whom; empty: not stopped
	resume     string // by whom: wanted
	choice     string // extend, revoke_now, back_out: wanted
	chooser    string
	extended   event.Instant // when the overlap was extended
	extensions int

	steps map[string]*stepState
	lost  []string // provider ids of keys whose value is lost
}

type stepState struct {
	attempt, generation int
	fails               int // since the run was last resumed
	state, text, err    string
	outputs             map[string]string
	started, ended      event.Instant
	// tried: an attempt was not only intended, or may not have been.
	tried bool
	// ambiguous: an attempt ended without a known outcome.
	ambiguous bool
}

func newFold(cfg Config, ignored func(string)) *fold {
	return &fold{cfg: cfg, ignored: ignored, runs: map[string]*run{}, acks: map[string]event.Instant{}}
}

// apply folds one record and reports whether it concerned a run.
func (f *fold) apply(rec journal.Record) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch rec.Kind {
	case journal.KindRunPlanned:
		return into(rec, f.plan)
	case journal.KindDecision:
		return into(rec, f.decide)
	case journal.KindIncident:
		return into(rec, f.change)
	case journal.KindRunState:
		return into(rec, f.runState)
	case journal.KindStep:
		return into(rec, f.step)
	}
	return false, nil
}

func into[T any](rec journal.Record, fn func(journal.Record, T) bool) (bool, error) {
	var body T
	if err := json.Unmarshal(rec.Body, &body); err != nil {
		return false, fmt.Errorf("decode record %d (%s): %w", rec.N, rec.Kind, err)
	}
	return fn(rec, body), nil
}

func (f *fold) plan(rec journal.Record, p journal.RunPlanned) bool {
	if f.runs[p.RunID] != nil {
		return false
	}
	f.runs[p.RunID] = &run{planned: p, at: rec.Time, expires: p.ExpiresAt, state: StatePlanned, progress: StatePlanned,
		since: rec.Time, entered: map[State]event.Instant{StatePlanned: rec.Time}, lastN: rec.N,
		decided: map[string]bool{}, steps: map[string]*stepState{}}
	return true
}

// decide folds what a person did. Only decisions that alerting accepted count,
// and of those only the ones that fit the run as it is now.
func (f *fold) decide(rec journal.Record, d journal.Decision) bool {
	if d.Refused != "" {
		return false
	}
	if d.Action == journal.ActionAck {
		return f.acknowledge(rec.Time, d.IncidentID)
	}
	if d.RunID == "" && (d.Action == journal.ActionStop || d.Action == journal.ActionResume) {
		return f.decideAll(rec.Time, d)
	}
	run := f.runs[d.RunID]
	if run == nil {
		return false
	}
	if d.ID != "" && run.decided[d.ID] {
		return false
	}
	run.decided[d.ID] = true
	if why := run.decide(rec.Time, d); why != "" {
		f.ignored(why)
		return false
	}
	return true
}

// decideAll takes the kill switch, which stands for every run that is not over.
func (f *fold) decideAll(at event.Instant, d journal.Decision) (changed bool) {
	for _, run := range f.runs {
		if !run.ended && !run.planned.DryRun && run.decide(at, d) == "" {
			changed = true
		}
	}
	return changed
}

// change forgets the acknowledgement of an incident that was reopened: its plans
// wait for a new one.
func (f *fold) change(_ journal.Record, c journal.IncidentChange) bool {
	if c.Op == incident.OpReopen {
		delete(f.acks, c.IncidentID)
	}
	return false
}

// acknowledge starts the approval window of an incident's plans.
func (f *fold) acknowledge(at event.Instant, incident string) bool {
	if incident == "" || f.acks[incident] != 0 {
		return false
	}
	f.acks[incident] = at
	for _, run := range f.runs {
		if run.planned.IncidentID == incident && run.state == StatePlanned {
			run.expires = min(run.expires, at.Add(f.cfg.ApprovalWindow))
		}
	}
	return true
}

// decide changes the run, or says why it does not.
func (run *run) decide(at event.Instant, d journal.Decision) (ignored string) {
	if run.ended {
		return "run_ended"
	}
	switch d.Action {
	case journal.ActionApprove:
		return run.approve(at, d)
	case journal.ActionDeny:
		if run.state != StatePlanned {
			return "not_planned"
		}
		run.denied = d.Person
	case journal.ActionStop:
		run.stopped, run.resume = d.Person, ""
	case journal.ActionResume:
		if run.stopped == "" && !run.held() {
			return "nothing_to_resume"
		}
		run.stopped, run.resume = "", d.Person
	case journal.ActionChoose:
		return run.choose(d)
	default:
		return "other_action"
	}
	return ""
}

func (run *run) approve(at event.Instant, d journal.Decision) (ignored string) {
	switch {
	case run.planned.DryRun:
		return "dry_run"
	case run.state != StatePlanned:
		return "not_planned"
	case d.PlanHash != run.planned.PlanHash:
		return "wrong_plan"
	case at > run.expires:
		return "expired"
	case slices.Contains(run.approvals, d.Person):
		return "same_person"
	case run.planned.Approvals > 1 && d.Person == run.planned.RequestedBy:
		return "requester"
	}
	run.approvals = append(run.approvals, d.Person)
	if d.Choice != "" {
		run.preset = d.Choice
	}
	return ""
}

// Choices at an overlap's end.
const (
	choiceExtend    = "extend"
	choiceRevokeNow = "revoke_now"
	choiceBackOut   = "back_out"
)

func (run *run) choose(d journal.Decision) (ignored string) {
	waiting := run.state == StateOverdue || run.state == StateOverlap
	switch d.Choice {
	case choiceExtend:
		if !waiting || run.extensions > 0 {
			return "extend_once"
		}
	case choiceRevokeNow:
		if run.state != StateOverdue {
			return "not_overdue"
		}
	case choiceBackOut:
		if !run.canBackOut() {
			return "too_late_to_back_out"
		}
	default:
		return "unknown_choice"
	}
	run.choice, run.chooser = d.Choice, d.Person
	return ""
}

// canBackOut holds from the issue until the old key is being revoked.
func (run *run) canBackOut() bool {
	if run.entered[StateBackOut] != 0 || !run.touched() {
		return false
	}
	for _, s := range run.planned.Plan.Steps {
		if st := run.steps[s.ID]; s.Type == typeRevoke && st != nil && (st.tried || st.state != "late") {
			return false
		}
	}
	return true
}

// touched reports whether the run may have changed anything at the provider.
func (run *run) touched() bool {
	for _, s := range run.planned.Plan.Steps {
		if st := run.steps[s.ID]; s.Type == typeIssue && st != nil {
			return st.state == "done" || st.ambiguous || st.state == "started" || len(run.lost) > 0
		}
	}
	return false
}

// held reports whether the run waits for a person after a failure.
func (run *run) held() bool { return run.state == StateFailed || run.state == StateUnknown }

func (f *fold) runState(rec journal.Record, s journal.RunState) bool {
	run := f.runs[s.RunID]
	if run == nil || rec.N <= run.lastN {
		return false
	}
	run.lastN = rec.N
	state := State(s.State)
	moved := state != run.state
	if moved {
		run.state, run.since = state, rec.Time
	}
	if run.entered[state] == 0 {
		run.entered[state] = rec.Time
	}
	switch state {
	case StateStopped, StateFailed, StateUnknown, StateOverdue:
	default:
		if run.resume != "" {
			run.resume = ""
			for _, st := range run.steps {
				st.fails = 0
			}
		}
		run.progress = state
	}
	if state == StateBackOut {
		run.choice = ""
	}
	if s.Reason == reasonExtended {
		run.choice, run.extended = "", rec.Time
		run.extensions++
	}
	if s.Reason == reasonLaggards {
		run.laggardsTold = true
	}
	if s.Reason != "" || moved {
		run.reason = s.Reason
	}
	run.ended = s.Ended
	if s.Text != "" {
		run.text = s.Text
	}
	run.clock, run.clockAt = s.Clock, rec.Time
	return true
}

// Reasons of a RunState that the fold reads again.
const (
	reasonExtended = "extended"
	reasonLaggards = "laggards"
)

func (f *fold) step(rec journal.Record, s journal.Step) bool {
	run := f.runs[s.RunID]
	if run == nil || rec.N <= run.lastN {
		return false
	}
	run.lastN = rec.N
	st := run.steps[s.StepID]
	if st == nil {
		st = &stepState{generation: 1}
		run.steps[s.StepID] = st
	}
	if st.state == "done" && s.State != "compensated" {
		return true // done is done: a copy of an old leader's try changes nothing
	}
	switch s.State {
	case "started":
		st.ambiguous = st.ambiguous || st.state == "started"
		st.tried = st.tried || st.ambiguous
		st.started, st.ended = rec.Time, 0
	case "done":
		st.ended, st.outputs, st.ambiguous = rec.Time, s.Outputs, false
	case "failed", "unknown":
		st.ended = rec.Time
		st.fails++
		st.ambiguous = st.ambiguous || s.State == "unknown"
	case "compensated":
		st.ended, st.outputs, st.ambiguous = rec.Time, nil, false
		st.generation++
		if id := s.Outputs[outLostProviderID]; id != "" {
			run.lost = append(run.lost, id)
		}
	}
	st.tried = st.tried || (s.State != "started" && s.State != "late")
	st.attempt, st.state, st.text, st.err = s.Attempt, s.State, s.Text, s.Error
	return true
}

// clone copies a run so that it can be read without the lock.
func (run *run) clone() *run {
	c := *run
	c.entered, c.decided = maps.Clone(run.entered), nil
	c.approvals, c.lost = slices.Clone(run.approvals), slices.Clone(run.lost)
	c.steps = make(map[string]*stepState, len(run.steps))
	for id, st := range run.steps {
		s := *st
		c.steps[id] = &s // outputs are never changed in place
	}
	return &c
}

// snapshot copies one run, or returns nil.
func (f *fold) snapshot(id string) *run {
	f.mu.Lock()
	defer f.mu.Unlock()
	if run := f.runs[id]; run != nil {
		return run.clone()
	}
	return nil
}

// all copies every run, oldest first.
func (f *fold) all() []*run {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*run, 0, len(f.runs))
	for _, run := range f.runs {
		out = append(out, run.clone())
	}
	slices.SortFunc(out, func(a, b *run) int {
		if a.at != b.at {
			return int(min(max(a.at-b.at, -1), 1))
		}
		return compare(a.planned.RunID, b.planned.RunID)
	})
	return out
}

// open lists the ids of the runs that have not ended.
func (f *fold) open() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for id, run := range f.runs {
		if !run.ended {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (f *fold) acknowledged(incident string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return incident != "" && f.acks[incident] != 0
}
