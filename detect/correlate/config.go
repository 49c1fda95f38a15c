package correlate

import (
	"errors"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Config bounds the state and says how far out of order events may come.
type Config struct {
	// Lateness is the allowed lateness that the watermarks given to Advance
	// already have subtracted. It decides how long a new episode is held back
	// after an earlier one.
	Lateness time.Duration `yaml:"-"`
	// MaxGroups bounds the groups of one rule.
	MaxGroups int `yaml:"max_groups"`
	// MaxBytes bounds the estimated memory of all groups of all rules.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxPending bounds the observations that wait for the watermark. Beyond it
	// the oldest half is judged at once, as if the watermark had passed it.
	MaxPending int `yaml:"max_pending"`
	// Standalone makes every detection rule that is not inner fire like an
	// event_count of one, grouped by network and risk subject. The daemon wants
	// it; rules eval, which prints matches instead, does not.
	Standalone bool `yaml:"-"`
	// Remembers says that somebody keeps what first_seen and rate_anomaly know for
	// longer than windows last: each of their rules fires nothing until
	// LoadMemory was called for it, and TakeMemory tells what to keep.
	Remembers bool `yaml:"-"`
	// Coverage tells what share of the expected events of a group is held over
	// [from, to]; false when nobody knows. Nil: all of them are.
	Coverage func(group []finding.Pair, from, to event.Instant) (float64, bool) `yaml:"-"`
	// Delay tells how long the records about a group take to arrive; absences that
	// wait, wait at least so long. Nil: it is not known.
	Delay func(group []finding.Pair) time.Duration `yaml:"-"`
}

// DefaultConfig is what the daemon runs with.
func DefaultConfig() Config {
	return Config{
		Lateness:   10 * time.Second,
		MaxGroups:  1_000_000,
		MaxBytes:   768 << 20,
		MaxPending: 4_000_000,
		Standalone: true,
	}
}

// Validate reports every fault, each beginning with the path of the field.
func (c Config) Validate() []error {
	var errs []error
	if c.Lateness < 0 {
		errs = append(errs, errors.New("lateness: must not be negative"))
	}
	if c.MaxGroups < 1 {
		errs = append(errs, errors.New("max_groups: must be at least 1"))
	}
	if c.MaxBytes < 1<<20 {
		errs = append(errs, errors.New("max_bytes: must be at least 1048576"))
	}
	if c.MaxPending < 1024 {
		errs = append(errs, errors.New("max_pending: must be at least 1024"))
	}
	return errs
}
