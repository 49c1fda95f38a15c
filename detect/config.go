package detect

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/correlate"
)

// Config of detection.
type Config struct {
	// Lateness is how far behind the newest event of its partition an event may
	// come and still be put in order.
	Lateness time.Duration `yaml:"lateness"`
	// IdleAfter is how long a partition must have been read to its end before it
	// leaves the watermark.
	IdleAfter time.Duration `yaml:"idle_after"`
	// InventoryAge is how long a host must mint before it counts as one of ours.
	InventoryAge time.Duration `yaml:"inventory_age"`
	// HeartbeatTimeout is how long a host of the inventory may be silent before
	// it leaves.
	HeartbeatTimeout time.Duration `yaml:"heartbeat_timeout"`
	// TokenLeeway is the clock difference that the platform tolerates in a token.
	TokenLeeway time.Duration `yaml:"token_leeway"`
	// TokenLife is how long an auth token lives, and SessionLife an access token,
	// where their records do not tell.
	TokenLife   time.Duration `yaml:"token_life"`
	SessionLife time.Duration `yaml:"session_life"`
	// ClockWarning is how long before a host's clock leaves TokenLeeway, by its drift,
	// a finding tells.
	ClockWarning time.Duration `yaml:"clock_warning"`
	// ScheduledServices are services that stay in the inventory while silent,
	// such as a nightly job.
	ScheduledServices []string `yaml:"scheduled_services"`
	// DeclaredServices and DeclaredEgress (prefixes, as 192.0.2.0/24) narrow who
	// may enter the inventory; empty means anyone who mints from a backend.
	DeclaredServices []string `yaml:"declared_services"`
	DeclaredEgress   []string `yaml:"declared_egress"`
	// NetworksFile is a CSV file of prefix, autonomous system and owner, from which
	// source_net is named; empty: it is the /24 or /48.
	NetworksFile string `yaml:"networks_file"`
	// ChangeWindows are when people change keys, certificates and settings, in UTC,
	// as "mon-fri 08:00-18:00"; empty: at any time.
	ChangeWindows []string `yaml:"change_windows"`
	// Schedules are when services that sleep between their runs mint, in UTC, as
	// {nightly-export: ["daily 02:00-04:00"]}: a mint at another time pages.
	Schedules map[string][]string `yaml:"schedules"`
	// ExpectedCNs are the common names of our client certificates; "*.example.com"
	// stands for one label. Empty: any.
	ExpectedCNs []string `yaml:"expected_cns"`
	// MaxTokens bounds the tokens that are remembered, to compare a session with the
	// mint of its token; about 100 bytes each. Twice what is minted in two lives of a
	// token is enough; with less, a session without a mint is not noticed at peaks.
	MaxTokens int `yaml:"max_tokens"`
	// DormantAfter is how long a key must have been unused for its next use to be
	// remarkable.
	DormantAfter time.Duration `yaml:"dormant_after"`
	// NetworkJump is within which time one token that is redeemed from two networks
	// was copied.
	NetworkJump time.Duration `yaml:"network_jump"`
	// SequenceLength is how many mints for users with numbers that follow each other
	// make an enumeration.
	SequenceLength int `yaml:"sequence_length"`
	// MaxHosts bounds the hosts that the inventory remembers.
	MaxHosts int `yaml:"max_hosts"`
	// MaxMints bounds the auth tokens whose minting is remembered, of all networks:
	// 100 bytes each. It should hold those of an hour.
	MaxMints int `yaml:"max_mints"`
	// MaxSessions bounds the sessions, and the devices, whose begin is remembered,
	// of all networks: 150 bytes each.
	MaxSessions int `yaml:"max_sessions"`
	// EvidenceEvents is how many recent matching events are kept for the
	// evidence of findings.
	EvidenceEvents int `yaml:"evidence_events"`
	// Windows bounds the correlator.
	Windows correlate.Config `yaml:"windows"`
}

// DefaultConfig is what the daemon runs with.
func DefaultConfig() Config {
	return Config{
		Lateness:         10 * time.Second,
		IdleAfter:        5 * time.Second,
		InventoryAge:     24 * time.Hour,
		HeartbeatTimeout: 10 * time.Minute,
		TokenLeeway:      60 * time.Second,
		TokenLife:        10 * time.Minute,
		MaxTokens:        500_000,
		DormantAfter:     30 * 24 * time.Hour,
		NetworkJump:      30 * time.Second,
		SequenceLength:   20,
		SessionLife:      30 * 24 * time.Hour,
		ClockWarning:     24 * time.Hour,
		MaxHosts:         100_000,
		MaxMints:         262_144,
		MaxSessions:      262_144,
		EvidenceEvents:   65_536,
		Windows:          correlate.DefaultConfig(),
	}
}

