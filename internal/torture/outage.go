package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/internal/stage"
)

// ramp is how long a daemon runs before it is measured: its first memory and
// connections are no steady state.
const ramp = 5 * time.Second

// before is how long the steady state is measured before an outage.
func before(outage time.Duration) time.Duration {
	return min(max(outage/5, 10*time.Second), time.Minute)
}

// outageEvents is enough for the time before, the outage, and a catching up that
// just does not keep its bar. What is not needed is not sent.
func outageEvents(o Options) int {
	all := ramp + before(o.Outage) + o.Outage + o.Outage/2 + 2*patience
	return int(o.Rate * all.Seconds())
}

// playOutage takes ClickHouse away for long under a steady load, and measures
// what detection has of it, and how fast storage catches up.
func playOutage(ctx context.Context, t *trial, r *Result) error {
	r.Outage = &OutageFigures{}
	t.round = 1
	t.flow.open(t.opt.Events, t.opt.Rate)
	if _, err := t.firstInsert(ctx, time.Now(), 0); err != nil {
		return err
	}
	if err := stage.Pause(ctx, ramp); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	p := newProbes(t.kafka)
	probed := make(chan error, 1)
	go func() { probed <- p.run(watching) }()
	err := t.suffer(ctx, p, r)
	stop()
	return errors.Join(err, <-probed)
}

func (t *trial) suffer(ctx context.Context, p *probes, r *Result) (err error) {
	o, d := r.Outage, t.slots[0].daemon
	if err := stage.Pause(ctx, before(t.opt.Outage)); err != nil {
		return err
	}
	n := 0
	if o.AlertP50MSBefore, o.AlertP99MSBefore, n, err = p.take(); err != nil {
		return err
	}
	o.PeakRSSMBBefore = d.PeakRSS()
	t.say("before: %d probes, median %.0f ms; peak %.0f MB", n, o.AlertP50MSBefore, o.PeakRSSMBBefore)
	rows, err := t.rows(ctx)
	if err != nil {
		return err
	}
	t.stage.KillClickHouse()
	began, sent := time.Now(), t.flow.sent()
	for left := t.opt.Outage; left > 0; left = t.opt.Outage - time.Since(began) {
		if err := errors.Join(stage.Pause(ctx, min(left, time.Second)), t.running()); err != nil {
			return err
		}
	}
	o.Seconds = time.Since(began).Seconds()
	o.EventsPerS = float64(t.flow.sent()-sent) / o.Seconds
	if o.EventsPerS < leastRate*t.opt.Rate {
		return fmt.Errorf("only %.0f of %.0f events/s could be produced: this machine is too small for the load", o.EventsPerS, t.opt.Rate)
	}
	if o.AlertP50MS, o.AlertP99MS, n, err = p.take(); err != nil {
		return err
	}
	t.say("outage of %.0f s at %.0f events/s: %d probes, median %.0f ms; peak %.0f MB", o.Seconds, o.EventsPerS, n, o.AlertP50MS, d.PeakRSS())
	return t.catchUp(ctx, rows, r)
}

// leastRate is the part of the wished rate that must be reached.
const leastRate = 0.9

// caughtUpWithin is how far behind storage may be, in seconds of input, when it
// counts as having caught up.
const caughtUpWithin = 1.0

// catchUp brings ClickHouse back and measures until storage is near the end
// again, while the input goes on.
func (t *trial) catchUp(ctx context.Context, rows uint64, r *Result) error {
	o := r.Outage
	base, err := t.clickHouseBack(ctx, rows)
	if err != nil {
		return err
	}
	began := time.Now()
	recovery, err := t.firstInsert(ctx, began, base)
	if err != nil {
		return err
	}
	t.recovered(r, recovery, fmt.Sprintf("ClickHouse was away for %.0f s", o.Seconds))
	deadline := began.Add(t.opt.Outage/2 + patience)
	for {
		behind, err := t.behind(ctx)
		if err == nil && float64(behind) <= caughtUpWithin*t.opt.Rate {
			break
		}
		if time.Now().After(deadline) {
			t.say("%d records are still to be stored; the measurement ends here", behind)
			break
		}
		if err := errors.Join(stage.Pause(ctx, 10*lookEvery), t.running()); err != nil {
			return err
		}
	}
	o.CatchUpS = time.Since(began).Seconds()
	now, err := t.rows(ctx)
	if err != nil {
		return err
	}
	o.CatchUpRatio = float64(now-base) / o.CatchUpS / t.opt.Rate
	o.PeakRSSMBDuring = t.slots[0].daemon.PeakRSS()
	t.say("caught up: %d rows in %.1f s, %.1f times the input; peak %.0f MB", now-base, o.CatchUpS, o.CatchUpRatio, o.PeakRSSMBDuring)
	t.flow.finish()
	return nil
}
