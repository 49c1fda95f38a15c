package detect

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/networks"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/rules"
)

// Deps are what the engine works with.
type Deps struct {
	Rules  *rules.Set
	Clocks Clocks // nil: no clock is known
	// Declared is what the configuration says about networks, by name.
	Declared map[string]Declared
	// Imported says that the times of a topic are its producer's (observed:
	// producer): its windows have a watermark of their own, which follows the
	// records and never the clock. nil: no topic is.
	Imported func(topic string) bool
	// Remembers says that what first_seen and rate_anomaly know is kept: see
	// TakeMemory and LoadMemory. Without it they know what this engine has seen.
	Remembers bool
	// Networks names the networks of addresses; nil: by /24 and /48.
	Networks *networks.Table
	// Stored is what windows are filled from; nil: from Kafka only.
	Stored  Stored
	Logger  *slog.Logger
	Metrics *metrics.Registry
}

// Engine judges events. All its methods are safe for concurrent use; Observe and
// Replay of one partition come one after the other.
type Engine struct {
	cfg    Config
	clocks Clocks
	// remembers: see Deps.
	remembers bool
	// imported tells the topics whose windows are in past.
	imported func(topic string) bool
	stored   Stored
	log      *slog.Logger
	m        *engineMetrics

	// swap is held for reading while a batch is judged, so that the matchers and
	// the correlator are of one rule set.
	swap sync.RWMutex
	set  *rules.Set

	// mu guards what follows. Locks are taken in the order swap, mu, correlating.
	mu sync.Mutex
	registries
	tokens    *tokenMemory
	delays    *delays
	nets      *placeMemory
	sights    sights
	sequences *sequences
	places    *networks.Namer
	networks  *networks.Table
	changes   changeWindows
	schedules map[string]changeWindows // by service
	coverage  *coverage
	// undeclared are findings about keys that nobody told of.
	undeclared undeclared
	clockWatch clockWatch
	probes     map[string]*probe
	parts      map[event.Partition]*partition
	live       watermarks    // of topics on the broker's time
	history    watermarks    // of imported topics
	forgotten  event.Instant // when the inventory was last cleaned
	snapshot   event.Instant // of the snapshot that was loaded; 0: none was

	// correlating guards the correlator and the evidence.
	correlating sync.Mutex
	windows     *correlate.Correlator // of topics on the broker's time
	past        *correlate.Correlator // of imported topics
	evidence    *evidenceRing
	told        event.Instant // when a held watermark was last logged
	// backlog is what fired during a replay, which returns nothing.
	backlog []correlate.Firing
}

// partition is the scratch of one partition.
type partition struct {
	set     *rules.Set
	matcher *rules.Matcher
	matched []int32
	own     []bool // by event of the batch: a probe of ours
}

// probe is a request of our own that was announced.
type probe struct {
	journal.Probe
	seen bool
}

// maxProbes bounds the probes that are remembered.
const maxProbes = 4096

// probeWindow is how long before its end a probe may be seen.
const probeWindow = 60 * time.Second

