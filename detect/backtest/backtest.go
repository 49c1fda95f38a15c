package backtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Querier asks ClickHouse; see package stored.
type Querier = stored.Querier

// Rows is an answer.
type Rows = stored.Rows

// Config of a backtest.
type Config struct {
	// From and To bound the effective time: [From, To).
	From, To event.Instant
	// Slice is how much time one query covers.
	Slice time.Duration
	// MaxLateness is how long after its effective time an event may have been
	// observed, at most: what ingest clamps by.
	MaxLateness time.Duration
	// QueryBytes bounds the predicates of one query: the server refuses a
	// statement above its max_query_size. The queries of a slice, at most 8, run
	// at the same time.
	QueryBytes int
	// Windows bounds the correlator; its Lateness and Standalone are taken as the
	// daemon would set them.
	Windows correlate.Config
	// Cost measures the predicate of every rule by itself, with one more query
	// per rule over the last slice.
	Cost bool
}

// DefaultConfig reads a day at a time, with statements below the server's default of 256 KiB.
func DefaultConfig() Config {
	return Config{Slice: 24 * time.Hour, MaxLateness: 24 * time.Hour, QueryBytes: 100_000, Windows: correlate.DefaultConfig()}
}

// Validate reports every fault, each beginning with the field.
func (c Config) Validate() []error {
	var errs []error
	if c.From <= 0 {
		errs = append(errs, errors.New("from: give a time"))
	}
	if c.To <= c.From {
		errs = append(errs, errors.New("to: must be after from"))
	}
	if c.Slice < time.Minute {
		errs = append(errs, errors.New("slice: must be at least 1m"))
	}
	if c.MaxLateness < time.Minute {
		errs = append(errs, errors.New("max_lateness: must be at least 1m"))
	}
	if c.QueryBytes < 1 {
		errs = append(errs, errors.New("query_bytes: must be positive"))
	}
	for _, err := range c.Windows.Validate() {
		errs = append(errs, fmt.Errorf("windows.%w", err))
	}
	return errs
}

// Deps is what a backtest needs from outside.
type Deps struct {
	Rules *rules.Set
	Store Querier
	// Now measures costs.
	Now func() time.Time
	// Progress, when set, is called after every slice.
	Progress func(Progress)
	// Finding, when set, is called for every finding of the range, once its
	// episode is over or the range is.
	Finding func(Finding)
}

// Progress says how far a backtest is.
type Progress struct {
	At   event.Instant // everything before is done
	Done float64       // part of the whole, 0 to 1
	Rows uint64        // events that matched, so far
}

// Finding is one finding that would have fired.
type Finding struct {
	Meta        *rules.Meta
	Group       []finding.Pair
	First, Last event.Instant // first and last satisfying time
	Fired       event.Instant
	Count       uint64
	Value       float64
	Refs        []event.Ref
}

// run is the state of one backtest.
type run struct {
	cfg  Config
	deps Deps

	plan    *stored.Plan
	queries *stored.Queries // of every rule
	early   *stored.Queries // of the rules that remember, for what lies before the windows
	windows event.Instant
	covered coverage
	judged  judged
	corr    *correlate.Correlator
	matcher *rules.Matcher

	from    event.Instant // of the events that fill the windows
	rows    uint64
	matches []uint64 // by place in Set.Rules, of the range
	open    map[string]*episode
	order   uint64
	tally   map[*rules.Meta]*tally
	fired   []correlate.Firing
	events  uint64
	server  time.Duration
	local   time.Duration
}

// episode is a finding whose end is not known.
type episode struct {
	Finding
	order uint64
}

// tally counts the findings of one rule.
type tally struct {
	findings uint64
	groups   map[string]struct{}
	verdicts Verdicts
}

// Run judges the stored events of the range.
func Run(ctx context.Context, cfg Config, deps Deps) (*Report, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if deps.Rules == nil || deps.Store == nil || deps.Now == nil {
		return nil, errors.New("backtest: rules, store and clock are required")
	}
	cfg.Windows.Standalone = true
	r := &run{deps: deps, matcher: rules.NewMatcher(deps.Rules.Program()),
		matches: make([]uint64, len(deps.Rules.Rules)), open: map[string]*episode{}, tally: map[*rules.Meta]*tally{}}
	cfg.Windows.Coverage = func(group []finding.Pair, from, to event.Instant) (float64, bool) {
		return r.covered.ofGroup(group, from, to)
	}
	r.cfg, r.corr = cfg, correlate.New(deps.Rules, cfg.Windows)
	r.plan = stored.NewPlan(deps.Rules)
	r.queries = r.plan.Queries(cfg.QueryBytes, func(int) (string, bool) { return "", true })
	r.early = r.plan.Queries(cfg.QueryBytes, remembering(deps.Rules))
	if n := r.queries.Len(); n > stored.MaxQueries {
		return nil, fmt.Errorf("the rules need %d queries at a time, and %d are possible: give fewer rules", n, stored.MaxQueries)
	}
	r.windows = max(cfg.From.Add(-2*r.corr.Lookback()), 1)
	r.from = r.windows
	if r.early.Len() > 0 {
		r.from = max(min(r.windows, cfg.From.Add(-r.corr.History())), 1)
	}
	var err error
	if r.covered, err = r.coverageOf(ctx); err != nil {
		return nil, err
	}
	if r.judged, err = r.verdicts(ctx); err != nil {
		return nil, err
	}
	for at := r.from; at < cfg.To; {
		next := min(at.Add(cfg.Slice), cfg.To)
		for _, bound := range []event.Instant{r.windows, cfg.From} {
			if at < bound {
				next = min(next, bound)
			}
		}
		if err := r.slice(ctx, at, next); err != nil {
			return nil, fmt.Errorf("events from %s to %s: %w", at, next, err)
		}
		at = next
		if deps.Progress != nil {
			deps.Progress(Progress{At: at, Done: float64(at-r.from) / float64(cfg.To-r.from), Rows: r.rows})
		}
	}
	r.fired = r.corr.Advance(cfg.To, r.fired[:0])
	r.take()
	r.settleAll()
	rep := r.report()
	if cfg.Cost {
		if err := r.cost(ctx, rep); err != nil {
			return nil, fmt.Errorf("measure the cost of rules: %w", err)
		}
	}
	return rep, nil
}

