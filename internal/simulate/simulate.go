// Package simulate makes audit events of a network that does not exist: ordinary
// days and named scenarios, with labels that say which event was the first
// hostile one. The same options give the same events, byte for byte; there is
// no clock and no I/O here.
package simulate

import (
	"errors"
	"time"

	"github.com/keysentry/keysentry/event"
)

// Options says what to generate.
type Options struct {
	Scenario string // see Scenarios
	Seed     uint64
	Network  string    // default "demo"
	Start    time.Time // default 2026-01-05T00:00:00Z, a Monday
	Duration time.Duration
	// Rate is the mean number of events per second, over all hosts.
	Rate float64
	// Hosts and Users size the network; 0: 20 hosts, 10,000 users.
	Hosts, Users int
	Visibility   Visibility
	Scripts      []*Script
	// FingerprintKey is the key of key fingerprints; default: a fixed one.
	FingerprintKey []byte
}

// Label is the ground truth about a scenario, one per incident.
type Label struct {
	Scenario string `json:"scenario"`
	// Kind is the incident kind that should come of it, or "none".
	Kind string `json:"kind"`
	// Subject is the field and value that it is about.
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
	// FirstID and First name the first hostile event; Hostile counts them all.
	FirstID string        `json:"first_id,omitempty"`
	First   event.Instant `json:"first,omitempty"`
	Hostile int           `json:"hostile"`
	// Cause is what refused hostile events should be diagnosed as.
	Cause event.Cause `json:"cause,omitempty"`
	Theft bool
	Index int
}

// ErrScenario is wrapped by Generate when it does not know the scenario.
var ErrScenario = errors.New("unknown scenario")

// Scenario is one entry of Scenarios.
type Scenario struct{ Name, About string }

// Generate calls emit for every event, in the order of time, and label for every
// incident, at the end. The event is only valid during the call. It stops at
// the first error of either.
func Generate(opt Options, emit func(*event.Event, Truth) error, label func(Label) error) error {
	return generate(opt, func(e *event.Event) error { e.ObservedAt = e.Time; return emit(e, Truth{Attack: -1}) }, label)
}
