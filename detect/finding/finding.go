// Package finding is the judgement that detection hands to alerting: what
// fired, about whom, how bad, and the evidence. It is a value: it does no input
// or output and knows neither rules nor incidents.
package finding

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/keysentry/keysentry/event"
)

// Severity says what a finding asks of a person.
type Severity uint8

// The severities, in rising order.
const (
	Digest Severity = iota // read it in the daily digest
	Ticket                 // look at it the next working day
	Page                   // wake someone now
)

var severityNames = [...]string{"digest", "ticket", "page"}

func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a name.
func (s *Severity) UnmarshalText(b []byte) error {
	for i, n := range severityNames {
		if n == string(b) {
			*s = Severity(i)
			return nil
		}
	}
	return fmt.Errorf("unknown severity %q: use page, ticket or digest", b)
}

// Kind is the kind of incident that a finding belongs to.
type Kind string

// The kinds.
const (
	KeyCompromise Kind = "key_compromise"
	KeyStraggler  Kind = "key_straggler"
	ClockSkew     Kind = "clock_skew"
	MTLS          Kind = "mtls"
	SecretLeak    Kind = "secret_leak"
	Posture       Kind = "posture"
	DataGap       Kind = "data_gap"
	Other         Kind = "other"
)

// Kinds lists the kinds, in the order of the documentation.
func Kinds() []Kind {
	return []Kind{KeyCompromise, KeyStraggler, ClockSkew, MTLS, SecretLeak, Posture, DataGap, Other}
}

// Subject is what a finding is about: a field of the event and its value, in
// one network. Findings about one subject fold into one incident.
type Subject struct {
	Network string `json:"network,omitempty"`
	Field   string `json:"field"` // key_id, host, cert_id, user_id, source_ip, topic, ...
	Value   string `json:"value"`
}

// Pair is one entry of a correlation's group.
type Pair struct {
	Field string `json:"field"`
	Value string `json:"value"`
}

// Finding is one judgement with its evidence.
type Finding struct {
	// ID is MakeID of the rule, the group and the episode's first event.
	ID string `json:"id"`

	RuleID    string   `json:"rule_id"`
	RuleName  string   `json:"rule_name,omitempty"`
	RuleTitle string   `json:"rule_title"`
	Level     string   `json:"level,omitempty"` // Sigma level
	Kind      Kind     `json:"kind"`
	Severity  Severity `json:"severity"`
	Shadow    bool     `json:"shadow,omitempty"`

	Subject Subject `json:"subject"`
	Group   []Pair  `json:"group,omitempty"`

	// First and Last are the effective times of the episode's first and, so
	// far, last satisfying event; Fired is the effective time at which it fired.
	First event.Instant `json:"first"`
	Last  event.Instant `json:"last"`
	Fired event.Instant `json:"fired"`
	// Window is the rule's timespan in nanoseconds; 0 for a single event.
	Window int64 `json:"window,omitempty"`

	Count uint64  `json:"count"`           // satisfying events so far
	Value float64 `json:"value,omitempty"` // what the condition compared
	// Threshold is the condition in words, as "gte 50" or ">= 2 %".
	Threshold   string `json:"threshold,omitempty"`
	Approximate bool   `json:"approximate,omitempty"`

	// Risk is the finding's weight as evidence about a server key; nil for none.
	Risk *Risk `json:"risk,omitempty"`

	Cause           event.Cause `json:"cause,omitempty"`
	CauseConfidence float32     `json:"cause_confidence,omitempty"`

	// Coverage is the share, 0 to 1, of the numbered events of the finding's
	// network and time that had been seen when it fired; nil when it is not known.
	Coverage *float64 `json:"coverage,omitempty"`

	// Summary is one sentence in plain text; values from events appear in it
	// only through Facts, so that a renderer can escape them.
	Summary    string   `json:"summary"`
	Resolution string   `json:"resolution,omitempty"`
	Playbook   string   `json:"playbook,omitempty"`
	Tags       []string `json:"tags,omitempty"`

	// Facts are named values worth showing; untrusted text.
	Facts []Pair `json:"facts,omitempty"`
	// Evidence holds at most MaxEvidence events.
	Evidence []Evidence `json:"evidence,omitempty"`
	// Series is the count per bucket that led here, for a chart; may be empty.
	Series Series `json:"series,omitzero"`
}

