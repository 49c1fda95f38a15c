package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// Config says which topics hold audit events, what each may say, and how far
// reading and storing may drift apart.
type Config struct {
	Topics []TopicConfig `yaml:"topics"` // what is read
	// MaxLateness bounds how far the effective time may lie before the append
	// time.
	MaxLateness time.Duration `yaml:"max_lateness"`
	// Mappings is a folder of further mappings; one of the same name replaces the
	// shipped one.
	Mappings string `yaml:"mappings,omitempty"`
	// FingerprintKey is the key for the fingerprints that mappings make.
	FingerprintKey secret.Ref `yaml:"fingerprint_key,omitempty"`
	// DetachAfter is how long a partition waits for storage before detection
	// goes on alone and storage re-reads later.
	DetachAfter time.Duration `yaml:"detach_after"`
	// CommitEvery is how often stored positions are committed.
	CommitEvery time.Duration `yaml:"commit_every"`
	// StopTimeout bounds how long a stop waits for inserts in flight.
	StopTimeout time.Duration `yaml:"stop_timeout"`
	// ReplayMaxEvents bounds what is re-read to fill windows, over all partitions.
	ReplayMaxEvents int64 `yaml:"replay_max_events"`
	// FillTimeout bounds how long windows are filled from what is stored before
	// the rest is read from Kafka; rules that are not filled then are learning.
	FillTimeout time.Duration `yaml:"fill_timeout"`
	// ClockMaxHosts bounds the hosts per partition whose clocks are estimated.
	ClockMaxHosts int            `yaml:"clock_max_hosts"`
	Watchdog      WatchdogConfig `yaml:"watchdog"`
}

// TopicConfig is one topic: who is trusted to say what on it.
type TopicConfig struct {
	Name   string       `yaml:"name"`   // name of the Kafka topic
	Origin event.Origin `yaml:"origin"` // who writes it: platform, gateway, backend, client or console
	// Observed says whose time a record carries: the broker's append time, or
	// the producer's (imports and history).
	Observed Observed `yaml:"observed,omitempty"`
	// Mapping names the mapping of a foreign format, or is auto: then each record
	// is recognised by its content. Empty: canonical events.
	Mapping string `yaml:"mapping,omitempty"`
	// Network is given to events of a mapping that names none.
	Network string `yaml:"network,omitempty"`
	// Year completes times of a log that leaves the year out; 0: the year that makes
	// them the latest before the record was appended, or up to a day after.
	Year int `yaml:"year,omitempty"`
	// Zone names the time zone (Europe/Paris) of a log that leaves it out; empty:
	// UTC.
	Zone string `yaml:"zone,omitempty"`
	// Lifecycle admits events about the life of keys, certificates and settings.
	Lifecycle bool `yaml:"lifecycle,omitempty"`
	// MaxBytes bounds one message.
	MaxBytes int         `yaml:"max_bytes,omitempty"`
	Allow    AllowConfig `yaml:"allow,omitempty"`
}

// AllowConfig restricts what a topic may say. An empty list allows everything;
// an entry of the last three may end with * to allow what begins with it.
type AllowConfig struct {
	Types    []event.Type `yaml:"types,omitempty"`    // event types
	Networks []string     `yaml:"networks,omitempty"` // networks
	Services []string     `yaml:"services,omitempty"` // services
	Hosts    []string     `yaml:"hosts,omitempty"`    // hosts
}

// Observed says whose clock stamped the records of a topic.
type Observed string

// The values of Observed; empty means ObservedBroker.
const (
	ObservedBroker   Observed = "broker"
	ObservedProducer Observed = "producer"
)

// MaxMessageBytes is the largest max_bytes of a topic.
const MaxMessageBytes = 16 << 20

