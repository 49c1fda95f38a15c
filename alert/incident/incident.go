// Package incident folds the journal into incidents: who is affected, how bad
// it is, what was done and by whom, which runs belong to it, and which messages
// about it are out. It is pure: the state is a function of the records alone,
// so every member that has read the same records knows the same incidents.
package incident

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/suspicion"
	"github.com/keysentry/keysentry/event"
)

// State is where an incident stands.
type State string

// The states, in the order of an ordinary life.
const (
	Open         State = "open"
	Acknowledged State = "acknowledged"
	Mitigating   State = "mitigating"
	Resolved     State = "resolved"
	Closed       State = "closed"
)

// States lists the states in order.
func States() []State { return []State{Open, Acknowledged, Mitigating, Resolved, Closed} }

// Active reports whether somebody still has to do or watch something.
func (s State) Active() bool { return s == Open || s == Acknowledged || s == Mitigating }

// Operations of a journal.IncidentChange.
const (
	OpOpen      = "open"      // a new incident with its first finding
	OpJoin      = "join"      // one more finding
	OpDropped   = "dropped"   // Count findings were counted and not kept
	OpReopen    = "reopen"    // a finding came after it was resolved or closed
	OpMitigate  = "mitigate"  // something is being done
	OpResolve   = "resolve"   // quiet for long enough
	OpEscalate  = "escalate"  // nobody acknowledged, or two people denied
	OpUnsilence = "unsilence" // a silence ended or was broken
	OpNote      = "note"      // a remark for the thread
)

// Many is the value of the subject of an incident that gathers findings about
// more subjects than are worth one incident each.
const Many = "*"

// Bounds of what is kept; all counts go on beyond them.
const (
	MaxTimeline  = 300
	MaxAffected  = 50
	MaxRules     = 50
	MaxNotices   = 40
	MaxIncidents = 10_000
	MaxRuns      = 2_000
	maxLinks     = 200_000
	maxDecisions = 20_000
)

// Incident is what is known about one subject.
type Incident struct {
	ID          string           `json:"id"`
	Fingerprint string           `json:"fingerprint"`
	Kind        finding.Kind     `json:"kind"`
	Subject     finding.Subject  `json:"subject"`
	Severity    finding.Severity `json:"severity"` // the highest of its findings; page once the gate is met
	State       State            `json:"state"`
	// Generation counts reopenings: a button of an earlier life is stale.
	Generation int `json:"generation"`

	OpenedAt   event.Instant `json:"opened_at"`
	ReopenedAt event.Instant `json:"reopened_at,omitempty"`
	LastAt     event.Instant `json:"last_at"` // journal time of the last finding, kept or only counted
	AckedAt    event.Instant `json:"acked_at,omitempty"`
	AckedBy    string        `json:"acked_by,omitempty"`
	ResolvedAt event.Instant `json:"resolved_at,omitempty"`
	ClosedAt   event.Instant `json:"closed_at,omitempty"`
	ClosedBy   string        `json:"closed_by,omitempty"`
	Verdict    string        `json:"verdict,omitempty"`

	SilencedUntil event.Instant `json:"silenced_until,omitempty"`
	SilencedBy    string        `json:"silenced_by,omitempty"`
	Held          uint64        `json:"held,omitempty"` // findings that came during the silence
	Escalated     bool          `json:"escalated,omitempty"`
	Denials       int           `json:"denials,omitempty"`

	// Suspicion is what the findings about a key add up to; nil for other incidents.
	// Read from the Set it is as of the newest finding. It is never changed in place.
	Suspicion *suspicion.Assessment `json:"suspicion,omitempty"`
	// GateMetAt is when the evidence first sufficed to propose a rotation; 0: not yet.
	GateMetAt event.Instant `json:"gate_met_at,omitempty"`

	Findings uint64     `json:"findings"` // findings folded in, dropped ones not
	Events   uint64     `json:"events"`   // events behind them
	Dropped  uint64     `json:"dropped,omitempty"`
	Rules    []Rule     `json:"rules"`
	Affected []Affected `json:"affected,omitempty"`
	// Lead is the finding that says most: the most severe, the earliest of those.
	Lead     finding.Finding `json:"lead"`
	Timeline []Entry         `json:"timeline"`
	Runs     []string        `json:"runs,omitempty"`
	// Roots are the messages about this incident, one per channel; replies go to
	// the last.
	Roots []Thread `json:"roots,omitempty"`
}

// Rule counts the findings of one rule.
type Rule struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Count uint64 `json:"count"`
}

// Affected is who or what the evidence names, per field.
type Affected struct {
	Field  string   `json:"field"`
	Values []string `json:"values"`         // at most MaxAffected, in order of appearance
	More   bool     `json:"more,omitempty"` // there were others
}

