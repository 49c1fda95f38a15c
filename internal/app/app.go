// Package app is the composition root: it builds every component from the
// configuration, starts sinks first and sources last, reloads, and stops in
// reverse. It is the only place where adapters meet; it holds no rule of the
// domain.
package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/journal"
	kafkajournal "github.com/keysentry/keysentry/alert/journal/kafka"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/alert/slack"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/networks"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/store"
)

var (
	_ ingest.Detector    = (*detect.Engine)(nil)
	_ ingest.FindingSink = sink{}
)

// Options is what a daemon needs besides its configuration.
type Options struct {
	Version string
	Getenv  func(string) string // nil: os.Getenv
	// Out is where messages to people go when Slack is not configured.
	Out     io.Writer
	Logger  *slog.Logger
	Metrics *metrics.Registry
	Now     func() time.Time // nil: time.Now
	// DieAt is for rehearsals; zero in earnest.
	DieAt DieAt
}

// App is one daemon.
type App struct {
	cfg      *config.Config
	opts     Options
	log      *slog.Logger
	redactor *redact.Redactor

	kafka   *kafka.Client
	group   *kafka.Group
	control *kafka.Control
	kept    keptPositions
	// verdictKey signs verdicts: it is the journal's, from which ingest derives its
	// own.
	verdictKey secret.Value
	store      *store.Client
	writer     *store.Writer
	mirror     *store.Mirror
	roller     *store.Roller
	journal    *kafkajournal.Log
	manager    *alert.Manager
	runner     *playbook.Runner
	library    *playbook.Library
	posture    *posture.Runner
	console    *console.Server
	proposer   *proposer
	slack      *slack.Slack        // nil when Slack is not configured
	events     *httpingest.Handler // nil when nobody may post events
	memory     *journalMemory
	watch      *watch
	doom       *doom

	networks *networks.Table // nil: no table is configured

	targets map[string]playbook.Target
	keys    map[string]secret.Value // fingerprint keys by network
	strays  chan kafkajournal.Stray

	people map[[sha256.Size]byte]string // digest of a credential -> person

	// reloading is held while rules are read and swapped in, and while a leader
	// takes its session up, so that no engine is left with older rules. It is
	// taken before mu.
	reloading sync.Mutex
	stamp     string // of the rule files, as the watch saw them last
	tried     string // digest of the rule files that were applied or refused last

	mu    sync.Mutex
	rules *rules.Set
	// ruleFaults counts the faults for which documents are left out of rules.
	ruleFaults map[string]int
	session    *session // what this member runs on while it leads
	storeErr   error    // why the schema is not in place; nil once it is
}

// OperatorError is a fault that only a person can mend: the daemon stops with
// advice instead of trying again.
type OperatorError struct{ Err error }

func (e *OperatorError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *OperatorError) Unwrap() error { return e.Err }

func operator(what string, err error) error {
	if err == nil {
		return nil
	}
	return &OperatorError{fmt.Errorf("%s: %w", what, err)}
}

// New builds the daemon. It resolves secrets, compiles rules and playbooks and
// opens the HTTP port; it talks to nobody yet. Its errors are the operator's.
func New(cfg *config.Config, opts Options) (*App, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Metrics == nil {
		opts.Metrics = metrics.New()
	}
	if opts.Out == nil {
		opts.Out = os.Stdout
	}
	if cfg.Instance == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, operator("instance", fmt.Errorf("the host has no name (%w); give one", err))
		}
		named := *cfg
		named.Instance = host
		cfg = &named
	}
	a := &App{cfg: cfg, opts: opts, redactor: redact.New(), memory: newMemory(), strays: make(chan kafkajournal.Stray, 16)}
	a.watch = newWatch(a)
	// What the library code of others logs passes the same filter as events do.
	a.log = slog.New(a.redactor.Handler(opts.Logger.Handler())).With("instance", cfg.Instance)
	a.doom = newDoom(opts.DieAt, a.log)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, operator("data_dir", err)
	}
	for _, step := range []func() error{a.buildKafka, a.buildStore, a.buildNetworks, a.buildRules, a.buildResponse, a.buildPosture, a.buildEvents, a.buildConsole} {
		if err := step(); err != nil {
			a.close()
			return nil, err
		}
	}
	return a, nil
}

