package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/rules"
)

// session is one leadership: an engine whose windows belong to it, and the
// pipeline that feeds it.
type session struct {
	epoch    int64
	engine   *detect.Engine
	pipeline *ingest.Pipeline
	rules    *rules.Set // that the engine was made with
	clocks   *clocks
	ctx      context.Context // ends with the leadership
	end      context.CancelFunc
}

// consume joins the group and works on what it is assigned, until ctx ends.
func (a *App) consume(ctx context.Context) error {
	if err := a.journal.CaughtUp(ctx); err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	for {
		err := a.member(ctx)
		switch {
		case kafka.Refused(err):
			return operator("consumer group", a.kafka.Wire().Explain(err))
		case err != nil:
			return fmt.Errorf("consumer group: %w", err)
		case ctx.Err() != nil || !a.watch.again.Swap(false):
			return nil
		}
	}
}

// member is one membership in the group. The watchdog may end it.
func (a *App) member(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.watch.rejoin.Store(&cancel)
	a.watch.membership.Store(membershipJoining)
	return a.group.Run(ctx, a.serve)
}

// serve works for one generation of the group.
func (a *App) serve(ctx context.Context, as kafka.Assignment) error {
	defer a.watch.membership.Store(membershipJoining)
	a.watch.membership.Store(membershipTaking)
	a.watch.taken.Add(1)
	if as.Standby() {
		a.stepDown()
		a.watch.membership.Store(membershipStanding)
		a.log.Info("standing by", "generation", as.Generation)
		<-ctx.Done()
		return nil
	}
	a.doom.pass(DieInRebalance)
	s, resumed, err := a.lead(ctx, as)
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, errTakeOver):
		// Somebody else wrote first, or the broker did not answer: the group
		// decides again who leads.
		a.log.Warn("take-over failed; joining again", "error", err)
		return pause(ctx, time.Second)
	case err != nil:
		return err
	}
	if !resumed {
		a.doom.pass(DieInTakeOver)
	}
	assigned, err := a.assignment(ctx, as)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Warn("the positions could not be read; joining again", "error", err)
		}
		return pause(ctx, time.Second)
	}
	assigned.Resume = resumed
	a.watch.membership.Store(membershipWorking)
	return a.work(ctx, s, assigned)
}

// assignment is what the group gave this member, with the positions and clocks
// that were kept for it.
func (a *App) assignment(ctx context.Context, as kafka.Assignment) (ingest.Assignment, error) {
	assigned := ingest.Assignment{
		Committed: as.Partitions, Detected: map[event.Partition]int64{}, Clocks: map[event.Partition]offset.Snapshot{}, Committer: as.Commit,
	}
	points, err := a.control.Load(ctx)
	if err != nil {
		return assigned, err
	}
	for p, cp := range points {
		assigned.Detected[p] = cp.Detected
		var snap offset.Snapshot
		if len(cp.Clocks) == 0 {
			continue
		}
		if err := json.Unmarshal(cp.Clocks, &snap); err != nil {
			a.log.Warn("clock estimates are unreadable and begin anew", "partition", p.String(), "error", err)
			continue
		}
		assigned.Clocks[p] = snap
	}
	return assigned, nil
}

// work runs the pipeline until the generation ends or the leadership is lost.
func (a *App) work(ctx context.Context, s *session, assigned ingest.Assignment) error {
	topics := &incarnations{a: a}
	at := func() map[event.Partition]int64 { return positionsOf(s, assigned) }
	if err := topics.check(ctx, at, func() {}); err != nil {
		return ignoreEnd(ctx, err)
	}
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	var watches sync.WaitGroup
	watches.Go(func() {
		repeat(run, time.Second, func() bool {
			_, leading := a.journal.Leading()
			if !leading {
				a.log.Warn("another member leads; giving the partitions back")
				cancel()
			}
			return leading
		})
	})
	var anew error
	watches.Go(func() {
		repeat(run, topicsEvery, func() bool {
			anew = topics.check(ctx, at, cancel)
			return anew == nil
		})
	})
	err := s.pipeline.Run(run, assigned)
	cancel()
	watches.Wait()
	if _, leading := a.journal.Leading(); !leading {
		a.stepDown()
	}
	return ignoreEnd(ctx, cmp.Or(anew, err))
}

// repeat calls look every so often, until it says false or ctx ends.
func repeat(ctx context.Context, every time.Duration, look func() bool) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !look() {
				return
			}
		}
	}
}

// ignoreEnd drops the error of a generation that is over anyway.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return nil
}

var errTakeOver = errors.New("take over")

