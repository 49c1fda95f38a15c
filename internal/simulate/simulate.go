// Package simulate makes audit events of a network that does not exist: services on
// hosts that come and go, clocks that drift, a million users with phones and homes,
// administrators, the calendar of a month, and attacks, with the truth about each
// event beside it. The same options give the same events, byte for byte; there is
// no clock and no I/O here.
//
// Events come in the order in which the broker would append them: ObservedAt is that
// time, Time what the host's own clock said when it happened.
package simulate

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/keysentry/keysentry/event"
)

// Options says what to generate.
type Options struct {
	// Scenario names one of Scenarios; with Scripts it is not looked at.
	Scenario string
	// Scripts are played on top of ordinary life, each at a time of its own.
	Scripts  []*Script
	Seed     uint64
	Network  string    // default "demo"
	Start    time.Time // default 2026-01-05T00:00:00Z, a Monday
	Duration time.Duration
	// Rate is the mean number of events per second, over all hosts.
	Rate float64
	// Hosts and Users size the network; 0: 20 hosts, 10,000 users.
	Hosts, Users int
	// Heartbeat is how often each host speaks up; 0: every 30 s.
	Heartbeat time.Duration
	// Visibility is what reaches the broker; empty: everything.
	Visibility Visibility
	// Calendar plays what happens in a month besides the daily round: deploys, a
	// rotation, a sweep of sessions, a campaign, certificates and clocks that go
	// bad. It needs a week at least.
	Calendar bool
	// FingerprintKey is the key of key fingerprints; default: a fixed one.
	FingerprintKey []byte
}

// Visibility is what can be seen of a network.
type Visibility string

// The visibilities. With platform events everything is seen, what an intruder does at
// the platform too; without them only what the own backends and clients report.
const (
	VisibilityPlatform Visibility = "platform"
	VisibilityBackend  Visibility = "backend"
)

// Visibilities lists them.
func Visibilities() []Visibility { return []Visibility{VisibilityPlatform, VisibilityBackend} }

// Truth is what the generator knows of one event.
type Truth struct {
	// Attack is the index of the label whose attack the event is part of; -1: none.
	Attack int `json:"attack"`
	// Cause is why a refused event was refused.
	Cause event.Cause `json:"cause,omitempty"`
	// LookAlike names the harmless trouble that the event is part of.
	LookAlike string `json:"look_alike,omitempty"`
}

// Names of look-alikes.
const (
	LookAlikeDeploy   = "deploy"
	LookAlikeRotation = "rotation"
	LookAlikeSweep    = "sweep"
	LookAlikeStorm    = "retry_storm"
	LookAlikeCampaign = "campaign"
	LookAlikeNAT      = "nat_change"
	LookAlikeClock    = "clock"
	LookAlikeCert     = "certificate"
	LookAlikeConfig   = "misconfiguration"
)

// Label is the ground truth about one scenario that was played.
type Label struct {
	Index    int    `json:"index"`
	Scenario string `json:"scenario"`
	// Kind is the incident kind that should come of it, or "none".
	Kind string `json:"kind"`
	// Field and Value are the subject that it is about.
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
	// FirstID and First name the first hostile event that is visible and its true
	// time; Hostile counts them all.
	FirstID string        `json:"first_id,omitempty"`
	First   event.Instant `json:"first,omitempty"`
	Hostile int           `json:"hostile"`
	// Cause is what refused hostile events should be diagnosed as.
	Cause event.Cause `json:"cause,omitempty"`
	// Theft says that the key is in other hands, so that it should be rotated.
	Theft bool `json:"theft,omitempty"`
}

// ErrScenario is wrapped by Generate when it does not know the scenario.
var ErrScenario = errors.New("unknown scenario")

// Generate calls emit for every event, in the order of arrival, and label for every
// scenario, at the end. The event is only valid during the call. It stops at
// the first error of either.
func Generate(opt Options, emit func(*event.Event, Truth) error, label func(Label) error) error {
	if emit == nil {
		return errors.New("simulate: nobody takes the events")
	}
	g, err := newGenerator(opt)
	if err != nil {
		return err
	}
	g.emit = emit
	if err := g.run(); err != nil || label == nil {
		return err
	}
	for _, l := range g.labels {
		if err := label(l); err != nil {
			return err
		}
	}
	return nil
}