// URL is the base URL of the daemon's HTTP port.
func (a *App) URL() string { return a.console.URL() }

// close releases what New opened.
func (a *App) close() {
	if a.console != nil {
		_ = a.console.Close()
	}
	if a.store != nil {
		_ = a.store.Close()
	}
	if a.kafka != nil {
		a.kafka.Close()
	}
}

// sourcesGrace is how long the sources may take to end before what works on what
// they bring is stopped beside them.
const sourcesGrace = 2 * time.Second

// Run works until ctx ends. It returns nil after an ordinary stop, an
// *OperatorError when a person has to change something, and another error when
// something broke. After the watchdog gave up, what is stuck may still be at work
// when Run returns: the process has to end.
func (a *App) Run(ctx context.Context) error {
	ended, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		ended <- a.run(ctx)
	}()
	select {
	case err := <-ended:
		return err
	case err := <-a.watch.ended(done):
		return err
	}
}

func (a *App) run(ctx context.Context) error {
	defer a.close()
	if err := a.checkKafka(ctx); err != nil {
		return err
	}
	// Three rings, stopped from the innermost: sources (the group), what works on
	// what they bring, and the journal and the port, which all of them need.
	outer, stopOuter := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOuter()
	middle, stopMiddle := context.WithCancel(outer)
	defer stopMiddle()
	inner, stopInner := context.WithCancelCause(ctx)
	defer stopInner(nil)
	// Sources that a silent server keeps from ending do not use up the time of the
	// others: a stop takes ten seconds at most.
	defer context.AfterFunc(inner, func() { time.AfterFunc(sourcesGrace, stopMiddle) })()

	var rings [2]sync.WaitGroup
	var failures errs
	start := func(ring int, ctx context.Context, name string, run func(context.Context) error) {
		rings[ring].Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				failures.add(fmt.Errorf("%s: %w", name, err))
				stopInner(err)
			}
		})
	}
	start(1, outer, "console", a.console.Run)
	start(1, outer, "journal", a.journal.Run)
	start(1, outer, "mirror", func(ctx context.Context) error { return a.whenStored(ctx, a.mirror.Run) })
	start(0, middle, "schema", a.keepSchema)
	start(0, middle, "writer", a.writer.Run)
	start(0, middle, "rollups", a.runRollups)
	start(0, middle, "alert", a.manager.Run)
	start(0, middle, "playbooks", a.runner.Run)
	start(0, middle, "proposals", a.proposer.run)
	start(0, middle, "posture", a.runPosture)
	start(0, middle, "episodes", a.keepEpisodes)
	start(0, middle, "registries", a.keepRegistries)
	start(0, middle, "rule memory", a.keepRuleMemory)
	start(0, middle, "suspects", a.keepSuspects)
	start(0, middle, "own keys", a.knowOwnKeys)
	start(0, middle, "clock offsets", a.keepClockOffsets)
	start(0, middle, "strays", a.reportStrays)
	start(0, middle, "rule files", a.watchRules)
	start(0, middle, "posted events", a.takeEvents)
	start(0, middle, "watchdog", a.keepWatch)

	a.log.Info("running", "version", a.opts.Version, "url", a.URL())
	if err := a.consume(inner); err != nil && inner.Err() == nil {
		failures.add(err)
	}
	a.log.Info("stopping")
	stopMiddle()
	rings[0].Wait()
	a.stepDown()
	stopOuter()
	rings[1].Wait()
	return failures.join()
}

// errs collects errors of goroutines.
type errs struct {
	mu   sync.Mutex
	list []error
}

func (e *errs) add(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, err)
}

func (e *errs) join() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return errors.Join(e.list...)
}

// subscribe is who hears of every accepted record, in this order: the state that
// others read first.
func (a *App) subscribe() {
	a.journal.Subscribe(a.manager.Apply)
	a.journal.Subscribe(func(r journal.Record) {
		if err := a.runner.Apply(r); err != nil {
			a.log.Error("journal record is unreadable and was passed over", "record", r.N, "error", err)
		}
	})
	a.journal.Subscribe(a.remember)
	a.journal.Subscribe(a.proposer.apply)
	a.journal.Subscribe(a.mirror.Apply)
}
