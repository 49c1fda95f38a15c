package posture

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
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
	// Checks are files and folders of your own checks, SQL in YAML; read again with
	// the rules.
	Checks []string `yaml:"checks,omitempty"`
	// Probes are TLS servers whose certificate is looked at. They show the other
	// side's certificate only, never yours.
	Probes []Probe `yaml:"probes,omitempty"`
	Digest Digest  `yaml:"digest"`
}

// Probe is a TLS server to look at.
type Probe struct {
	Name       string `yaml:"name"`                  // name in results: letters, digits, _ and -
	Address    string `yaml:"address"`               // host:port
	ServerName string `yaml:"server_name,omitempty"` // the name that its certificate has to carry; empty: the host of address
	CAFile     string `yaml:"ca_file,omitempty"`     // authorities that may have signed it; empty: those of the system
	Network    string `yaml:"network,omitempty"`     // network that the server belongs to, if it is one's
}

// Digest is the scorecard as a message.
type Digest struct {
	// Schedule is a cron expression in UTC, as "0 7 * * 1-5"; empty: no digest.
	Schedule string `yaml:"schedule"`
	// Channel is the Slack channel id; empty: the channel of digests, else of
	// tickets. Without Slack it goes to standard output.
	Channel string `yaml:"channel"`
}

const (
	maxProbes = 100
	maxPaths  = 100
)

var checkName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// ValidName reports whether a check or a probe may have the name.
func ValidName(name string) bool { return checkName.MatchString(name) && name != digestName }

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
	if c.Digest.Schedule != "" {
		if _, err := parse(c.Digest.Schedule); err != nil {
			errs = append(errs, fmt.Errorf("digest.schedule: %w", err))
		}
	} else if c.Digest.Channel != "" {
		errs = append(errs, errors.New("digest.schedule: a channel is given and no schedule, so nothing would be sent; give one such as \"0 7 * * 1-5\""))
	}
	if len(c.Checks) > maxPaths {
		errs = append(errs, fmt.Errorf("checks: at most %d paths", maxPaths))
	}
	return append(errs, c.validateProbes()...)
}

func (c Config) validateProbes() []error {
	var errs []error
	if len(c.Probes) > maxProbes {
		errs = append(errs, fmt.Errorf("probes: at most %d", maxProbes))
	}
	seen := map[string]bool{}
	for i, p := range c.Probes {
		at := fmt.Sprintf("probes[%d].", i)
		if !ValidName(p.Name) {
			errs = append(errs, fmt.Errorf("%sname: %q must be small letters, digits, _ and -, at most 64", at, p.Name))
		} else if seen[p.Name] {
			errs = append(errs, fmt.Errorf("%sname: %q is given twice", at, p.Name))
		}
		seen[p.Name] = true
		if host, port, err := net.SplitHostPort(p.Address); err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("%saddress: %q is not host:port, as api.example.org:443", at, p.Address))
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

// ValidSchedule says what is wrong with a schedule.
func ValidSchedule(spec string) error {
	_, err := parse(spec)
	return err
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
