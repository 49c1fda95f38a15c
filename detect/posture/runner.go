package posture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

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
type Runner struct {
	cfg       Config
	deps      Deps
	schedules []cron.Schedule // parallel to deps.Checks
	runs      *prometheus.CounterVec
}

// New builds a runner. It fails when a schedule cannot be read or names no
// check.
func New(cfg Config, deps Deps) (*Runner, error) {
	errs := cfg.Validate()
	if deps.Now == nil {
		errs = append(errs, errors.New("posture: no clock given"))
	}
	names := map[string]bool{}
	r := &Runner{cfg: cfg, deps: deps}
	for _, c := range deps.Checks {
		if names[c.Name()] {
			errs = append(errs, fmt.Errorf("posture: two checks are named %s", c.Name()))
		}
		names[c.Name()] = true
		spec, ok := cfg.Schedules[c.Name()]
		if !ok {
			spec = DefaultSchedule
		}
		s, err := parse(spec)
		if err != nil {
			continue // Validate has told
		}
		r.schedules = append(r.schedules, s)
	}
	for name := range cfg.Schedules {
		if !names[name] {
			errs = append(errs, fmt.Errorf("schedules.%s: there is no such check", name))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if r.deps.Logger == nil {
		r.deps.Logger = slog.New(slog.DiscardHandler)
	}
	r.runs = metrics.OrNew(deps.Metrics).Counters("posture", "runs_total", "Runs of posture checks.", "check", "status")
	return r, nil
}

// pollAtLeast is how often the clock is looked at, so that a jump of the clock
// is noticed, and a run that could not be recorded is tried again.
const pollAtLeast = time.Minute

// Run runs checks until ctx ends, missed ones first: a check that was due while
// nobody ran, however often, runs once.
func (r *Runner) Run(ctx context.Context) error {
	for {
		wait := r.runDue(ctx)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// runDue runs what is due and returns how long nothing will be.
func (r *Runner) runDue(ctx context.Context) time.Duration {
	wait := pollAtLeast
	for i, c := range r.deps.Checks {
		now := r.deps.Now().UTC()
		next := now
		if last, ok := r.deps.History.LastRun(c.Name()); ok {
			next = r.schedules[i].Next(last.Time())
		}
		if next.After(now) {
			wait = min(wait, next.Sub(now))
			continue
		}
		if ctx.Err() != nil {
			return wait
		}
		if err := r.record(ctx, c, now); err != nil {
			r.deps.Logger.Error("posture check not recorded, it will be run again", "check", c.Name(), "error", err)
		}
	}
	return max(wait, time.Millisecond)
}

// record runs one check and records what it says.
func (r *Runner) record(ctx context.Context, c Check, now time.Time) error {
	held, unheld := r.coverage(ctx, now)
	row := r.look(ctx, c, now, held, unheld)
	r.runs.WithLabelValues(c.Name(), string(row.Status)).Inc()
	results, err := json.Marshal(row.Results)
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	run := journal.PostureRun{Check: c.Name(), Due: event.At(now), Status: string(row.Status), Results: results}
	var fs []finding.Finding
	for _, res := range row.Results {
		if f, ok := res.finding(c, event.At(now)); ok {
			fs = append(fs, f)
			run.Findings = append(run.Findings, f.ID)
		}
	}
	return r.deps.History.Record(ctx, run, fs)
}

// look runs one check and sums its results up, over data of which so much is held,
// or unheld says why that is not known.
func (r *Runner) look(ctx context.Context, c Check, now time.Time, held Held, unheld error) Row {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	row := Row{Check: c.Name(), Title: c.Title(), Target: c.Target(), Status: Unknown}
	res, err := c.Run(ctx, now)
	if err != nil {
		r.deps.Logger.Warn("posture check failed to run", "check", c.Name(), "error", err)
		row.Detail = "could not be judged: " + err.Error()
		return row
	}
	row.Results = res
	row.sum(held, unheld)
	return row
}

// coverage is how much of the data is there, or why that is not known.
func (r *Runner) coverage(ctx context.Context, now time.Time) (Held, error) {
	if r.deps.Coverage == nil {
		return Held{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	return r.deps.Coverage.Coverage(ctx, now)
}

// Scorecard runs every check now, records nothing, and returns what they say.
func (r *Runner) Scorecard(ctx context.Context) Scorecard {
	now := r.deps.Now().UTC()
	held, err := r.coverage(ctx, now)
	s := Scorecard{At: now, Coverage: held}
	if err != nil {
		s.CoverageError = err.Error()
	}
	for _, c := range r.deps.Checks {
		s.Rows = append(s.Rows, r.look(ctx, c, now, held, err))
	}
	return s
}

// finding is the finding of a result that misses its target.
func (x Result) finding(c Check, now event.Instant) (finding.Finding, bool) {
	if x.Status == Pass || x.Stage == "" {
		return finding.Finding{}, false
	}
	group := []finding.Pair{{Field: "network", Value: x.Subject.Network}, {Field: x.Subject.Field, Value: x.Subject.Value}}
	rule := "posture/" + c.Name()
	return finding.Finding{
		ID:     finding.MakeID(rule, append(group, finding.Pair{Field: "stage", Value: x.Stage}), x.Since),
		RuleID: rule, RuleName: c.Name(), RuleTitle: c.Title(), Kind: finding.Posture, Severity: x.Severity,
		Subject: x.Subject, Group: group, First: now, Last: now, Fired: now, Count: 1,
		Threshold: c.Target(), Summary: x.Summary, Resolution: x.Resolution, Playbook: x.Playbook,
		Facts: append([]finding.Pair{{Field: "value", Value: x.Value}}, x.Facts...),
	}, true
}
