package journal

import (
	"encoding/json"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// TookOver is the first record of a leader. The record's offset is the epoch.
type TookOver struct {
	Member  string `json:"member"`  // instance name from the configuration
	Address string `json:"address"` // where decisions can be POSTed
	Version string `json:"version"`
}

// Episode updates an open episode's end, so that a restart fires nothing twice.
type Episode struct {
	FindingID string        `json:"finding_id"`
	First     event.Instant `json:"first,omitempty"`
	Last      event.Instant `json:"last"`
	Count     uint64        `json:"count"`
	Closed    bool          `json:"closed,omitempty"`
}

// IncidentChange is one change of an incident by the product itself (a person's
// change is a Decision). Finding ids join the incident.
type IncidentChange struct {
	IncidentID string `json:"incident_id"`
	Op         string `json:"op"` // see alert/incident: open, join, dropped, resolve, reopen, ...
	FindingID  string `json:"finding_id,omitempty"`
	Note       string `json:"note,omitempty"`
	// Kind and Subject are those of the incident, with open, where they are not
	// those of the finding.
	Kind    finding.Kind     `json:"kind,omitempty"`
	Subject *finding.Subject `json:"subject,omitempty"`
	// Count is how many findings were counted and not kept, with dropped.
	Count uint64 `json:"count,omitempty"`
	// Inhibited: the incident explains the finding, which would else have had its own.
	Inhibited bool `json:"inhibited,omitempty"`
}

// Outbox is the life of one message to people: new -> sending -> sent | unknown.
type Outbox struct {
	MessageID  string          `json:"message_id"`
	IncidentID string          `json:"incident_id,omitempty"`
	State      string          `json:"state"` // new, sending, sent, unknown, dropped
	Channel    string          `json:"channel,omitempty"`
	TS         string          `json:"ts,omitempty"`      // Slack's message timestamp, once sent
	Payload    json.RawMessage `json:"payload,omitempty"` // with new
	Reason     string          `json:"reason,omitempty"`
	// Root: the message stands for the incident and is edited in place; others
	// are replies in its thread.
	Root bool `json:"root,omitempty"`
	// Upto is the record up to which the message tells the incident's news, with new.
	Upto int64 `json:"upto,omitempty"`
}

// Decision is what a person did, or tried to do: refused ones are recorded too.
type Decision struct {
	ID         string        `json:"id"` // idempotence key: one click, one id
	Action     string        `json:"action"`
	IncidentID string        `json:"incident_id,omitempty"`
	RunID      string        `json:"run_id,omitempty"`
	PlanHash   string        `json:"plan_hash,omitempty"`
	Step       string        `json:"step,omitempty"`
	Person     string        `json:"person"` // id in the configuration's list of people
	Via        string        `json:"via"`    // slack, cli, console
	Reason     string        `json:"reason,omitempty"`
	Until      event.Instant `json:"until,omitempty"`
	Verdict    string        `json:"verdict,omitempty"` // close: true, false, benign
	Choice     string        `json:"choice,omitempty"`  // overdue: extend, revoke_now, back_out
	Refused    string        `json:"refused,omitempty"` // why it had no effect; empty when accepted
	// Network and KeyID name the server key of a report, an adoption or a denial; a
	// report without a key is about the network's live one.
	Network string `json:"network,omitempty"`
	KeyID   string `json:"key_id,omitempty"`
	// Created is when an adopted key was made; absent: unknown. Probe is what the
	// platform said of it: agreed, refused, or empty when it was not asked.
	Created event.Instant `json:"created,omitempty"`
	Probe   string        `json:"probe,omitempty"`
	// Generation is the incident's generation that the person saw; another one now
	// makes the decision stale. Absent: whatever it is.
	Generation *int `json:"generation,omitempty"`
}

// Actions of a Decision.
const (
	ActionAck     = "ack"
	ActionClose   = "close"
	ActionSilence = "silence"
	ActionApprove = "approve"
	ActionDeny    = "deny"
	ActionStop    = "stop"
	ActionResume  = "resume"
	ActionChoose  = "choose"
	ActionStart   = "start" // a person asks for a playbook: Playbook run planned from an incident or by name

	ActionReportLeak = "report_leak" // a person knows that a key is in other hands
	ActionAdoptKey   = "adopt_key"   // a key that exists is one of ours
	ActionDenyKey    = "deny_key"    // a key that works is none of ours
)

// What the platform said of a key, in Decision.Probe and KeyChange.Probe.
const (
	ProbeAgreed  = "agreed"
	ProbeRefused = "refused"
)

// RunPlanned is a plan: what a run would do, bound by its hash. A run starts
// only when a Decision approves exactly this hash before ExpiresAt.
type RunPlanned struct {
	RunID       string        `json:"run_id"`
	Playbook    string        `json:"playbook"`
	IncidentID  string        `json:"incident_id,omitempty"`
	Network     string        `json:"network"`
	RequestedBy string        `json:"requested_by,omitempty"` // person, or empty for a proposal of ours
	Plan        Plan          `json:"plan"`
	PlanHash    string        `json:"plan_hash"`
	ExpiresAt   event.Instant `json:"expires_at"` // clock starts at the acknowledgement: see RESPONSE §3
	DryRun      bool          `json:"dry_run,omitempty"`
	// Approvals is how many different people have to approve.
	Approvals int `json:"approvals,omitempty"`
}

// Plan is the steps with their inputs filled in.
type Plan struct {
	Summary string            `json:"summary"`
	Inputs  map[string]string `json:"inputs"`
	Steps   []PlanStep        `json:"steps"`
	// Compensations are steps that run only when the run is backed out.
	Compensations []PlanStep `json:"compensations,omitempty"`
}

// PlanStep is one step of a plan. Calls says in words what it would do.
type PlanStep struct {
	ID         string            `json:"id"`
	Type       string            `json:"type"`
	Inputs     map[string]string `json:"inputs,omitempty"`
	Calls      []string          `json:"calls,omitempty"`
	Reversible bool              `json:"reversible"`
	TimeoutS   int64             `json:"timeout_seconds,omitempty"`
	// Attempts is how often the step is tried before it counts as failed, and
	// RetryS the pause between two tries in seconds.
	Attempts int     `json:"attempts,omitempty"`
	RetryS   float64 `json:"retry_seconds,omitempty"`
	// Precondition and Verification name checks of alert/playbook that hold
	// before and after the action.
	Precondition []string `json:"precondition,omitempty"`
	Verification []string `json:"verification,omitempty"`
	// Compensation names the compensations that undo the step, in order.
	Compensation []string `json:"compensation,omitempty"`
}

// RunState is a change of a run's state.
type RunState struct {
	RunID  string `json:"run_id"`
	State  string `json:"state"` // see alert/playbook
	Reason string `json:"reason,omitempty"`
	// Text is a sentence for the incident's thread.
	Text string `json:"text,omitempty"`
	// Clock carries "both keys valid 23 min, 3 hosts left" while it lasts.
	Clock string `json:"clock,omitempty"`
	// Ended: the run will do nothing more.
	Ended bool `json:"ended,omitempty"`
}

// Step is one action of a run: started is written before anything is done.
type Step struct {
	RunID   string            `json:"run_id"`
	StepID  string            `json:"step_id"`
	Attempt int               `json:"attempt"`
	State   string            `json:"state"` // started, done, failed, unknown, compensated, late (not acted on: accepted too late)
	Key     string            `json:"key"`   // idempotence key given to the outside
	Outputs map[string]string `json:"outputs,omitempty"`
	Error   string            `json:"error,omitempty"`
	Text    string            `json:"text,omitempty"` // a sentence for the thread
}

// Probe announces a request of our own before it is sent.
type Probe struct {
	RunID     string        `json:"run_id"`
	RequestID string        `json:"request_id"`
	KeyID     string        `json:"key_id"`
	Until     event.Instant `json:"until"`
}

// PostureRun is the last run of one posture check.
type PostureRun struct {
	Check    string          `json:"check"`
	Due      event.Instant   `json:"due"`
	Status   string          `json:"status"` // pass, fail, warn, unknown
	Findings []string        `json:"findings,omitempty"`
	Results  json.RawMessage `json:"results,omitempty"`
}

// ConfigChange records a reload.
type ConfigChange struct {
	What   string `json:"what"` // rules, config
	Hash   string `json:"hash,omitempty"`
	Result string `json:"result"` // applied, refused
	Detail string `json:"detail,omitempty"`
}

// KeyChange is a fact about a server key that our own runs or a person produced
// and that detection takes as trusted: created, activated, revoked, adopted, denied.
type KeyChange struct {
	Network string        `json:"network"`
	KeyID   string        `json:"key_id"`
	State   string        `json:"state"` // created, active, retired, revoked, adopted, denied
	At      event.Instant `json:"at"`
	RunID   string        `json:"run_id,omitempty"`
	// Person adopted or denied the key. Of an adopted one, Created is absent when
	// nobody knows it, and Probe is empty when the platform was not asked: such an
	// entry is listed and believed by nobody.
	Person  string        `json:"person,omitempty"`
	Created event.Instant `json:"created,omitempty"`
	Probe   string        `json:"probe,omitempty"`
}

// States of a KeyChange that only a person tells.
const (
	KeyAdopted = "adopted"
	KeyDenied  = "denied"
)
