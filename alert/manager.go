package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

// Deps is what a Manager needs of others.
type Deps struct {
	Journal Journal
	// Notifier may be nil: incidents are kept and nobody is told.
	Notifier Notifier
	// Positions may be nil.
	Positions Positions
	// Routes says which channel gets which severity; nil means DefaultRoutes.
	Routes Routes
	// Database is where the events are, for the queries that messages show; empty
	// means keysentry.
	Database string
	// Keys knows networks and their live keys; nil: any network may be named, and no
	// live key is known.
	Keys    KeyBook
	Now     func() time.Time
	Logger  *slog.Logger
	Metrics *metrics.Registry
}

// Manager is the one who journals findings, tells people and takes decisions.
// Its methods may be called from any goroutine.
type Manager struct {
	cfg   Config
	deps  Deps
	count counters
	log   *slog.Logger

	queue chan delivery
	// write is held by who reads the state in order to append to the journal. It
	// is a channel, so that waiting for it can be given up.
	write chan struct{}
	wake  chan struct{} // the outbox has something to look at

	mu         sync.Mutex
	set        *incident.Set
	changed    chan struct{} // closed and replaced when anything below set changes
	leading    bool
	generation uint64 // counts the ends of leaderships: what was delivered before is void
	actAfter   time.Time
	deliverErr error

	flood *floodGuard // guarded by write
	out   *outbox     // used by the outbox's goroutine alone
}

// New checks the configuration and starts nothing.
func New(cfg Config, deps Deps) (*Manager, error) {
	if err := errors.Join(cfg.Validate()...); err != nil {
		return nil, fmt.Errorf("alert: %w", err)
	}
	switch {
	case deps.Journal == nil:
		return nil, errors.New("alert: a journal is needed")
	case deps.Now == nil:
		return nil, errors.New("alert: a clock is needed")
	}
	if deps.Database == "" {
		deps.Database = "keysentry"
	}
	if deps.Routes == nil {
		deps.Routes = DefaultRoutes()
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	return &Manager{
		cfg: cfg, deps: deps, count: newCounters(deps.Metrics), log: deps.Logger,
		queue: make(chan delivery, cfg.Queue), write: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		set: incident.NewSet(), changed: make(chan struct{}), flood: newFloodGuard(cfg.Flood), out: newOutbox(),
	}, nil
}

// Run works until ctx ends: it journals what is delivered, lets time pass and
// sends messages. What is in the queue when ctx ends is still journaled, for at
// most drainTime.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { m.runIntake(ctx) })
	wg.Go(func() { m.runTick(ctx) })
	wg.Go(func() { m.runOutbox(ctx) })
	wg.Wait()
	return nil
}

// Lead lets this member act. epoch is the offset of its took_over record, which
// must have come through Apply before.
func (m *Manager) Lead(_ context.Context, epoch int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	current, previous := m.set.Leader()
	m.actAfter = m.deps.Now()
	// The same member that starts again has nothing of its former life on its
	// way; another one might.
	if previous.Member != "" && previous.Member != current.Member {
		m.actAfter = m.actAfter.Add(m.cfg.Delivery.TakeoverWait)
	}
	m.leading = true
	m.out.takeOver.Store(true)
	m.count.leading.Set(1)
	m.log.Info("alerting leads", "epoch", epoch, "first_message_after", m.actAfter)
	m.announce()
}

// StepDown ends the leadership: what was delivered and not journaled is void,
// because the next leader detects it again.
func (m *Manager) StepDown() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leading = false
	m.generation++
	m.count.leading.Set(0)
	m.announce()
}

// Apply folds one accepted record in. The journal's reader calls it for every
// record, in order, on every member.
func (m *Manager) Apply(rec journal.Record) {
	m.mu.Lock()
	if err := m.set.Apply(rec); err != nil {
		m.count.unread.Inc()
		m.log.Error("journal record is unreadable and was passed over", "record", rec.N, "error", err)
	}
	m.announce()
	m.mu.Unlock()
}

