package e2ebench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/internal/stage"
	"github.com/keysentry/keysentry/store"
)

const (
	lookEvery = 20 * time.Millisecond
	patience  = 2 * time.Minute
)

// moment is a point of the run and what was used until then.
type moment struct {
	at             time.Time
	daemon, server time.Duration
}

func (b *bench) now() (m moment, err error) {
	m.at = time.Now()
	if m.daemon, err = stage.CPU(b.daemon.Pid()); err != nil {
		return m, err
	}
	m.server, err = stage.CPU(b.stage.ClickHousePid())
	return m, err
}

// throughput runs the daemon over the filled topic until everything is stored.
func (b *bench) throughput(ctx context.Context) (err error) {
	b.say("starting the daemon")
	if b.daemon, err = b.stage.StartDaemon(b.cfg); err != nil {
		return err
	}
	from, err := b.begin(ctx)
	if err != nil {
		return err
	}
	if err := b.stored(ctx, b.store, uint64(b.opt.Events)); err != nil {
		return err
	}
	to, err := b.now()
	if err != nil {
		return err
	}
	n := float64(b.opt.Events)
	took := to.at.Sub(from.at)
	b.result.EventsPerS = n / took.Seconds()
	b.result.CPUUsPerEvent = float64((to.daemon - from.daemon).Microseconds()) / n
	b.result.PeakRSSMB = b.daemon.PeakRSS()
	b.say("stored in %.2f s: %.0f events/s; the daemon used %.2f s of processor time, and %.2f s before its first event",
		took.Seconds(), b.result.EventsPerS, (to.daemon - from.daemon).Seconds(), from.daemon.Seconds())
	if err := b.mergesOver(ctx); err != nil {
		return err
	}
	end, err := b.now()
	if err != nil {
		return err
	}
	b.result.ServerUsPerEvent = float64((end.server - from.server).Microseconds()) / n
	return b.check(ctx)
}

// begin is the last look before the daemon had read anything.
func (b *bench) begin(ctx context.Context) (before moment, err error) {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		look, err := b.now()
		if err != nil {
			return before, errors.Join(err, b.daemon.Running())
		}
		// Until its port is open the daemon answers nothing.
		st, err := b.daemon.Status(ctx)
		if err == nil {
			for _, p := range st.Positions {
				if p.Detected > 0 || p.Stored > 0 {
					b.result.Rules = st.Rules
					return before, nil
				}
			}
		}
		before = look
		if err := stage.Pause(ctx, lookEvery); err != nil {
			return before, err
		}
	}
	return before, errors.Join(fmt.Errorf("the daemon read nothing for %v", patience), b.daemon.Running())
}

// stored waits until a database holds n rows of events.
func (b *bench) stored(ctx context.Context, c *store.Client, n uint64) error {
	last, since := uint64(0), time.Now()
	for {
		got, err := stage.Number(ctx, c, "SELECT count() FROM events")
		switch {
		case err == nil && got >= n:
			return nil
		case err == nil && got > last:
			last, since = got, time.Now()
		case time.Since(since) > patience:
			return errors.Join(fmt.Errorf("%d of %d events stored, and nothing new for %v", last, n, patience), err, b.daemon.Running())
		}
		if err := stage.Pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// mergesOver waits until the server has merged nothing for two seconds.
func (b *bench) mergesOver(ctx context.Context) error {
	idle := time.Now()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		n, err := stage.Number(ctx, b.store, "SELECT count() FROM system.merges")
		if err != nil {
			return err
		}
		if n > 0 {
			idle = time.Now()
		}
		if time.Since(idle) > 2*time.Second {
			return nil
		}
		if err := stage.Pause(ctx, 5*lookEvery); err != nil {
			return err
		}
	}
	return nil // they go on for long: what they used until now is counted
}

// check sees that the figures are about what they say.
func (b *bench) check(ctx context.Context) error {
	c, err := b.store.Count(ctx, topic)
	if err != nil {
		return err
	}
	n := uint64(b.opt.Events)
	if c.Distinct != n || c.Final != n || c.View != n || c.Quarantine != 0 {
		return fmt.Errorf("%d events went in, and ClickHouse holds %+v", n, c)
	}
	return nil
}
