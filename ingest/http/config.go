package httpingest

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/keysentry/keysentry/internal/secret"
)

// Path is where events are posted.
const Path = "/v1/events"

// Config says who may post events to /v1/events of the HTTP port. Without a source
// the path does not exist.
type Config struct {
	Sources []SourceConfig `yaml:"sources,omitempty"` // who may post
}

// SourceConfig is one producer. Whoever has its token may say what its topic may
// say, so that producers of different trust have topics of their own.
type SourceConfig struct {
	Name  string     `yaml:"name"`  // name in metrics and logs: lower-case letters, digits, - and _
	Token secret.Ref `yaml:"token"` // bearer token, at least 16 visible ASCII characters
	Topic string     `yaml:"topic"` // where its events go: one of `ingest.topics`
	// MaxBody bounds one request after decompression; 0: 1 MiB.
	MaxBody int `yaml:"max_body_bytes,omitempty"`
	// Rate bounds the events a second, with a burst of ten seconds' worth; 0: no
	// bound.
	Rate float64 `yaml:"events_per_second,omitempty"`
}

// Bounds of a source's settings.
const (
	defaultMaxBody = 1 << 20
	minMaxBody     = 1 << 10
	maxMaxBody     = 16 << 20
	minRate        = 0.1
	maxRate        = 1_000_000
	minToken       = 16
)

// DefaultConfig has no source: nothing is accepted.
func DefaultConfig() Config { return Config{} }

// sourceName is what may stand in a metric and a log without a second look.
var sourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// Validate reports every fault, by path. Whether the topics are read at all is for
// whoever knows them; whether the tokens differ shows when they are resolved.
func (c Config) Validate() []error {
	var errs []error
	names, tokens := map[string]int{}, map[secret.Ref]int{}
	for i, s := range c.Sources {
		path := fmt.Sprintf("sources[%d]", i)
		if first, taken := names[s.Name]; taken && s.Name != "" {
			errs = append(errs, fmt.Errorf("%s.name: is the name of sources[%d] too", path, first))
		}
		if first, taken := tokens[s.Token]; taken && !s.Token.IsZero() {
			errs = append(errs, fmt.Errorf("%s.token: is the token of sources[%d] too", path, first))
		}
		if _, taken := names[s.Name]; !taken {
			names[s.Name] = i
		}
		if _, taken := tokens[s.Token]; !taken {
			tokens[s.Token] = i
		}
		for _, err := range s.validate() {
			errs = append(errs, fmt.Errorf("%s.%w", path, err))
		}
	}
	return errs
}

func (s SourceConfig) validate() []error {
	var errs []error
	if !sourceName.MatchString(s.Name) {
		errs = append(errs, errors.New("name: want lower-case letters, digits, - and _, at most 63"))
	}
	if err := s.Token.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("token: %w", err))
	}
	if s.Topic == "" {
		errs = append(errs, errors.New("topic: give one of ingest.topics"))
	}
	if s.MaxBody != 0 && (s.MaxBody < minMaxBody || s.MaxBody > maxMaxBody) {
		errs = append(errs, fmt.Errorf("max_body_bytes: %d is outside %d to %d", s.MaxBody, minMaxBody, maxMaxBody))
	}
	if s.Rate != 0 && !(s.Rate >= minRate && s.Rate <= maxRate) { // so written, NaN is outside
		errs = append(errs, fmt.Errorf("events_per_second: %v is outside %v to %d", s.Rate, minRate, maxRate))
	}
	return errs
}
