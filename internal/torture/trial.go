package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/stage"
	"github.com/keysentry/keysentry/store"
)

// partitions of the topic: more than one, so that positions can differ.
const partitions = 4

// trial is one fault's run.
type trial struct {
	opt   Options
	rng   *rand.Rand
	stage *stage.Stage
	store *store.Client
	kafka *kafka.Client
	flow  *flow

	// slots are the daemons that should run, each with its configuration; a
	// daemon that was ended is replaced in its slot.
	slots []*slot
	peak  float64
	round int

	// deleted is below which offset retention removed records.
	deleted map[int32]int64
	// gapWrong is how many records the daemon counted as lost in other numbers
	// than it journaled, and toldMax how late it did, in seconds.
	gapWrong int64
	toldMax  float64

	lostCommits float64 // commits that failed because their answer was lost
}

// slot is a place for one daemon after the other.
type slot struct {
	cfg    *config.Config
	daemon *stage.Daemon // nil: none yet
	absent bool          // it was ended on purpose, and nobody is to miss it
}

// try runs one fault from an empty topic to the verdict.
func try(ctx context.Context, o Options, f fault) (r Result, err error) {
	t, err := newTrial(ctx, o, f.needs)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	t.say("%s: version %s, %d rounds, %d events, broker %s", f.name, o.Version, o.Rounds, o.Events, o.Broker)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := newOffsetWatch(t.kafka, config.Default().Kafka.Group.ID)
	background := make(chan error, 2)
	go func() { background <- stopOnError(cancel, "produce", t.flow.run(ctx)) }()
	go func() { background <- watch.run(ctx) }()
	r = Result{Fault: f.name, Rounds: o.Rounds, Seed: o.Seed, RecoveryBarS: f.bar.Seconds()}
	err = t.playAndCount(ctx, f, &r)
	if err != nil && context.Cause(ctx) != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	cancel(nil)
	err = errors.Join(err, <-background, <-background)
	if err == nil && watch.looks == 0 {
		err = errors.New("the committed offsets were never seen: nothing can be said of them")
	}
	r.PeakRSSMB, r.OffsetWentBack = t.peak, watch.back
	r.judge()
	return r, err
}

// newTrial starts the servers. Whoever has it closes it.
func newTrial(ctx context.Context, o Options, n needs) (_ *trial, err error) {
	t := &trial{opt: o, rng: rand.New(rand.NewPCG(o.Seed, 0x746f7274757265)), deleted: map[int32]int64{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	t.stage, err = stage.New(ctx, stage.Options{Broker: o.Broker, Progress: o.Progress,
		ProxyClickHouse: n.clickhouseProxy, ProxyBroker: n.brokerProxy,
		Topics: []devstack.Topic{{Name: topic, Partitions: partitions, Configs: devstack.LogAppendTime()}}})
	if err != nil {
		return nil, err
	}
	if t.kafka, err = t.stage.Kafka(); err != nil {
		return nil, err
	}
	if t.store, err = t.stage.Store(config.Default().Store.Database); err != nil {
		return nil, err
	}
	t.flow = newFlow(o, t.kafka)
	return t, nil
}

func (t *trial) close() error {
	var errs []error
	if t.store != nil {
		errs = append(errs, t.store.Close())
	}
	if t.kafka != nil {
		t.kafka.Close()
	}
	if t.stage != nil {
		errs = append(errs, t.stage.Close())
	}
	return errors.Join(errs...)
}

// stopOnError ends the trial when a part of it fails, but not when it was ended.
func stopOnError(cancel context.CancelCauseFunc, what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	cancel(err)
	return err
}

// playAndCount plays the fault, lets everything be stored, and counts.
func (t *trial) playAndCount(ctx context.Context, f fault, r *Result) error {
	for i := range f.daemons {
		s, err := t.addSlot()
		if err != nil {
			return err
		}
		var at app.DieAt
		if i == 0 && f.needs.dieAt != nil {
			at = f.needs.dieAt(t)
		}
		if err := t.start(s, at); err != nil {
			return err
		}
	}
	if err := f.play(ctx, t, r); err != nil {
		return err
	}
	t.flow.open(t.flow.goal(), 0)
	if err := t.flow.wait(ctx); err != nil {
		return err
	}
	if err := t.settle(ctx); err != nil {
		return err
	}
	return t.count(ctx, r)
}

// addSlot makes a place for a daemon, with a configuration of its own.
func (t *trial) addSlot() (*slot, error) {
	cfg, err := t.stage.Configure("member-"+strconv.Itoa(len(t.slots)+1), nil)
	if err != nil {
		return nil, err
	}
	s := &slot{cfg: cfg, absent: true}
	t.slots = append(t.slots, s)
	return s, nil
}

// start starts a daemon in a slot whose last one has ended; at may be zero.
func (t *trial) start(s *slot, at app.DieAt) (err error) {
	var args []string
	if at != (app.DieAt{}) {
		args = []string{"--die-at", at.String()}
	}
	if s.daemon != nil {
		t.peak = max(t.peak, s.daemon.PeakRSS())
	}
	s.daemon, err = t.stage.StartDaemon(s.cfg, args...)
	s.absent = err != nil
	return err
}

// end ends a slot's daemon, by kill -9 or in an orderly way, which must not take
// too long.
func (t *trial) end(ctx context.Context, s *slot, kill bool) error {
	if err := s.daemon.Running(); err != nil {
		return err
	}
	t.peak = max(t.peak, s.daemon.PeakRSS())
	s.absent = true
	if kill {
		s.daemon.Kill()
		return nil
	}
	stop, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	took, err := s.daemon.Stop(stop)
	if err == nil {
		t.say("round %d: %s stopped within %.2f s", t.round, s.cfg.Instance, took.Seconds())
	}
	return err
}

// running is an error when a daemon ended that nobody had ended.
func (t *trial) running() error {
	for _, s := range t.slots {
		if s.absent {
			continue
		}
		if err := s.daemon.Running(); err != nil {
			return err
		}
		t.peak = max(t.peak, s.daemon.PeakRSS())
	}
	return nil
}

func (t *trial) say(format string, args ...any) {
	fmt.Fprintf(t.opt.Progress, "keysentry: "+format+"\n", args...)
}
