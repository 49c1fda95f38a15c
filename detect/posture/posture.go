// Package posture watches facts that go bad by ageing: the age of keys, the
// lead of certificates. Checks run on cron schedules in UTC; what they find
// becomes rows of a scorecard and, where a target is missed, findings.
//
// A check that could not see everything says unknown, never pass. The last run
// of each check is remembered by the caller's History, and a run that fell into
// a time when the daemon was down is made up for once at start.
package posture

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Status is the verdict on one subject, or on a whole check.
type Status string

// The statuses, from good to bad.
const (
	Pass    Status = "pass"
	Unknown Status = "unknown"
	Warn    Status = "warn"
	Fail    Status = "fail"
)

// Check looks at one metric.
type Check interface {
	// Name is the check's identity, as in the configuration: key_age.
	Name() string
	// Title and Target are for people: "Server key age", "< 365 days".
	Title() string
	Target() string
	// Run judges every subject as of now. No result means that there was nothing
	// to judge, which is unknown. An error is unknown too, and is told.
	Run(ctx context.Context, now time.Time) ([]Result, error)
}

// Result is the verdict on one subject.
type Result struct {
	Subject finding.Subject `json:"subject"`
	Status  Status          `json:"status"`
	// Value is what was measured, for people: "312 days".
	Value string `json:"value"`
	// Severity of the finding; only when Status is not pass.
	Severity finding.Severity `json:"severity"`
	// Stage names the threshold that was crossed: each stage is a finding of its
	// own, and the same stage of the same subject stays one finding.
	Stage string `json:"stage,omitempty"`
	// Since identifies the subject's present life, as the creation of a key does:
	// it keeps the next key's finding apart from this one's.
	Since      event.Instant  `json:"since,omitzero"`
	Summary    string         `json:"summary,omitempty"`
	Resolution string         `json:"resolution,omitempty"`
	Playbook   string         `json:"playbook,omitempty"`
	Facts      []finding.Pair `json:"facts,omitempty"`
	// Query is SQL that shows what the verdict rests on; empty when events do not.
	Query string `json:"query,omitempty"`
}

// ServerKey is one row of the registry of keys.
type ServerKey struct {
	Network, KeyID string
	State          string        // created, active, retired, revoked
	Created        event.Instant // zero: unknown
}

// Certificate is one row of the registry of client certificates.
type Certificate struct {
	Network, CertID, CN string
	State               string // requested, issued, active, disabled
	NotBefore, NotAfter event.Instant
}

// Registry gives the checks their rows; the store and the detection engine are
// behind it.
type Registry interface {
	ServerKeys(ctx context.Context) ([]ServerKey, error)
	Certificates(ctx context.Context) ([]Certificate, error)
}

// History remembers runs. Record is durable when it returns; findings that were
// recorded before are recorded again under the same id.
type History interface {
	// LastRun is the due time of the check's last recorded run.
	LastRun(check string) (event.Instant, bool)
	Record(ctx context.Context, run journal.PostureRun, findings []finding.Finding) error
}

// Coverage tells how much of what was sent is held; where something is missing a
// pass becomes unknown.
type Coverage interface {
	Coverage(ctx context.Context, now time.Time) (Held, error)
}

// Held is what is held of the last CoverageSpan.
type Held struct {
	// Networks whose hosts number their events; of others nothing is known.
	Networks []NetworkCoverage `json:"networks,omitempty"`
	// Lost names ranges of Kafka's offsets that were never stored, and why.
	Lost []string `json:"lost,omitempty"`
	// Blind are networks with the rules that see nothing of them.
	Blind []BlindNetwork `json:"blind,omitempty"`
	// BlindError says why that is not known.
	BlindError string `json:"blind_error,omitempty"`
}

// BlindNetwork is a network with the rules that see nothing of it, each with why.
type BlindNetwork struct {
	Network string   `json:"network"`
	Rules   []string `json:"rules"`
}

// CoverageSpan is how far back coverage is looked at.
const CoverageSpan = 24 * time.Hour

// NetworkCoverage is what is held of the events that the hosts of a network
// numbered.
type NetworkCoverage struct {
	Network  string `json:"network"`
	Expected uint64 `json:"expected"`
	Held     uint64 `json:"held"`
	// Silent hosts sent heartbeats, did not stop, and are not heard of any more.
	Silent []string `json:"silent,omitempty"`
}

// Partial reports whether something is known to be missing.
func (n NetworkCoverage) Partial() bool { return n.Held < n.Expected || len(n.Silent) > 0 }

// String says it in words.
func (n NetworkCoverage) String() string {
	out := "no numbered events"
	if n.Expected > 0 {
		share := 100 * float64(n.Held) / float64(n.Expected)
		out = fmt.Sprintf("all %d events are there", n.Expected)
		if n.Held < n.Expected {
			out = fmt.Sprintf("only %.1f %% of the data is there (%d of %d events)", min(share, 99.9), n.Held, n.Expected)
		}
	}
	if k := len(n.Silent); k > 0 {
		out += ", silent: " + strings.Join(n.Silent[:min(k, maxSilent)], ", ")
		if k > maxSilent {
			out += fmt.Sprintf(" and %d more", k-maxSilent)
		}
	}
	return out
}

// maxSilent and maxLost bound what a line names.
const maxSilent, maxLost = 5, 3

// missing says what is missing of the networks, the empty one standing for all of
// them; empty when nothing is known to be.
func (h Held) missing(networks []string) []string {
	var out []string
	every := slices.Contains(networks, "")
	for _, n := range h.Networks {
		if n.Partial() && (every || slices.Contains(networks, n.Network)) {
			out = append(out, "network "+n.Network+": "+n.String())
		}
	}
	if k := len(h.Lost); k > 0 {
		text := "not stored: " + strings.Join(h.Lost[:min(k, maxLost)], ", ")
		if k > maxLost {
			text += fmt.Sprintf(" and %d more", k-maxLost)
		}
		out = append(out, text)
	}
	return out
}