// New builds an engine. Rules that cannot be evaluated are logged and left out.
func New(cfg Config, deps Deps) (*Engine, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if deps.Rules == nil || deps.Rules.Program() == nil {
		return nil, errors.New("detect: no compiled rules given")
	}
	if deps.Clocks == nil {
		deps.Clocks = noClocks{}
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Imported == nil {
		deps.Imported = func(string) bool { return false }
	}
	cfg.Windows.Lateness, cfg.Windows.Standalone = cfg.Lateness, true
	cover := newCoverage(cfg.MaxHosts)
	cfg.Windows.Coverage = cover.ofGroup
	late := newDelays()
	cfg.Windows.Delay = late.ofGroup
	e := &Engine{cfg: cfg, clocks: deps.Clocks, imported: deps.Imported, stored: deps.Stored, log: deps.Logger, set: deps.Rules,
		registries: newRegistries(cfg, deps.Declared), probes: map[string]*probe{}, parts: map[event.Partition]*partition{}, live: newWatermarks(cfg), history: newWatermarks(cfg),
		tokens: newTokenMemory(cfg), delays: late, nets: newPlaceMemory(), sights: sights{}, sequences: newSequences(cfg), places: networks.NewNamer(deps.Networks), networks: deps.Networks,
		coverage: cover, remembers: deps.Remembers, evidence: newEvidenceRing(cfg.EvidenceEvents)}
	e.changes, _ = cfg.changes() // validated
	e.schedules, _ = cfg.schedules()
	e.windows, e.past = e.newWindows(deps.Rules)
	e.history.imported = true
	e.m = newMetrics(metrics.OrNew(deps.Metrics), e)
	e.logProblems(e.windows)
	return e, nil
}

// newWindows makes the correlators of a set. What an import knows is not kept: it
// is about other times.
func (e *Engine) newWindows(set *rules.Set) (windows, past *correlate.Correlator) {
	cfg := e.cfg.Windows
	past = correlate.New(set, cfg)
	cfg.Remembers = e.remembers
	return correlate.New(set, cfg), past
}

func (e *Engine) logProblems(c *correlate.Correlator) {
	for _, err := range c.Problems() {
		e.log.Warn("rule left out", "error", err)
	}
}

// Problems names the rules that are loaded but cannot be evaluated, and why.
func (e *Engine) Problems() []error {
	e.correlating.Lock()
	defer e.correlating.Unlock()
	return e.windows.Problems()
}

// Stats are the correlator's counters.
func (e *Engine) Stats() correlate.Stats {
	e.correlating.Lock()
	defer e.correlating.Unlock()
	return e.windows.Stats().Add(e.past.Stats())
}

// Assign names the partitions that take part in the watermark.
func (e *Engine) Assign(parts []event.Partition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var live, imported []event.Partition
	for _, p := range parts {
		if e.imported(p.Topic) {
			imported = append(imported, p)
		} else {
			live = append(live, p)
		}
	}
	e.live.assign(live)
	e.history.assign(imported)
	maps.DeleteFunc(e.parts, func(p event.Partition, _ *partition) bool { return !slices.Contains(parts, p) })
}

// marks is the watermark of a topic; the caller holds mu to use it.
func (e *Engine) marks(topic string) *watermarks {
	if e.imported(topic) {
		return &e.history
	}
	return &e.live
}

// windowsOf are the windows of a topic; the caller holds swap, and correlating to
// use them.
func (e *Engine) windowsOf(topic string) *correlate.Correlator {
	if e.imported(topic) {
		return e.past
	}
	return e.windows
}

// Replay fills windows and registries silently.
func (e *Engine) Replay(p event.Partition, events []event.Event) { e.judge(p, events, true) }

// Observe judges events: it sets the cause of refused ones and returns what
// fired.
func (e *Engine) Observe(p event.Partition, events []event.Event) []finding.Finding {
	e.m.events.Add(float64(len(events)))
	return e.judge(p, events, false)
}

func (e *Engine) judge(p event.Partition, events []event.Event, silent bool) []finding.Finding {
	if len(events) == 0 {
		return nil
	}
	e.swap.RLock()
	defer e.swap.RUnlock()
	part := e.register(p, events, silent)
	windows := e.windowsOf(p.Topic)
	fired := e.match(part, windows, events, silent)

	e.mu.Lock()
	defer e.mu.Unlock()
	marks := e.marks(p.Topic)
	marks.saw(p, newest(events))
	mark := marks.advance(0)
	e.correlating.Lock()
	defer e.correlating.Unlock()
	fired = windows.Advance(mark, fired)
	if silent {
		e.backlog = append(e.backlog, fired...)
		return nil
	}
	return append(e.findings(append(e.takeBacklog(), fired...)), e.undeclared.take()...)
}

func newest(events []event.Event) event.Instant {
	t := events[0].TS
	for i := range events {
		t = max(t, events[i].TS)
	}
	return t
}

// register takes the batch into the registries and sets the causes.
func (e *Engine) register(p event.Partition, events []event.Event, silent bool) *partition {
	e.mu.Lock()
	defer e.mu.Unlock()
	part := e.parts[p]
	if part == nil {
		part = &partition{}
		e.parts[event.Partition{Topic: strings.Clone(p.Topic), ID: p.ID}] = part
	}
	if part.set != e.set {
		part.set, part.matcher = e.set, rules.NewMatcher(e.set.Program())
	}
	part.own = part.own[:0]
	d, imported := e.diagnoser(e.clocks, &e.cfg), e.imported(p.Topic)
	for i := range events {
		ev := &events[i]
		e.derive(ev)
		if ev.Refused() {
			v := d.diagnose(ev)
			ev.Cause, ev.CauseConfidence, ev.CauseGrounds = v.cause, v.confidence, v.grounds
			if !silent {
				e.m.causes[v.cause].Inc()
			}
		}
		e.coverage.saw(ev)
		if !imported {
			e.sights.saw(ev)
		}
		own := e.isProbe(ev)
		part.own = append(part.own, own)
		if own {
			e.m.ownProbes.Inc()
			continue
		}
		if ev.Traits = e.judgeTraits(ev); ev.Traits.Has(event.TraitMintedHere) {
			ev.MintKey = e.tokens.mintKey(ev)
		}
		e.learn(ev, imported)
		// What a replay would tell, the next mint tells under the same id.
		if ev.Type == event.TypeAuthTokenIssued && !silent && !imported {
			e.rotation(ev)
		}
	}
	if now := events[len(events)-1].TS; now.Sub(e.forgotten) > time.Minute {
		e.forgotten = now
		e.hosts.forget(now)
		maps.DeleteFunc(e.probes, func(_ string, p *probe) bool { return now.Sub(p.Until) > probeWindow })
	}
	return part
}

// learn takes one event into the registries. What is remembered for minutes only
// is not mixed with imports, which are of another time.
func (e *Engine) learn(ev *event.Event, imported bool) {
	e.registries.learn(ev)
	if imported {
		return
	}
	switch ev.Type {
	case event.TypeAuthTokenIssued:
		e.delays.saw(ev)
		e.tokens.saw(ev, e.places.Of(ev.ClientIP))
		e.sequences.saw(ev)
		e.nets.saw(ev)
	case event.TypeSessionCreated:
		e.tokens.saw(ev, "")
		e.nets.saw(ev)
	}
}

// isProbe reports whether ev is the event of a probe of ours. It is once: a copy
// is somebody else's.
func (e *Engine) isProbe(ev *event.Event) bool {
	if ev.RequestID == "" || len(e.probes) == 0 {
		return false
	}
	p := e.probes[ev.RequestID]
	if p == nil || p.seen || p.KeyID != "" && p.KeyID != ev.KeyID {
		return false
	}
	if left := p.Until.Sub(ev.TS); left < -e.cfg.Lateness || left > probeWindow {
		return false
	}
	p.seen = true
	return true
}

// match runs the rules over the batch.
func (e *Engine) match(part *partition, windows *correlate.Correlator, events []event.Event, silent bool) []correlate.Firing {
	var fired []correlate.Firing
	matches := 0
	for i := range events {
		if part.own[i] {
			continue
		}
		ev := &events[i]
		part.matched = part.matcher.MatchEvent(ev, part.matched[:0])
		if len(part.matched) == 0 {
			continue
		}
		matches += len(part.matched)
		in := correlate.Input{Matched: part.matched, Values: part.matcher, Event: ev, TS: ev.TS, Ref: ev.Ref, Silent: silent}
		fired = e.correlate(windows, in, fired)
	}
	if !silent {
		e.m.matches.Add(float64(matches))
	}
	return fired
}

func (e *Engine) correlate(windows *correlate.Correlator, in correlate.Input, fired []correlate.Firing) []correlate.Firing {
	e.correlating.Lock()
	defer e.correlating.Unlock()
	fired = windows.Observe(in, fired)
	if windows.Noted() {
		e.evidence.add(in.Event)
	}
	return fired
}

func (e *Engine) takeBacklog() []correlate.Firing {
	b := e.backlog
	e.backlog = nil
	return b
}

// findings makes findings of what fired; the caller holds mu and correlating.
func (e *Engine) findings(fired []correlate.Firing) []finding.Finding {
	if len(fired) == 0 {
		return nil
	}
	out := make([]finding.Finding, 0, len(fired))
	for i := range fired {
		f := e.finding(&fired[i])
		e.m.firings.WithLabelValues(f.RuleTitle).Inc()
		out = append(out, f)
	}
	return out
}

// Progress tells how far a partition was read; it is called after every
// successful fetch, empty ones too.
func (e *Engine) Progress(p event.Partition, position, highWatermark int64, now event.Instant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.marks(p.Topic).fetched(p, position, highWatermark, now)
}

// Tick lets time pass: the watermark may advance when partitions are drained.
func (e *Engine) Tick(now event.Instant) []finding.Finding {
	e.mu.Lock()
	defer e.mu.Unlock()
	mark, past := e.live.advance(now), e.history.advance(now)
	holders := e.live.holders(now)
	e.correlating.Lock()
	defer e.correlating.Unlock()
	if e.live.allFetched() {
		e.windows.GoLive()
	}
	if e.history.allFetched() {
		e.past.GoLive()
	}
	e.watch(now, mark, holders)
	return append(e.findings(e.past.Advance(past, e.windows.Advance(mark, e.takeBacklog()))), e.clocksOff(now)...)
}

// heldAfter is how far the watermark may lag before the log says who holds it.
const heldAfter = time.Minute

// watch measures the watermark and says, once a minute, who holds it.
func (e *Engine) watch(now, mark event.Instant, holders []event.Partition) {
	e.m.holding.Set(float64(len(holders)))
	if mark == noTS {
		return
	}
	lag := now.Sub(mark)
	e.m.lag.Set(lag.Seconds())
	if lag < heldAfter+e.cfg.Lateness || len(holders) == 0 || now.Sub(e.told) < heldAfter {
		return
	}
	e.told = now
	e.log.Warn("a partition holds the watermark: ratios, absences and windows that look forward wait for it",
		"partition", holders[0].String(), "active", len(holders), "behind", lag.Round(time.Second).String())
}

// Diagnose sets causes and traits of re-read events without touching any state,
// and flags the refused ones.
func (e *Engine) Diagnose(events []event.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.diagnoser(e.clocks, &e.cfg)
	for i := range events {
		ev := &events[i]
		e.derive(ev)
		if ev.Refused() {
			v := d.diagnose(ev)
			ev.Cause, ev.CauseConfidence, ev.CauseGrounds, ev.Rediagnosed = v.cause, v.confidence, v.grounds, true
		}
		ev.Traits = e.judgeTraits(ev)
	}
}

// SwapRules replaces the rules; the state of unchanged rules survives.
func (e *Engine) SwapRules(set *rules.Set) error {
	if set == nil || set.Program() == nil {
		return errors.New("detect: no compiled rules given")
	}
	e.swap.Lock()
	defer e.swap.Unlock()
	e.correlating.Lock()
	defer e.correlating.Unlock()
	next, past := e.newWindows(set)
	next.Migrate(e.windows)
	past.Migrate(e.past)
	e.windows, e.past, e.set = next, past, set
	e.logProblems(next)
	return nil
}