// remembering tells the places of the rules that correlations with a memory take
// in, through others too.
func remembering(set *rules.Set) func(place int) (string, bool) {
	places := map[int]bool{}
	var mark func(c *rules.Correlation)
	mark = func(c *rules.Correlation) {
		for _, in := range c.Inputs {
			if in.Rule != nil {
				places[in.Rule.Index] = true
			} else {
				mark(in.Correlation)
			}
		}
	}
	for _, c := range set.Correlations {
		if correlate.HistoryOf(c) > 0 {
			mark(c)
		}
	}
	return func(place int) (string, bool) { return "", places[place] }
}

// advanceEvery is how much time passes between two moves of the watermark, which
// do not change the episodes.
const advanceEvery = time.Second

// slice judges the events of [from, to).
func (r *run) slice(ctx context.Context, from, to event.Instant) error {
	began := r.deps.Now()
	total, err := r.count(ctx, from, to)
	if err != nil {
		return err
	}
	if from >= r.cfg.From {
		r.events += total
	}
	if total == 0 {
		r.server += r.deps.Now().Sub(began)
		return nil
	}
	q := r.queries
	if from < r.windows {
		q = r.early
	}
	m, err := q.Open(ctx, r.deps.Store, stored.Within(from, to, r.cfg.MaxLateness), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	asked := r.deps.Now()
	r.server += asked.Sub(began)
	for moved := from; m.Next(); {
		row := m.Row()
		r.observe(row)
		if ts := row.Event.TS; ts.Sub(moved) >= advanceEvery {
			r.advance(ts)
			moved = ts
		}
	}
	r.local += r.deps.Now().Sub(asked)
	return m.Err()
}

func (r *run) observe(row *stored.Row) {
	r.rows++
	e := &row.Event
	if e.TS >= r.cfg.From {
		for _, i := range row.Hits {
			r.matches[i]++
		}
	}
	r.matcher.Read(e)
	r.fired = r.corr.Observe(correlate.Input{Matched: row.Hits, Values: r.matcher, Event: e, TS: e.TS, Ref: e.Ref}, r.fired[:0])
	r.take()
}

// advance moves the watermark as the daemon would, and lets go of the episodes
// that are over.
func (r *run) advance(ts event.Instant) {
	r.fired = r.corr.Advance(ts.Add(-r.cfg.Windows.Lateness), r.fired[:0])
	r.take()
}

// take notes what fired and how episodes went on.
func (r *run) take() {
	for i := range r.fired {
		f := &r.fired[i]
		if f.Repeat {
			continue
		}
		r.order++
		r.open[f.ID] = &episode{order: r.order, Finding: Finding{Meta: f.Meta(), Group: f.Group, First: f.First, Last: f.Last, Fired: f.Fired,
			Count: f.Count, Value: f.Value, Refs: f.Refs}}
	}
	for _, u := range r.corr.TakeUpdates() {
		ep := r.open[u.ID]
		if ep == nil {
			continue
		}
		ep.First, ep.Last, ep.Count = u.First, u.Last, u.Count
		if u.Closed {
			delete(r.open, u.ID)
			r.settle(ep)
		}
	}
}

// settleAll counts the episodes that the range ends in, in the order in which
// they fired.
func (r *run) settleAll() {
	eps := slices.Collect(maps.Values(r.open))
	clear(r.open)
	slices.SortFunc(eps, func(a, b *episode) int { return cmp.Compare(a.order, b.order) })
	for _, ep := range eps {
		r.settle(ep)
	}
}

// settle counts a finding, if it belongs to the range.
func (r *run) settle(ep *episode) {
	if ep.First < r.cfg.From || ep.First >= r.cfg.To {
		return
	}
	t := r.tally[ep.Meta]
	if t == nil {
		t = &tally{groups: map[string]struct{}{}}
		r.tally[ep.Meta] = t
	}
	t.findings++
	t.groups[fmt.Sprintf("%q", ep.Group)] = struct{}{}
	t.verdicts.count(r.judged.on(&ep.Finding))
	if r.deps.Finding != nil {
		r.deps.Finding(ep.Finding)
	}
}

func perDay(n uint64, days float64) float64 { return math.Round(float64(n)/days*1000) / 1000 }
