// Package journal is the format of the append-only record of incidents,
// approvals and steps: records, their hash chain and HMAC, and the bodies that
// the parts of the product write and fold. It does no input or output;
// alert/journal/kafka keeps the records in a Kafka topic.
//
// Acceptance: a record is part of the history only if its Prev is the hash of
// the last accepted record and its MAC is right. Of two writers, or of two
// copies of one retried produce, the first offset wins; the rest are strays.
package journal

import (
	"encoding/json"

	"github.com/keysentry/keysentry/event"
)

// Entry is what a component wants recorded.
type Entry struct {
	Kind Kind
	Time event.Instant
	Body any // one of the body types of this package; encoded as JSON
}

// Record is one accepted record.
type Record struct {
	// N counts accepted records from 1.
	N int64 `json:"n"`
	// Epoch is the offset of the leader's took_over record; a took_over record
	// itself carries 0, because it cannot know its own offset.
	Epoch int64           `json:"epoch"`
	Time  event.Instant   `json:"time"`
	Kind  Kind            `json:"kind"`
	Body  json.RawMessage `json:"body"`
	Prev  string          `json:"prev"` // hex SHA-256 of the record before; empty for the first
	Hash  string          `json:"hash"` // hex SHA-256 of everything above
	MAC   string          `json:"mac"`  // hex HMAC-SHA-256 of Hash with the daemons' key

	// Offset is where the record lies in the topic; it is not part of the hash.
	Offset int64 `json:"-"`
}

// Kind names the body of a record.
type Kind string

// The kinds, each with its body type.
const (
	KindTookOver    Kind = "took_over"    // TookOver
	KindFinding     Kind = "finding"      // finding.Finding
	KindEpisode     Kind = "episode"      // Episode
	KindIncident    Kind = "incident"     // IncidentChange
	KindOutbox      Kind = "outbox"       // Outbox
	KindDecision    Kind = "decision"     // Decision
	KindRunPlanned  Kind = "run_planned"  // RunPlanned
	KindRunState    Kind = "run_state"    // RunState
	KindStep        Kind = "step"         // Step
	KindProbe       Kind = "probe"        // Probe
	KindPosture     Kind = "posture"      // PostureRun
	KindConfig      Kind = "config"       // ConfigChange
	KindKeyObserved Kind = "key_observed" // KeyChange
)
