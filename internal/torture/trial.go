package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/ingest/kafka"
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
	slots []slot
	peak  float64
	round int
}

type slot struct {
	cfg    *config.Config
	daemon *stage.Daemon
}

// try runs one fault from an empty topic to the count.
func try(ctx context.Context, o Options, f fault) (r Result, err error) {
	t := &trial{opt: o, rng: rand.New(rand.NewPCG(o.Seed, 0x746f7274757265))}
	t.say("%s: version %s, %d rounds, %d events, broker %s", f.name, o.Version, o.Rounds, o.Events, o.Broker)
	t.stage, err = stage.New(ctx, stage.Options{Broker: o.Broker, Progress: o.Progress,
		Topics: []devstack.Topic{{Name: topic, Partitions: partitions, Configs: devstack.LogAppendTime()}}})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.stage.Close()) }()
	if t.kafka, err = t.stage.Kafka(); err != nil {
		return r, err
	}
	defer t.kafka.Close()
	if t.store, err = t.stage.Store(config.Default().Store.Database); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.store.Close()) }()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.flow = newFlow(o, t.kafka)
	watch := newOffsetWatch(t.kafka, config.Default().Kafka.Group.ID)
	background := make(chan error, 2)
	go func() { background <- stopOnError(cancel, "produce", t.flow.run(ctx)) }()
	go func() { background <- watch.run(ctx) }()
	r = Result{Fault: f.name, Rounds: o.Rounds, Seed: o.Seed}
	err = t.play(ctx, f, &r)
	if err != nil && context.Cause(ctx) != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	cancel(nil)
	err = errors.Join(err, <-background, <-background)
	r.PeakRSSMB, r.OffsetWentBack = t.peak, watch.back
	r.judge()
	return r, err
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

// strikeWithin is the span after a round's first insert from which the moment
// of the fault is drawn; the round's events are spread over a little more.
const strikeWithin = 2 * time.Second

// play goes through the rounds, lets everything be stored, and counts.
func (t *trial) play(ctx context.Context, f fault, r *Result) error {
	for i := range f.daemons {
		if err := t.addDaemon("member-" + strconv.Itoa(i+1)); err != nil {
			return err
		}
	}
	share := t.opt.Events / (t.opt.Rounds + 1)
	pace := float64(share) / strikeWithin.Seconds()
	for t.round = 1; t.round <= t.opt.Rounds; t.round++ {
		upTo := share * t.round
		if t.round == 1 { // later rounds' first insert is the last round's recovery
			t.flow.open(share/2, pace)
			if _, err := t.firstInsert(ctx, time.Now(), 0); err != nil {
				return err
			}
		}
		t.flow.open(upTo, pace)
		moment := time.Duration(t.rng.Float64() * float64(strikeWithin))
		if err := stage.Pause(ctx, moment); err != nil {
			return err
		}
		recovery, err := f.strike(ctx, t)
		if err != nil {
			return fmt.Errorf("round %d: %w", t.round, err)
		}
		r.RecoverySMax = max(r.RecoverySMax, recovery)
		t.say("%s: round %d of %d: %.2f s after the first insert; stored again after %.2f s; %d events sent",
			f.name, t.round, t.opt.Rounds, moment.Seconds(), recovery, t.flow.sent())
	}
	t.flow.open(t.opt.Events, 0)
	if err := t.flow.wait(ctx); err != nil {
		return err
	}
	if err := t.settle(ctx); err != nil {
		return err
	}
	return t.count(ctx, r)
}

// feed lets the next round's first events in, for the first insert after a
// repair.
func (t *trial) feed() {
	share := t.opt.Events / (t.opt.Rounds + 1)
	t.flow.open(share*t.round+share/2, float64(share)/strikeWithin.Seconds())
}

func (t *trial) addDaemon(name string) error {
	cfg, err := t.stage.Configure(name, nil)
	if err != nil {
		return err
	}
	d, err := t.stage.StartDaemon(cfg)
	if err != nil {
		return err
	}
	t.slots = append(t.slots, slot{cfg, d})
	return nil
}

// restart replaces the daemon of a slot that has ended.
func (t *trial) restart(s *slot) (err error) {
	t.peak = max(t.peak, s.daemon.PeakRSS())
	s.daemon, err = t.stage.StartDaemon(s.cfg)
	return err
}

// running is an error when a daemon ended that nobody had ended.
func (t *trial) running() error {
	for _, s := range t.slots {
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