// Validate reports every fault, each beginning with the path of the field.
func (c Config) Validate() []error {
	var errs []error
	for _, d := range []struct {
		name string
		v    time.Duration
		zero bool
	}{
		{"lateness", c.Lateness, true},
		{"idle_after", c.IdleAfter, false},
		{"inventory_age", c.InventoryAge, true},
		{"heartbeat_timeout", c.HeartbeatTimeout, false},
		{"token_leeway", c.TokenLeeway, true},
		{"token_life", c.TokenLife, false},
		{"dormant_after", c.DormantAfter, false},
		{"network_jump", c.NetworkJump, true},
		{"session_life", c.SessionLife, false},
		{"clock_warning", c.ClockWarning, true},
	} {
		if d.v < 0 || d.v == 0 && !d.zero {
			errs = append(errs, fmt.Errorf("%s: must be positive", d.name))
		}
	}
	if c.Lateness > time.Hour {
		errs = append(errs, errors.New("lateness: more than 1h would hold every verdict of a ratio back as long"))
	}
	if c.MaxHosts < 1 {
		errs = append(errs, errors.New("max_hosts: must be at least 1"))
	}
	if c.MaxTokens < 1000 {
		errs = append(errs, errors.New("max_tokens: must be at least 1000"))
	}
	if c.SequenceLength < 3 {
		errs = append(errs, errors.New("sequence_length: must be at least 3, or any two neighbours are an enumeration"))
	}
	if c.TokenLife > 24*time.Hour {
		errs = append(errs, errors.New("token_life: more than 24h; this is the life of the auth token that is redeemed, not of the session"))
	}
	if _, err := c.changes(); err != nil {
		errs = append(errs, err)
	}
	_, faults := c.schedules()
	errs = append(errs, faults...)
	for i, cn := range c.ExpectedCNs {
		if strings.TrimPrefix(cn, "*.") == "" || strings.Contains(strings.TrimPrefix(cn, "*."), "*") {
			errs = append(errs, fmt.Errorf("expected_cns[%d]: give a name, or one that begins with *.", i))
		}
	}
	for _, x := range []struct {
		name string
		n    int
	}{{"max_mints", c.MaxMints}, {"max_sessions", c.MaxSessions}} {
		if x.n < 1 || x.n > maxMemo {
			errs = append(errs, fmt.Errorf("%s: must be 1 to %d", x.name, maxMemo))
		}
	}
	if c.EvidenceEvents < 1 {
		errs = append(errs, errors.New("evidence_events: must be at least 1"))
	}
	if _, err := c.egress(); err != nil {
		errs = append(errs, err)
	}
	for _, err := range c.Windows.Validate() {
		errs = append(errs, fmt.Errorf("windows.%w", err))
	}
	return errs
}

// maxMemo keeps the memory of mints below 4 GB.
const maxMemo = 1 << 25

// egress parses DeclaredEgress.
func (c Config) egress() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for i, s := range c.DeclaredEgress {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("declared_egress[%d]: give a prefix such as 192.0.2.0/24: %w", i, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// changes parses ChangeWindows.
func (c Config) changes() (changeWindows, error) {
	return parseWindows("change_windows", c.ChangeWindows)
}

// schedules parses Schedules, all faults at once.
func (c Config) schedules() (map[string]changeWindows, []error) {
	out := map[string]changeWindows{}
	var errs []error
	for _, service := range slices.Sorted(maps.Keys(c.Schedules)) {
		ws, err := parseWindows("schedules."+service, c.Schedules[service])
		if err == nil && len(ws) == 0 {
			err = fmt.Errorf("schedules.%s: give at least one time, as daily 02:00-04:00", service)
		}
		if err != nil {
			errs = append(errs, err)
		}
		out[service] = ws
	}
	return out, errs
}

func parseWindows(path string, texts []string) (changeWindows, error) {
	var out changeWindows
	for i, s := range texts {
		w, err := parseChangeWindow(s)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", path, i, err)
		}
		out = append(out, w)
	}
	return out, nil
}