// Entry is one line of the timeline.
type Entry struct {
	N    int64         `json:"n"` // the journal record
	Time event.Instant `json:"time"`
	What string        `json:"what"`           // our own words
	Who  string        `json:"who,omitempty"`  // a person
	Text string        `json:"text,omitempty"` // words of others: a reason, a playbook's sentence
}

// Thread is a message in a channel.
type Thread struct {
	MessageID string `json:"message_id"`
	Channel   string `json:"channel"`
	TS        string `json:"ts"`
}

// Thread is where replies go: the last root.
func (i *Incident) Thread() (Thread, bool) {
	if len(i.Roots) == 0 {
		return Thread{}, false
	}
	return i.Roots[len(i.Roots)-1], true
}

// Root is the root message in a channel.
func (i *Incident) Root(channel string) (Thread, bool) {
	for _, r := range i.Roots {
		if r.Channel == channel {
			return r, true
		}
	}
	return Thread{}, false
}

// Silenced reports whether a silence holds at t.
func (i *Incident) Silenced(t event.Instant) bool { return i.SilencedUntil != 0 && t < i.SilencedUntil }

// HasRule reports whether a rule has contributed already.
func (i *Incident) HasRule(id string) bool {
	return slices.ContainsFunc(i.Rules, func(r Rule) bool { return r.ID == id })
}

// AboutKey reports whether the incident says that a server key is in other hands, so
// that a rotation is proposed only on evidence that suffices.
func (i *Incident) AboutKey() bool {
	return i.Kind == finding.KeyCompromise || i.Kind == finding.SecretLeak
}

// Clone shares no memory that changes with i.
func (i *Incident) Clone() Incident {
	c := *i
	c.Rules = slices.Clone(i.Rules)
	c.Affected = slices.Clone(i.Affected)
	for k := range c.Affected {
		c.Affected[k].Values = slices.Clone(c.Affected[k].Values)
	}
	c.Timeline = slices.Clone(i.Timeline)
	c.Runs = slices.Clone(i.Runs)
	c.Roots = slices.Clone(i.Roots)
	return c
}

// Run is one execution of a playbook, as far as people are concerned.
type Run struct {
	ID          string       `json:"id"`
	Playbook    string       `json:"playbook"`
	IncidentID  string       `json:"incident_id,omitempty"`
	Network     string       `json:"network"`
	RequestedBy string       `json:"requested_by,omitempty"`
	Plan        journal.Plan `json:"plan"`
	PlanHash    string       `json:"plan_hash"`
	DryRun      bool         `json:"dry_run,omitempty"`
	// Approvals is how many different people have to approve; with two or more,
	// who requested the run is none of them.
	Approvals int `json:"approvals"`

	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	Clock  string `json:"clock,omitempty"`
	Ended  bool   `json:"ended,omitempty"`

	PlannedAt event.Instant `json:"planned_at"`
	ExpiresAt event.Instant `json:"expires_at,omitempty"`
	// ApprovedAt is when the last approval that was needed came.
	ApprovedAt event.Instant `json:"approved_at,omitempty"`
	ApprovedBy []string      `json:"approved_by,omitempty"`
	DeniedBy   string        `json:"denied_by,omitempty"`
	// StoppedBy is who pulled the kill switch, until somebody resumes.
	StoppedBy string `json:"stopped_by,omitempty"`
	// Extended: the overlap was extended, which happens once.
	Extended  bool          `json:"extended,omitempty"`
	ChangedAt event.Instant `json:"changed_at"`
	Steps     []RunStep     `json:"steps,omitempty"`
}

// RunStep is the last known state of one step of a run.
type RunStep struct {
	ID      string        `json:"id"`
	Attempt int           `json:"attempt"`
	State   string        `json:"state"`
	Error   string        `json:"error,omitempty"`
	At      event.Instant `json:"at"`
}

// Waiting reports whether the run waits for somebody's decision about its plan.
func (r *Run) Waiting() bool {
	return !r.Ended && !r.DryRun && r.ApprovedAt == 0 && r.DeniedBy == ""
}

// Acting reports whether the run has been approved and is not over: what it
// does may be what detection sees.
func (r *Run) Acting() bool { return !r.Ended && !r.DryRun && r.ApprovedAt != 0 }

// Clone shares no memory that changes with r.
func (r *Run) Clone() Run {
	c := *r
	c.Steps = slices.Clone(r.Steps)
	c.ApprovedBy = slices.Clone(r.ApprovedBy)
	return c
}

// Fingerprint is what makes findings one incident: the kind and the subject.
func Fingerprint(k finding.Kind, s finding.Subject) string {
	h := sha256.New()
	for _, part := range []string{string(k), s.Network, s.Field, s.Value} {
		fmt.Fprintf(h, "%d:%s|", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// MakeID names the incident that a finding opens; the same finding always opens
// the same incident.
func MakeID(fingerprint, findingID string) string {
	h := sha256.Sum256([]byte(fingerprint + "|" + findingID))
	return "inc-" + hex.EncodeToString(h[:5])
}
