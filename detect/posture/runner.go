package posture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
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
	Notes    []Notes
	// Publish takes a digest; nil: there is none to send.
	Publish Publisher
	Now     func() time.Time
	Logger  *slog.Logger
	Metrics *metrics.Registry
}

// Runner runs checks when they are due.
type Runner struct {
	cfg    Config
	deps   Deps
	runs   *prometheus.CounterVec
	digest cron.Schedule // nil: none
	began  time.Time

	mu   sync.Mutex
	plan []planned
}

// planned is a check with its schedule.
type planned struct {
	check    Check
	schedule cron.Schedule
}

// New builds a runner. It fails when a schedule cannot be read or names no
// check.
func New(cfg Config, deps Deps) (*Runner, error) {
	errs := cfg.Validate()
	if deps.Now == nil {
		errs = append(errs, errors.New("posture: no clock given"))
	}
	r := &Runner{cfg: cfg, deps: deps}
	plan, err := r.plans(deps.Checks)
	if errs = append(errs, err); errors.Join(errs...) != nil {
		return nil, errors.Join(errs...)
	}
	r.plan = plan
	if cfg.Digest.Schedule != "" && deps.Publish != nil {
		r.digest, _ = parse(cfg.Digest.Schedule) // Validate has read it
	}
	r.began = deps.Now().UTC()
	if r.deps.Logger == nil {
		r.deps.Logger = slog.New(slog.DiscardHandler)
	}
	r.runs = metrics.OrNew(deps.Metrics).Counters("posture", "runs_total", "Runs of posture checks.", "check", "status")
	return r, nil
}

// plans gives every check its schedule: the configuration's, its own, or the
// default.
func (r *Runner) plans(checks []Check) ([]planned, error) {
	var errs []error
	names := map[string]bool{}
	out := make([]planned, 0, len(checks))
	for _, c := range checks {
		if names[c.Name()] || c.Name() == digestName {
			errs = append(errs, fmt.Errorf("posture: two checks are named %s, or the name is taken", c.Name()))
		}
		names[c.Name()] = true
		spec, ok := r.cfg.Schedules[c.Name()]
		if own, is := c.(Scheduled); !ok && is {
			spec, ok = own.Schedule(), true
		}
		if !ok {
			spec = DefaultSchedule
		}
		s, err := parse(spec)
		if err != nil {
			continue // Validate has told, or who made the check
		}
		out = append(out, planned{c, s})
	}
	for name := range r.cfg.Schedules {
		if !names[name] {
			errs = append(errs, fmt.Errorf("schedules.%s: there is no such check", name))
		}
	}
	return out, errors.Join(errs...)
}

// Replace takes other checks from now on. A run that is under way ends as it began.
func (r *Runner) Replace(checks []Check) error {
	plan, err := r.plans(checks)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.plan = plan
	r.mu.Unlock()
	return nil
}

func (r *Runner) planned() []planned {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plan
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
	for _, p := range r.planned() {
		c := p.check
		now := r.deps.Now().UTC()
		next := now
		if last, ok := r.deps.History.LastRun(c.Name()); ok {
			next = p.schedule.Next(last.Time())
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
	if ctx.Err() == nil {
		wait = min(wait, r.digestDue(ctx))
	}
	return max(wait, time.Millisecond)
}

// record runs one check and records what it says.
func (r *Runner) record(ctx context.Context, c Check, now time.Time) error {
	held, unheld := r.coverage(ctx, now)
	row := r.look(ctx, c, now, held, unheld)
	r.runs.WithLabelValues(c.Name(), string(row.Status)).Inc()
	results, err := json.Marshal(recorded(row.Results))
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	run := journal.PostureRun{Check: c.Name(), Due: event.At(now), Status: string(row.Status), Results: results}
	var fs []finding.Finding
	for _, res := range recorded(row.Results) {
		if f, ok := res.finding(c, event.At(now)); ok {
			fs = append(fs, f)
			run.Findings = append(run.Findings, f.ID)
		}
	}
	return r.deps.History.Record(ctx, run, fs)
}

// maxRecorded bounds the results that are recorded with a run, and the findings.
const maxRecorded = 500

// recorded is what is worth recording of many results: those that miss the target
// first.
func recorded(all []Result) []Result {
	if len(all) <= maxRecorded {
		return all
	}
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b Result) int {
		return slices.Index(order, b.Status) - slices.Index(order, a.Status)
	})
	return out[:maxRecorded]
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
	if o, ok := c.(Outside); ok && o.Outside() {
		held, unheld = Held{}, nil
	}
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
	for _, p := range r.planned() {
		s.Rows = append(s.Rows, r.look(ctx, p.check, now, held, err))
	}
	for _, n := range r.deps.Notes {
		notes, err := n.Notes(ctx, now)
		if err != nil {
			notes = append(notes, Note{Title: "Not known", Values: []string{err.Error()}})
		}
		s.Notes = append(s.Notes, notes...)
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
		Threshold: c.Target(), Summary: x.Summary, Resolution: x.Resolution, Playbook: x.Playbook, Query: x.Query,
		Facts: append([]finding.Pair{{Field: "value", Value: x.Value}}, x.Facts...),
	}, true
}
