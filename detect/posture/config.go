package posture

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Config says when each check runs, and what else runs by the clock.
type Config struct {
	// Schedules maps a check's name to a cron expression of five fields in UTC,
	// or to a descriptor such as @hourly. A check without one runs daily, at
	// DefaultSchedule.
	Schedules map[string]string `yaml:"schedules"`
	// Timeout bounds one run of one check.
	Timeout time.Duration `yaml:"timeout"`
	// Baselines is when the seasons of rate_anomaly rules are read off the stored events
	// again, for groups that know less; empty for never.
	Baselines string `yaml:"baselines"`
}

// DefaultSchedule is 06:10 UTC, before the working day of most of the world's
// on-call.
const DefaultSchedule = "10 6 * * *"

// DefaultConfig is what the daemon runs with.
func DefaultConfig() Config { return Config{Timeout: time.Minute, Baselines: "25 3 * * *"} }

// Validate reports every fault, each beginning with the path of the field. That
// a schedule names no check is told by New, which knows the checks.
func (c Config) Validate() []error {
	var errs []error
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: must be positive"))
	}
	if c.Baselines != "" {
		if _, err := parse(c.Baselines); err != nil {
			errs = append(errs, fmt.Errorf("baselines: %w", err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Schedules)) {
		if _, err := parse(c.Schedules[name]); err != nil {
			errs = append(errs, fmt.Errorf("schedules.%s: %w", name, err))
		}
	}
	return errs
}

// Schedule tells when something is due; zero for never.
type Schedule interface {
	Next(after time.Time) time.Time
}

// BaselinesDue is the schedule of Baselines, nil for never.
func (c Config) BaselinesDue() (Schedule, error) {
	if c.Baselines == "" {
		return nil, nil
	}
	return parse(c.Baselines)
}

// parse reads a schedule. The library would read TZ= prefixes, and take the
// machine's zone without one; schedules here are in UTC, always.
func parse(spec string) (cron.Schedule, error) {
	if strings.Contains(spec, "TZ=") {
		return nil, fmt.Errorf("schedules are in UTC: leave the time zone out of %q", spec)
	}
	p := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	s, err := p.Parse("CRON_TZ=UTC " + spec)
	if err != nil {
		return nil, fmt.Errorf("not a cron expression of five fields: %w", err)
	}
	return s, nil
}