// MaxEvidence bounds Finding.Evidence.
const MaxEvidence = 20

// RuleUndeclaredRotation is the id of the finding about a key that nobody told of and
// that works on hosts of ours. A person who adopts or denies the key settles it.
const RuleUndeclaredRotation = "detect.undeclared_rotation"

// Families of evidence that a server key is in other hands. Signals of one family
// may have one innocent reason; two families seldom do.
const (
	Possession = "possession" // somebody has the key, or what it made
	Place      = "place"      // it is used from where it should not be
	Volume     = "volume"     // more, or for more users, than its season knows
	Sequence   = "sequence"   // what should have come before or after did not
	Lifecycle  = "lifecycle"  // keys, certificates or settings changed in an odd way
)

// Risk is what a finding says about a server key being in other hands.
type Risk struct {
	Family string `json:"family,omitempty"`
	// Score is the weight of the finding in log-odds, in natural-log units; 0 when it
	// rests on refused requests alone, which show only what the caller lacks.
	Score float64 `json:"score"`
	// Fact is set for what nobody outside can cause; it decides by itself.
	Fact Fact `json:"fact,omitempty"`
}

// Fact is one of the few things that prove a leak without a second signal.
type Fact string

// The facts.
const (
	ValueSeen    Fact = "value_seen"    // the live key's value stood in a field of an event
	PersonReport Fact = "person_report" // a person says so
)

// Evidence is one event of a finding, reduced to what a person needs.
type Evidence struct {
	Ref      event.Ref     `json:"ref"`
	TS       event.Instant `json:"ts"`
	Type     event.Type    `json:"type"`
	Cause    event.Cause   `json:"cause,omitempty"`
	Status   uint16        `json:"status,omitempty"`
	Network  string        `json:"network,omitempty"`
	Host     string        `json:"host,omitempty"`
	UserID   string        `json:"user_id,omitempty"`
	KeyID    string        `json:"key_id,omitempty"`
	SourceIP string        `json:"source_ip,omitempty"`
	Endpoint string        `json:"endpoint,omitempty"`
	Reason   string        `json:"reason,omitempty"`
}

// FromEvent reduces e; the result shares no memory with e's batch.
func FromEvent(e *event.Event) Evidence {
	c := e.Clone()
	ev := Evidence{Ref: c.Ref, TS: c.TS, Type: c.Type, Cause: c.Cause, Status: c.Status, Network: c.Network,
		Host: c.Host, UserID: c.UserID, KeyID: c.KeyID, Endpoint: c.Endpoint, Reason: c.Reason}
	if c.SourceIP.IsValid() {
		ev.SourceIP = c.SourceIP.String()
	}
	return ev
}

// Series is a count per bucket of time.
type Series struct {
	Start  event.Instant `json:"start,omitempty"`
	Bucket int64         `json:"bucket,omitempty"` // nanoseconds
	Counts []float64     `json:"counts,omitempty"`
}

// MakeID is the identity of a finding: the same rule, group and episode give the
// same id, so that a finding journaled twice is one finding. It is 32 hex
// digits.
func MakeID(ruleID string, group []Pair, episode event.Instant) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(ruleID), ruleID)
	for _, p := range group {
		fmt.Fprintf(h, "|%d:%s=%d:%s", len(p.Field), p.Field, len(p.Value), p.Value)
	}
	fmt.Fprintf(h, "|%d", int64(episode))
	return hex.EncodeToString(h.Sum(nil)[:16])
}
