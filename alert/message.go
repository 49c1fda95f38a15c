package alert

import (
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Message is what people are to see, as data: a notifier decides how it looks.
// Fields called Value, Text of a Line, SQL and the cells of Facts may hold
// anything that an attacker can write into an event: they must be shown as
// literal text. All other strings are words of the product or of its rules.
type Message struct {
	// ID is ours; a notifier keeps it with the message, for Lookup.
	ID         string           `json:"id"`
	IncidentID string           `json:"incident_id"`
	Channel    string           `json:"channel"`
	Thread     string           `json:"thread,omitempty"` // ts of the root, for replies
	Broadcast  bool             `json:"broadcast,omitempty"`
	Since      event.Instant    `json:"since"` // the message cannot be older
	Severity   finding.Severity `json:"severity"`

	Title    string   `json:"title"`              // kind and state
	Sentence string   `json:"sentence,omitempty"` // what happened, in one sentence
	Facts    []Fact   `json:"facts,omitempty"`
	Plan     *PlanBox `json:"plan,omitempty"`
	Lines    []Line   `json:"lines,omitempty"` // what a reply tells

	Resolution string         `json:"resolution,omitempty"`
	SQL        string         `json:"sql,omitempty"`
	Link       string         `json:"link,omitempty"` // to the console
	Buttons    []Button       `json:"buttons,omitempty"`
	Series     finding.Series `json:"series,omitzero"`
}

// Fact is a named value. Label is ours, Values are not.
type Fact struct {
	Label  string   `json:"label"`
	Values []string `json:"values"`
	Note   string   `json:"note,omitempty"` // ours, after the values
}

// Line is one sentence of a reply: when, our words, and the words of others.
type Line struct {
	Time event.Instant `json:"time"`
	What string        `json:"what"`
	Who  string        `json:"who,omitempty"`
	Text string        `json:"text,omitempty"`
}

// PlanBox shows a plan that waits for a decision, or the run that came of it.
type PlanBox struct {
	RunID    string   `json:"run_id"`
	Playbook string   `json:"playbook"`
	Summary  string   `json:"summary"`
	Steps    []string `json:"steps,omitempty"`
	Status   string   `json:"status"` // ours: what is waited for, until when
	Clock    string   `json:"clock,omitempty"`
}

// Button is something a person can do. Pressing it is a decision.
type Button struct {
	Action     string `json:"action"` // journal.Action...
	Label      string `json:"label"`
	Style      string `json:"style,omitempty"` // primary, danger
	IncidentID string `json:"incident_id,omitempty"`
	Generation int    `json:"generation,omitempty"`
	RunID      string `json:"run_id,omitempty"`
	PlanHash   string `json:"plan_hash,omitempty"`
	Verdict    string `json:"verdict,omitempty"`
	Choice     string `json:"choice,omitempty"`
	// NeedsReason: the person is asked for a reason before the decision is taken.
	NeedsReason bool `json:"needs_reason,omitempty"`
}
