// Package memory is what rules know that reaches farther back than events are
// replayed, in pieces: a value between the correlator that learns it and the
// store that keeps it. It does no input or output.
package memory

import (
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/season"
	"github.com/keysentry/keysentry/event"
)

// Piece is what a first_seen or rate_anomaly rule knows of one group: one value,
// or the season.
type Piece struct {
	// RuleID and RuleHash are of the rule as it fires: one whose logic was edited
	// has another memory.
	RuleID, RuleHash string
	Group            []finding.Pair // in any order
	// Value of first_seen, and when it was first and last seen. Of a season Last is
	// the group's last event.
	Value       string
	First, Last event.Instant
	// Season of rate_anomaly; nil for a value.
	Season *season.State
}
