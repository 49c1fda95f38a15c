package playbook

import (
	"fmt"
	"time"
)

// Config sets the runner's times and safeguards.
type Config struct {
	// NewLeaderWait is how long a new leader waits before its first action: longer
	// than MaxIntentAge, so that nothing of the old leader is still under way.
	NewLeaderWait time.Duration `yaml:"new_leader_wait"`
	// MaxIntentAge is how old an accepted intent may be when its action starts.
	MaxIntentAge time.Duration `yaml:"max_intent_age"`
	// ApprovalWindow runs from the acknowledgement of the incident, ApprovalMax
	// from the plan.
	ApprovalWindow time.Duration `yaml:"approval_window"`
	ApprovalMax    time.Duration `yaml:"approval_max"`
	// Cooldown is the pause between two runs of one network that we propose.
	Cooldown time.Duration `yaml:"cooldown"`
	// BudgetPerHour is how many networks may start a run within an hour.
	BudgetPerHour int `yaml:"budget_per_hour"`
	// ProbeMaxAge is how young the proof of another working key is for a revoke.
	ProbeMaxAge time.Duration `yaml:"probe_max_age"`
	// EvidenceEvery is how often the proof is looked at, ClockEvery how often the
	// clock text is written at most.
	EvidenceEvery time.Duration `yaml:"evidence_every"`
	ClockEvery    time.Duration `yaml:"clock_every"`
	// LaggardsAt is the share of the overlap after which laggards are named.
	LaggardsAt float64 `yaml:"laggards_at"`
	// ProofMints is how many mints with the new key prove a host, ProofQuiet how
	// long nobody of the inventory may have used the old one, ProofCoverage the
	// share of the data that must be there.
	ProofMints    int           `yaml:"proof_mints"`
	ProofQuiet    time.Duration `yaml:"proof_quiet"`
	ProofCoverage float64       `yaml:"proof_coverage"`
}

// DefaultConfig is what RESPONSE promises.
func DefaultConfig() Config {
	return Config{
		NewLeaderWait: 10 * time.Second, MaxIntentAge: 5 * time.Second,
		ApprovalWindow: 15 * time.Minute, ApprovalMax: 2 * time.Hour,
		Cooldown: 24 * time.Hour, BudgetPerHour: 2, ProbeMaxAge: 2 * time.Minute,
		EvidenceEvery: time.Second, ClockEvery: time.Minute, LaggardsAt: 0.75,
		ProofMints: 3, ProofQuiet: 5 * time.Minute, ProofCoverage: 1,
	}
}

// Validate reports every fault by its path.
func (c Config) Validate() []error {
	var errs []error
	for _, d := range []struct {
		name string
		v    time.Duration
	}{
		{"max_intent_age", c.MaxIntentAge}, {"approval_window", c.ApprovalWindow}, {"approval_max", c.ApprovalMax},
		{"probe_max_age", c.ProbeMaxAge}, {"evidence_every", c.EvidenceEvery}, {"clock_every", c.ClockEvery},
		{"proof_quiet", c.ProofQuiet},
	} {
		if d.v <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be above zero", d.name))
		}
	}
	if c.NewLeaderWait < c.MaxIntentAge {
		errs = append(errs, fmt.Errorf("new_leader_wait: must not be below max_intent_age (%s)", c.MaxIntentAge))
	}
	if c.ApprovalMax > 2*time.Hour {
		errs = append(errs, fmt.Errorf("approval_max: at most 2h"))
	}
	if c.ProbeMaxAge > 2*time.Minute {
		errs = append(errs, fmt.Errorf("probe_max_age: at most 2m"))
	}
	if c.Cooldown < 0 {
		errs = append(errs, fmt.Errorf("cooldown: must not be negative"))
	}
	if c.BudgetPerHour < 1 {
		errs = append(errs, fmt.Errorf("budget_per_hour: at least 1"))
	}
	if c.LaggardsAt <= 0 || c.LaggardsAt >= 1 {
		errs = append(errs, fmt.Errorf("laggards_at: between 0 and 1, exclusive"))
	}
	if c.ProofMints < 1 {
		errs = append(errs, fmt.Errorf("proof_mints: at least 1"))
	}
	if c.ProofCoverage <= 0 || c.ProofCoverage > 1 {
		errs = append(errs, fmt.Errorf("proof_coverage: above 0, at most 1"))
	}
	return errs
}
