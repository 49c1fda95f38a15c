package app

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/rules"
)

// The seasons of rate_anomaly rules are read off the stored events again by the
// clock, so that a group whose season was lost or dropped for room need not learn
// for days. When it was done last is kept beside the seasons: a run that nobody was there
// for is caught up once by whoever leads.

const (
	// baselinesPoll is how often the clock is looked at.
	baselinesPoll = time.Minute
	// baselinesTimeout bounds the work on one rule, the wait for what is not stored
	// yet included.
	baselinesTimeout = 10 * time.Minute
	// baselinesAgain is the pause after a failure.
	baselinesAgain = time.Hour
)

// baselines rebuilds seasons when they are due.
type baselines struct {
	app    *App
	due    posture.Schedule
	failed map[string]event.Instant // by rule, when it failed last
	groups *prometheus.CounterVec
	runs   *prometheus.CounterVec
}

func (a *App) buildBaselines() (err error) {
	reg := metrics.OrNew(a.opts.Metrics)
	a.baselines = &baselines{app: a, failed: map[string]event.Instant{},
		groups: reg.Counters("baselines", "groups_total", "Groups whose season was read off the stored events: adopted in place of one that knew less, or added.", "how"),
		runs:   reg.Counters("baselines", "rules_total", "Rules of which the seasons were read off the stored events.", "result"),
	}
	a.baselines.due, err = a.cfg.Posture.BaselinesDue()
	return operator("posture.baselines", err)
}

// run works while this member leads.
func (b *baselines) run(ctx context.Context) error {
	if b.due == nil {
		return nil
	}
	return b.app.whenStored(ctx, func(ctx context.Context) error {
		return b.app.whileLeading(ctx, func(ctx context.Context) error {
			for ctx.Err() == nil {
				b.runDue(ctx)
				_ = pause(ctx, baselinesPoll)
			}
			return nil
		})
	})
}

// runDue rebuilds the seasons of each rule that is due.
func (b *baselines) runDue(ctx context.Context) {
	a := b.app
	a.mu.Lock()
	s := a.session
	a.mu.Unlock()
	if s == nil {
		return
	}
	set := s.engine.Rules()
	for _, c := range set.Correlations {
		now := event.At(a.opts.Now())
		if c.Type != rules.RateAnomaly || ctx.Err() != nil || b.failed[c.ID] != 0 && now < b.failed[c.ID].Add(baselinesAgain) {
			continue
		}
		last, err := a.store.MemorySince(ctx, c.ID, c.Logic)
		if err == nil && (last == 0 || b.due.Next(last.Time()).After(now.Time())) {
			continue // it is loading, or not due
		}
		if err == nil {
			err = b.rebuild(ctx, s, set, c, now)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			b.failed[c.ID] = now
			b.runs.WithLabelValues("failed").Inc()
			a.log.Warn("seasons were not read off the stored events; trying again later", "rule", c.ID, "again_in", baselinesAgain.String(), "error", err)
		default:
			delete(b.failed, c.ID)
			b.runs.WithLabelValues("done").Inc()
		}
	}
}

// rebuild reads the seasons of one rule off the events up to now, once those are
// stored: what is missing would be taken for silence.
func (b *baselines) rebuild(ctx context.Context, s *session, set *rules.Set, c *rules.Correlation, now event.Instant) error {
	ctx, cancel := context.WithTimeout(ctx, baselinesTimeout)
	defer cancel()
	a := b.app
	if err := awaitStored(ctx, s); err != nil {
		return err
	}
	read, adopted, added := 0, 0, 0
	err := a.stored().Remembered(ctx, set, c, now.Add(-correlate.HistoryOf(c)), now, func(pieces []memory.Piece) error {
		read += len(pieces)
		more, taken, err := s.engine.Relearn(c.ID, c.Logic, pieces)
		if err != nil {
			a.log.Warn("a season was passed over", "rule", c.ID, "error", err)
		}
		adopted, added = adopted+taken, added+len(more)
		return a.store.WriteMemory(ctx, more)
	})
	if err != nil && !errors.Is(err, stored.ErrNoHistory) {
		return err
	}
	if err := a.store.MarkMemory(ctx, c.ID, c.Logic, now); err != nil {
		return err
	}
	b.groups.WithLabelValues("adopted").Add(float64(adopted))
	b.groups.WithLabelValues("added").Add(float64(added))
	a.log.Info("seasons were read off the stored events", "rule", c.ID, "groups", read, "adopted", adopted, "added", added, "took", a.opts.Now().Sub(now.Time()).String(), "without", err)
	return nil
}

// awaitStored waits until what detection has been shown by now is stored.
func awaitStored(ctx context.Context, s *session) error {
	upTo := map[event.Partition]int64{}
	for _, p := range s.pipeline.Status() {
		upTo[p.Partition] = p.Observed
	}
	for {
		behind := ""
		for _, p := range s.pipeline.Status() {
			if p.Stored < upTo[p.Partition] {
				behind = p.Partition.String()
			}
		}
		if behind == "" {
			return nil
		}
		if _ = pause(ctx, time.Second); ctx.Err() != nil {
			return errors.New("storage is behind detection, first at " + behind)
		}
	}
}
