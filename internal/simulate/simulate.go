// Package simulate makes the audit events of a network that does not exist: its
// services, hosts, users and administrators, their ordinary days, and scenarios
// that are played on top, with labels that say which event was the first hostile
// one. The same options give the same events, byte for byte; there is no clock
// and no I/O here, and only what is under way is kept in memory.
package simulate

import (
	"errors"
	"time"

	"github.com/keysentry/keysentry/event"
)

// Visibility is the choice of what a customer gets to see.
type Visibility string

// The values of Visibility.
const (
	// VisibilityPlatform is everything: also what a gateway in front of all calls to
	// the platform, or an export of the platform, and the console tell.
	VisibilityPlatform Visibility = "platform"
	// VisibilityBackend is what the customer's own backends and clients tell, and
	// Keysentry's own runs.
	VisibilityBackend Visibility = "backend"
)

// Visibilities lists them.
func Visibilities() []Visibility { return []Visibility{VisibilityPlatform, VisibilityBackend} }

// Options says what to generate.
type Options struct {
	// Scenario and Scenarios name what is played on top of ordinary life: names
	// of Scenarios or of Scripts, each with an optional moment, as key-theft@36h
	// or key-theft@40%. With neither there is ordinary life only.
	Scenario  string
	Scenarios []string
	// Scripts are played too, each once.
	Scripts []*Script

	Seed     uint64
	Network  string    // default "demo"
	Start    time.Time // default 2026-01-05T00:00:00Z, a Monday
	Duration time.Duration
	// Rate is the mean number of events per second of ordinary life, over all
	// hosts.
	Rate float64
	// Hosts and Users size the network; 0: 20 hosts, 10,000 users.
	Hosts, Users int
	// Heartbeat is how often each host speaks up; default 2 min.
	Heartbeat time.Duration
	// Visibility is VisibilityPlatform when empty.
	Visibility Visibility
	// Calendar plays what happens in a month beside the daily round: deploys, pods
	// that are replaced, administrators, a rotation, a sweep of sessions, a
	// marketing peak, and all that goes wrong. Without it there are logins,
	// heartbeats and phones that slept, told in few fields.
	Calendar bool
	// FingerprintKey is the key of key fingerprints; default: a fixed one.
	FingerprintKey []byte
}

// Truth is what is true of one event.
type Truth struct {
	// Attack is the Index of the label of the attack that the event belongs to; -1
	// for ordinary events.
	Attack int `json:"attack"`
	// Cause is why a refused event was refused, CauseNone for others.
	Cause event.Cause `json:"cause,omitempty"`
	// LookAlike names what the event belongs to of those ordinary things that
	// look like an attack; empty for all else.
	LookAlike string `json:"look_alike,omitempty"`
}

// The look-alikes.
const (
	LookAlikeDeploy   = "deploy"
	LookAlikeRotation = "rotation"
	LookAlikeSweep    = "sweep"
	LookAlikeStorm    = "retry_storm"
	LookAlikePeak     = "marketing_peak"
	LookAlikeNAT      = "carrier_nat"
	LookAlikeJob      = "nightly_job"
	LookAlikeSleeper  = "sleeping_phone"
	LookAlikeClock    = "clock_drift"
	LookAlikeCert     = "certificate"
	LookAlikeRelease  = "bad_release"
	LookAlikeKey      = "staging_key"
	LookAlikeRegion   = "wrong_region"
	LookAlikeDevice   = "shared_device"
)

// Label is the ground truth about a scenario, one per incident.
type Label struct {
	// Index is what Truth.Attack holds for its events.
	Index    int    `json:"index"`
	Scenario string `json:"scenario"`
	// Kind is the incident kind that should come of it, or "none".
	Kind string `json:"kind"`
	// Subject is the field and value that it is about.
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
	// FirstID and First name the first visible hostile event, in order of arrival;
	// First is when it truly happened, Hostile counts them all. An attack of which nothing is
	// visible has none.
	FirstID string        `json:"first_id,omitempty"`
	First   event.Instant `json:"first,omitempty"`
	Hostile int           `json:"hostile"`
	// Began is when the scenario began, whether it was seen or not.
	Began event.Instant `json:"began,omitempty"`
	// Cause is what refused hostile events should be diagnosed as.
	Cause event.Cause `json:"cause,omitempty"`
	// Theft says that somebody else holds the live server key, or can make one: a
	// rotation should be proposed.
	Theft bool `json:"theft,omitempty"`
}

// ErrScenario is wrapped by Generate when it does not know the scenario.
var ErrScenario = errors.New("unknown scenario")

// Ordinary is the scenario in which nothing is wrong.
const Ordinary = "ordinary"

// Scenario is one entry of Scenarios.
type Scenario struct{ Name, About string }

// Generate calls emit for every event, in the order of arrival, and label for
// every scenario, at the end; of ordinary life alone there is one label of kind
// "none". Of an event, ObservedAt is when the broker appended it, Time and SentAt
// are the clock of the host that tells it. The event is only valid during the
// call. It stops at the first error of either.
func Generate(opt Options, emit func(*event.Event, Truth) error, label func(Label) error) error {
	if emit == nil {
		return errors.New("simulate: nobody takes the events")
	}
	g, err := newGenerator(opt)
	if err != nil {
		return err
	}
	g.emit = emit
	g.live()
	g.playAll()
	if err := g.run(); err != nil {
		return err
	}
	if label == nil {
		return nil
	}
	if len(g.labels) == 0 {
		return label(Label{Index: -1, Scenario: Ordinary, Kind: "none"})
	}
	for _, l := range g.labels {
		if err := label(l); err != nil {
			return err
		}
	}
	return nil
}