// announce wakes who waits for the state to change; mu is held.
func (m *Manager) announce() {
	close(m.changed)
	m.changed = make(chan struct{})
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// acquire takes the right to append, if this member leads.
func (m *Manager) acquire(ctx context.Context) (release func(), err error) {
	select {
	case m.write <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release = func() { <-m.write }
	m.mu.Lock()
	leading := m.leading
	m.mu.Unlock()
	if !leading {
		release()
		return nil, ErrNotLeader
	}
	return release, nil
}

// append journals entries and waits until they have come back through Apply.
// The caller holds the right to append. More than one write holds goes out in
// several, in order: a crash between two leaves what Tick puts right.
func (m *Manager) append(ctx context.Context, entries ...journal.Entry) error {
	for len(entries) > 0 {
		n := oneWrite(entries)
		if err := m.appendOnce(ctx, entries[:n]...); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// What one write may take: the journal refuses above 768 KiB, and each record
// has a frame around its body.
const (
	maxWrite = 512 << 10
	frame    = 512
)

// oneWrite is how many of the entries go out together, at least one.
func oneWrite(entries []journal.Entry) int {
	size := 0
	for i, e := range entries {
		// What does not encode is refused by the journal, with a reason.
		raw, _ := json.Marshal(e.Body)
		if size += len(raw) + frame; size > maxWrite && i > 0 {
			return i
		}
	}
	return len(entries)
}

func (m *Manager) appendOnce(ctx context.Context, entries ...journal.Entry) error {
	recs, err := m.deps.Journal.Append(ctx, entries...)
	if err == nil && len(recs) > 0 {
		err = m.awaitApplied(ctx, recs[len(recs)-1].N)
	}
	if err != nil {
		m.count.appends.WithLabelValues("error").Inc()
		return fmt.Errorf("append to the journal: %w", err)
	}
	m.count.appends.WithLabelValues("ok").Inc()
	return nil
}

// awaitApplied bounds the wait: a reader that does not come is a fault that the
// caller's retry has to survive.
func (m *Manager) awaitApplied(ctx context.Context, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, applyTime)
	defer cancel()
	for {
		m.mu.Lock()
		last, changed := m.set.Last(), m.changed
		m.mu.Unlock()
		if last >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("record %d was not read back: %w", n, ctx.Err())
		}
	}
}

// applyTime bounds the wait for our own records to come back.
const applyTime = 10 * time.Second

func (m *Manager) now() event.Instant { return event.At(m.deps.Now()) }

// Incidents lists the incidents, newest first.
func (m *Manager) Incidents() []incident.Incident {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.set.Incidents()
	out := make([]incident.Incident, 0, len(all))
	for k := len(all) - 1; k >= 0; k-- {
		out = append(out, all[k].Clone())
	}
	return out
}

// Incident finds one by id, with its suspicion as of now.
func (m *Manager) Incident(id string) (incident.Incident, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	inc, ok := m.set.Incident(id)
	if !ok {
		return incident.Incident{}, false
	}
	c := inc.Clone()
	if now := m.set.Assess(id, m.now()); now != nil {
		c.Suspicion = now
	}
	return c, true
}

// Suspects lists, by network, the source addresses that the evidence of active
// incidents about a compromised key names, at most incident.MaxAffected of each.
func (m *Manager) Suspects() map[string][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]string{}
	for _, inc := range m.set.Incidents() {
		if inc.Kind != finding.KeyCompromise || !inc.State.Active() {
			continue
		}
		for _, a := range inc.Affected {
			if a.Field == event.FieldSourceIP.String() {
				out[inc.Subject.Network] = append(out[inc.Subject.Network], a.Values...)
			}
		}
	}
	return out
}

// Runs lists the runs, newest first.
func (m *Manager) Runs() []incident.Run {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.set.Runs()
	out := make([]incident.Run, 0, len(all))
	for k := len(all) - 1; k >= 0; k-- {
		out = append(out, all[k].Clone())
	}
	return out
}

// RunByID finds one run of a playbook.
func (m *Manager) RunByID(id string) (incident.Run, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.set.Run(id)
	if !ok {
		return incident.Run{}, false
	}
	return r.Clone(), true
}

// DeliveryError is the messenger's last failure, nil once a call succeeds again.
func (m *Manager) DeliveryError() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deliverErr
}