// Network is what the people who run the network know of it.
type Network struct {
	Name string
	// DeclaredEgress are the prefixes that backends call the platform from.
	DeclaredEgress []string
	// DeclaredServices are all services; ScheduledServices those that sleep between
	// their runs.
	DeclaredServices, ScheduledServices []string
	// CNs are the common names of client certificates by service.
	CNs map[string]string
	// ChangeWindows are when administrators work: Monday to Friday, from and to this
	// hour in UTC.
	ChangeFrom, ChangeTo int
	// Admins are those who may.
	Admins []string
	// Keys are the server keys at the start, the live one first; LastUse is when the
	// others were last used.
	Keys []Key
	// Certificates are the client certificates at the start.
	Certificates []Certificate
	// TokenLeeway is the difference of clocks that the platform tolerates.
	TokenLeeway time.Duration
	// FingerprintKey makes the fingerprints of keys; Secrets are their values.
	FingerprintKey []byte
	Secrets        []string
}

// Key is a server key that exists when the simulation begins.
type Key struct {
	ID      string // fingerprint
	Created time.Time
	LastUse time.Time
}

// Certificate is a client certificate that exists when the simulation begins.
type Certificate struct {
	ID, CN              string
	NotBefore, NotAfter time.Time
}

// Describe tells what the people of the simulated network know of it.
func Describe(opt Options) (Network, error) {
	g, err := newGenerator(opt)
	if err != nil {
		return Network{}, err
	}
	n := Network{Name: g.opt.Network, CNs: map[string]string{}, ChangeFrom: officeFrom, ChangeTo: officeTo, Admins: admins,
		TokenLeeway: leeway, FingerprintKey: g.opt.FingerprintKey, Secrets: []string{liveSecret, secondSecret, dormantSecret}}
	old := g.opt.Start.Add(-120 * 24 * time.Hour)
	n.Keys = []Key{{ID: g.key, Created: old, LastUse: g.opt.Start}, {ID: g.fingerprint(dormantSecret), Created: old.Add(-300 * 24 * time.Hour), LastUse: g.opt.Start.Add(-90 * 24 * time.Hour)}}
	for _, s := range g.services {
		n.DeclaredServices = append(n.DeclaredServices, s.name)
		n.DeclaredEgress = append(n.DeclaredEgress, s.egress.String())
		if s.nightly {
			n.ScheduledServices = append(n.ScheduledServices, s.name)
		}
		if s.certID != "" {
			n.CNs[s.name] = s.cn
			n.Certificates = append(n.Certificates, Certificate{ID: s.certID, CN: s.cn, NotBefore: s.certFrom.Time(), NotAfter: s.certTo.Time()})
		}
	}
	return n, nil
}

// check fills in defaults and refuses what makes no sense.
func (opt *Options) check() error {
	if opt.Duration <= 0 || opt.Rate <= 0 || opt.Rate > 1e7 {
		return errors.New("simulate: a duration and a rate above zero are needed, and a rate of at most 1e7")
	}
	if opt.Hosts < 0 || opt.Users < 0 || opt.Hosts > 100_000 || opt.Users > 50_000_000 {
		return errors.New("simulate: at most 100,000 hosts and 50,000,000 users")
	}
	if opt.Visibility != "" && opt.Visibility != VisibilityPlatform && opt.Visibility != VisibilityBackend {
		return fmt.Errorf("simulate: visibility %q: use platform or backend", opt.Visibility)
	}
	if opt.Calendar && opt.Duration < 7*24*time.Hour {
		return errors.New("simulate: the calendar needs a duration of a week at least")
	}
	if opt.Network == "" {
		opt.Network = "demo"
	}
	if opt.Start.IsZero() {
		opt.Start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	}
	if opt.Hosts == 0 {
		opt.Hosts = 20
	}
	if opt.Users == 0 {
		opt.Users = 10_000
	}
	if opt.Heartbeat <= 0 {
		opt.Heartbeat = 30 * time.Second
	}
	if len(opt.FingerprintKey) == 0 {
		opt.FingerprintKey = []byte("simulated network")
	}
	if opt.Scripts != nil || opt.Scenario == "" || opt.Scenario == Ordinary {
		return nil
	}
	s, err := ScriptNamed(opt.Scenario)
	if err != nil {
		return err
	}
	opt.Scripts = []*Script{s}
	return nil
}

// Ordinary is the scenario in which nothing is wrong.
const Ordinary = "ordinary"

// Scenario is one entry of Scenarios.
type Scenario struct{ Name, About string }

// Scenarios lists what Generate knows by name.
func Scenarios() []Scenario {
	out := []Scenario{{Ordinary, "backends mint and users open sessions, by day more than by night; nothing is wrong"}}
	for _, s := range shipped() {
		out = append(out, Scenario{s.Name, s.Title})
	}
	return out
}

// prefix is a network that the simulation owns.
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
