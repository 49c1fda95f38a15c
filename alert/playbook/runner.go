package playbook

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

// Deps is what a Runner works with.
type Deps struct {
	Journal  Journal
	Library  *Library
	Targets  map[string]Target // by network
	Evidence Evidence
	// Fingerprint is the keyed fingerprint of a network's key, as events carry it.
	Fingerprint func(network string, key secret.Value) string
	Escrow      Escrow // may be nil
	// Busy reports a change that must not meet a rotation; may be nil.
	Now     func() time.Time
	NewID   func() string // ids of runs and requests; nil: 16 random hex digits
	Logger  *slog.Logger
	Metrics *metrics.Registry
}

// Runner plans runs and executes approved ones. Apply folds on every member;
// everything else works on the leader only.
type Runner struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *runnerMetrics
	fold    *fold
	mem     *keyMemory
	wake    chan struct{}

	mu      sync.Mutex
	lead    context.Context // nil: not leading
	since   time.Time       // when the lead began
	driving map[string]bool
	wg      sync.WaitGroup
}

// ErrNotLeader says that this member may not act.
var ErrNotLeader = errors.New("this member does not lead")

// New builds a runner. It starts nothing.
func New(cfg Config, deps Deps) (*Runner, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if deps.Journal == nil || deps.Library == nil || deps.Evidence == nil || deps.Fingerprint == nil || deps.Now == nil {
		return nil, errors.New("playbook: Journal, Library, Evidence, Fingerprint and Now are needed")
	}
	if deps.NewID == nil {
		deps.NewID = randomID
	}
	log := deps.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Runner{cfg: cfg, deps: deps, log: log, metrics: newRunnerMetrics(deps.Metrics), fold: newFold(cfg),
		mem: newKeyMemory(), wake: make(chan struct{}, 1), driving: map[string]bool{}}, nil
}

func randomID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// Apply folds an accepted record into the state of the runs. Records come in
// order; one that comes twice changes nothing. Records of other kinds are
// ignored. An error names a record that does not decode.
func (r *Runner) Apply(rec journal.Record) error {
	changed, err := r.fold.apply(rec)
	if changed {
		r.poke()
	}
	return err
}

// Lead makes this member act until ctx ends or StepDown is called. Its first
// action comes Config.NewLeaderWait later.
func (r *Runner) Lead(ctx context.Context, epoch int64) {
	r.mu.Lock()
	r.lead, r.since = ctx, r.deps.Now()
	r.mu.Unlock()
	r.log.Info("runner leads", "epoch", epoch)
	r.poke()
}

// StepDown makes this member stop acting. Steps under way end by themselves: an
// intent of theirs is converged by the next leader.
func (r *Runner) StepDown() {
	r.mu.Lock()
	r.lead = nil
	r.mu.Unlock()
	r.poke()
}

// leading returns the lead's context, or nil.
func (r *Runner) leading() context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lead == nil || r.lead.Err() != nil {
		return nil
	}
	return r.lead
}

func (r *Runner) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// RunView is a run as the outside sees it.
type RunView struct {
	journal.RunPlanned
	Planned event.Instant
	State   State
	Ended   bool
	Since   event.Instant // when the state was entered
	Reason  string
	Text    string
	Clock   string
	// Approvals are the people whose approval counts so far.
	Approvals []string
	Stopped   bool
	// Expires is when the plan ends unless approved: ExpiresAt, or earlier once
	// the incident is acknowledged.
	Expires event.Instant
	Steps   []StepView
}

// StepView is one step of a run.
type StepView struct {
	ID, Type string
	State    string // "", started, done, failed, unknown, compensated
	Attempt  int
	Text     string
	Error    string
	Started  event.Instant
	Ended    event.Instant
}

// Runs returns every run, newest first.
func (r *Runner) Runs() []RunView { return r.fold.views() }

// Get returns one run.
func (r *Runner) Get(runID string) (RunView, bool) { return r.fold.view(runID) }