// DefaultConfig reads canonical events of backends from auth.events.
func DefaultConfig() Config {
	return Config{
		Topics:          []TopicConfig{{Name: "auth.events", Origin: event.OriginBackend}},
		MaxLateness:     24 * time.Hour,
		DetachAfter:     2 * time.Second,
		CommitEvery:     200 * time.Millisecond,
		StopTimeout:     4 * time.Second,
		ReplayMaxEvents: 2_000_000,
		FillTimeout:     5 * time.Second,
		ClockMaxHosts:   20_000,
		Watchdog:        WatchdogConfig{StuckAfter: 30 * time.Second, StoreStuckAfter: 10 * time.Minute},
	}
}

// Validate reports every fault, by path.
func (c Config) Validate() []error {
	var errs []error
	if len(c.Topics) == 0 {
		errs = append(errs, errors.New("topics: give at least one topic"))
	}
	seen := map[string]bool{}
	for i, t := range c.Topics {
		path := fmt.Sprintf("topics[%d]", i)
		if seen[t.Name] && t.Name != "" {
			errs = append(errs, fmt.Errorf("%s.name: %q is listed twice", path, t.Name))
		}
		seen[t.Name] = true
		errs = append(errs, t.validate(path)...)
	}
	for _, d := range []struct {
		path     string
		v        time.Duration
		min, max time.Duration
	}{
		{"max_lateness", c.MaxLateness, time.Minute, 30 * 24 * time.Hour},
		{"detach_after", c.DetachAfter, 10 * time.Millisecond, time.Minute},
		{"commit_every", c.CommitEvery, 10 * time.Millisecond, time.Minute},
		{"fill_timeout", c.FillTimeout, 0, time.Minute},
		{"stop_timeout", c.StopTimeout, 0, time.Minute},
	} {
		if d.v < d.min || d.v > d.max {
			errs = append(errs, fmt.Errorf("%s: %v is outside %v to %v", d.path, d.v, d.min, d.max))
		}
	}
	if c.ReplayMaxEvents < 0 {
		errs = append(errs, errors.New("replay_max_events: must not be negative"))
	}
	if c.ClockMaxHosts < 1 {
		errs = append(errs, errors.New("clock_max_hosts: must be at least 1"))
	}
	errs = append(errs, c.Watchdog.validate()...)
	if !c.FingerprintKey.IsZero() {
		if err := c.FingerprintKey.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("fingerprint_key: %w", err))
		}
	}
	return errs
}

func (t TopicConfig) validate(path string) []error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s.%s: %s", path, field, fmt.Sprintf(format, args...)))
	}
	if t.Name == "" {
		fault("name", "give the topic's name")
	}
	if t.Origin == event.OriginNone {
		fault("origin", "say who saw the events: platform, gateway, backend, client, console or keysentry")
	}
	switch t.Observed {
	case "", ObservedBroker, ObservedProducer:
	default:
		fault("observed", "want broker or producer, not %q", string(t.Observed))
	}
	if t.Year != 0 && (t.Year < 2000 || t.Year > 2100) {
		fault("year", "%d is outside 2000 to 2100", t.Year)
	}
	// Local would make times depend on where the daemon runs.
	if _, err := time.LoadLocation(t.Zone); err != nil || t.Zone == "Local" {
		fault("zone", "%q is no time zone that this machine knows", t.Zone)
	}
	if t.MaxBytes < 0 || t.MaxBytes > MaxMessageBytes {
		fault("max_bytes", "%d is outside 0 to %d", t.MaxBytes, MaxMessageBytes)
	}
	for i, typ := range t.Allow.Types {
		if typ.Lifecycle() && !t.Lifecycle {
			fault(fmt.Sprintf("allow.types[%d]", i), "%s is a lifecycle type: set lifecycle: true", typ)
		}
	}
	return errs
}

// observed is Observed with its default.
func (t TopicConfig) observed() Observed {
	if t.Observed == "" {
		return ObservedBroker
	}
	return t.Observed
}

// MessageBytes is the largest message that the topic takes: MaxBytes with its
// default, since foreign records are larger than ours.
func (t TopicConfig) MessageBytes() int {
	switch {
	case t.MaxBytes > 0:
		return t.MaxBytes
	case t.Mapping != "":
		return 1 << 20
	}
	return event.DefaultMaxBytes
}
