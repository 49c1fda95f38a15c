package posture

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/keysentry/keysentry/internal/metrics"
)

// Config says when each check runs.
type Config struct {
	// Schedules maps a check's name to a cron expression of five fields in UTC,
	// or to a descriptor such as @hourly. A check without one runs daily.
	Schedules map[string]string `yaml:"schedules"`
	// Timeout bounds one run of one check.
	Timeout time.Duration `yaml:"timeout"`
}

// Deps are what the runner works with.
type Deps struct {
	Checks   []Check
	History  History
	Coverage Coverage // nil: the data is taken as complete
	Now      func() time.Time
	Logger   *slog.Logger
	Metrics  *metrics.Registry
}

// Runner runs checks when they are due.
type Runner struct{}

// New builds a runner.
func New(cfg Config, deps Deps) (*Runner, error) { return &Runner{}, nil }

// Run runs checks until ctx ends, missed ones first.
func (r *Runner) Run(ctx context.Context) error { return nil }

// Scorecard runs every check now, records nothing, and returns what they say.
func (r *Runner) Scorecard(ctx context.Context) Scorecard { return Scorecard{} }

// Scorecard is the state of every check.
type Scorecard struct {
	At   time.Time `json:"at"`
	Rows []Row     `json:"rows"`
}

// Row is one check of a scorecard.
type Row struct {
	Check   string   `json:"check"`
	Title   string   `json:"title"`
	Target  string   `json:"target"`
	Status  Status   `json:"status"`
	Detail  string   `json:"detail"`
	Results []Result `json:"results,omitempty"`
}

// WriteText prints the scorecard for people.
func (s Scorecard) WriteText(w io.Writer) error { return nil }

// WriteJSON prints the scorecard as one JSON object.
func (s Scorecard) WriteJSON(w io.Writer) error { return nil }
