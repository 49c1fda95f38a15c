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
	Now         func() time.Time
	NewID       func() string // ids of runs and requests; nil: 16 random hex digits
	Logger      *slog.Logger
	Metrics     *metrics.Registry
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

	planning sync.Mutex // one plan at a time, so that two cannot both find the network free

	mu      sync.Mutex
	lead    context.Context // nil: not leading
	unlead  context.CancelFunc
	since   time.Time // when the lead began
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
	m := newRunnerMetrics(deps.Metrics)
	return &Runner{cfg: cfg, deps: deps, log: log, metrics: m, mem: newKeyMemory(),
		fold: newFold(cfg, func(why string) { m.decisions.WithLabelValues(why).Inc() }),
		wake: make(chan struct{}, 1), driving: map[string]bool{}}, nil
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
	if r.unlead != nil {
		r.unlead()
	}
	r.lead, r.unlead = context.WithCancel(ctx)
	r.since = r.deps.Now()
	r.mu.Unlock()
	r.log.Info("runner leads", "epoch", epoch)
	r.poke()
}

// StepDown makes this member stop acting. A call under way is cut; the next
// leader converges its intent. Keys in memory stay there: this member may lead
// again before anyone else issues anew.
func (r *Runner) StepDown() {
	r.mu.Lock()
	if r.unlead != nil {
		r.unlead()
	}
	r.lead, r.unlead = nil, nil
	r.mu.Unlock()
	r.poke()
}

// leading returns the lead's context and when it may act first, or nil.
func (r *Runner) leading() (lead context.Context, from time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lead == nil || r.lead.Err() != nil {
		return nil, time.Time{}
	}
	return r.lead, r.since.Add(r.cfg.NewLeaderWait)
}

func (r *Runner) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