// lead takes the leadership over, or goes on with the one that this member has.
func (a *App) lead(ctx context.Context, as kafka.Assignment) (s *session, resumed bool, err error) {
	a.mu.Lock()
	s = a.session
	a.mu.Unlock()
	if err := a.journal.CaughtUp(ctx); err != nil {
		return nil, false, fmt.Errorf("%w: %w", errTakeOver, err)
	}
	// Nobody works without taking over first: if the last to do so was this
	// member, its state and positions are good, whatever the group did meanwhile.
	if epoch, leading := a.journal.Leading(); leading && s != nil && s.epoch == epoch {
		return s, true, nil
	}
	a.stepDown()
	epoch, err := a.journal.TakeOver(ctx, event.At(a.opts.Now()), journal.TookOver{Member: a.cfg.Instance, Address: a.URL(), Version: a.opts.Version})
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errTakeOver, err)
	}
	a.group.SetEpoch(epoch)
	s, err = a.newSession(ctx, epoch)
	if err != nil {
		a.journal.StepDown() // nobody works for this leadership
		return nil, false, err
	}
	if err := a.takeUp(s); err != nil {
		a.journal.StepDown()
		return nil, false, err
	}
	a.manager.Lead(s.ctx, epoch)
	a.runner.Lead(s.ctx, epoch)
	a.log.Info("leading", "epoch", epoch, "generation", as.Generation)
	return s, false, nil
}

// takeUp makes s the session that this member works in, on the newest rules: they
// may have been reloaded while it was made.
func (a *App) takeUp(s *session) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if set := a.ruleSet(); set != s.rules {
		if err := s.engine.SwapRules(set); err != nil {
			return operator("rules", err)
		}
	}
	a.mu.Lock()
	a.session = s
	a.mu.Unlock()
	return nil
}

func (a *App) newSession(ctx context.Context, epoch int64) (*session, error) {
	s := &session{epoch: epoch, clocks: &clocks{}, rules: a.ruleSet()}
	var err error
	s.engine, err = detect.New(a.cfg.Detect, detect.Deps{Rules: s.rules, Clocks: s.clocks, Declared: declared(a.cfg), Imported: a.imported, Networks: a.networks,
		Stored: a.stored(), Remembers: true, Logger: a.log, Metrics: a.opts.Metrics})
	if err != nil {
		return nil, operator("detect", err)
	}
	if err := a.loadRegistries(ctx, s.engine); err != nil {
		return nil, fmt.Errorf("%w: %w", errTakeOver, err)
	}
	a.memory.brief(s.engine)
	s.engine.Bar(suspects(a.manager.Suspects()))
	bounded, cancel := context.WithTimeout(ctx, memoryAtStart)
	defer cancel()
	if err := a.loadRuleMemory(bounded, s.engine, false); err != nil {
		a.log.Info("rules that remember are learning until clickhouse answers", "error", err)
	}
	decoder, err := a.newDecoder()
	if err != nil {
		return nil, err
	}
	s.pipeline, err = ingest.New(a.cfg.Ingest.Config, ingest.Deps{
		Source: a.kafka, Writer: &quarantining{EventWriter: &doomed{a.writer, a.doom}, produce: a.produceRejects, log: a.log}, Detector: s.engine, Sink: sink{a},
		Decoder: decoder, Verdicts: kafka.NewVerdicts(a.kafka), VerdictKey: a.verdictKey, Now: a.opts.Now, Log: a.log, Metrics: a.opts.Metrics,
	})
	if err != nil {
		return nil, operator("ingest", err)
	}
	s.clocks.source = s.pipeline.Clocks
	s.ctx, s.end = context.WithCancel(context.Background())
	return s, nil
}

// stepDown ends this member's leadership, if it has one.
func (a *App) stepDown() {
	a.mu.Lock()
	s := a.session
	a.session = nil
	a.mu.Unlock()
	if s == nil {
		return
	}
	a.runner.StepDown()
	a.manager.StepDown()
	a.journal.StepDown()
	s.end()
	s.pipeline.Close()
	a.log.Info("stepped down", "epoch", s.epoch)
}

// engine is the live engine, or nil.
func (a *App) engine() *detect.Engine {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.session == nil {
		return nil
	}
	return a.session.engine
}

func (a *App) tellEngine(f func(*detect.Engine)) {
	if e := a.engine(); e != nil {
		f(e)
	}
}

// episodesEvery is how often open episodes are written to the journal, and
// maxEpisodesAtOnce how many: the rest follows at the next turn.
const (
	episodesEvery     = 5 * time.Second
	maxEpisodesAtOnce = 500
)

// keepEpisodes journals how episodes go on, so that a restart does not fire
// them a second time.
func (a *App) keepEpisodes(ctx context.Context) error {
	tick := time.NewTicker(episodesEvery)
	defer tick.Stop()
	var waiting []journal.Episode
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		e := a.engine()
		if e == nil {
			waiting = nil
			continue
		}
		waiting = append(waiting, e.TakeEpisodeUpdates()...)
		n := min(len(waiting), maxEpisodesAtOnce)
		if n == 0 {
			continue
		}
		entries := make([]journal.Entry, n)
		for i, ep := range waiting[:n] {
			entries[i] = journal.Entry{Kind: journal.KindEpisode, Time: event.At(a.opts.Now()), Body: ep}
		}
		if _, err := a.journal.Append(ctx, entries...); err != nil {
			a.log.Warn("episodes were not journaled; they follow", "error", err)
			continue
		}
		waiting = waiting[n:]
	}
}
