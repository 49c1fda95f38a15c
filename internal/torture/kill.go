package torture

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keysentry/keysentry/internal/app"
)

// strikeKill ends the daemon as kill -9 does and starts it on the same data
// folder.
func strikeKill(ctx context.Context, t *trial) (float64, error) {
	return t.again(ctx, true)
}

// stopWithin is how long a stop in an orderly way may take, RESPONSE: SIGTERM
// under load.
const stopWithin = 10 * time.Second

// strikeTerm asks the daemon to stop, which it must do in time with exit code 0,
// and starts it again.
func strikeTerm(ctx context.Context, t *trial) (float64, error) {
	return t.again(ctx, false)
}

// again ends the only daemon and starts it again.
func (t *trial) again(ctx context.Context, kill bool) (float64, error) {
	s := t.slots[0]
	if err := t.end(ctx, s, kill); err != nil {
		return 0, err
	}
	return t.comeBack(ctx, func() error { return t.start(s, app.DieAt{}) })
}

// maxPassing bounds how often a point is passed before the daemon dies at it: a
// round has few batches.
const maxPassing = 6

// dieWithin draws the passing at which a daemon dies.
func dieWithin(point string) func(t *trial) app.DieAt {
	return func(t *trial) app.DieAt { return app.DieAt{Point: point, Passing: 1 + t.rng.Int64N(maxPassing)} }
}

// playPoint lets the daemon die at a named point in every round, and starts it
// again on the same data folder.
func playPoint(point string) func(ctx context.Context, t *trial, r *Result) error {
	next := dieWithin(point)
	return func(ctx context.Context, t *trial, r *Result) error {
		s := t.slots[0]
		for t.round = 1; t.round <= t.opt.Rounds; t.round++ {
			t.flow.open(t.share()*t.round, t.pace())
			if err := t.awaitDeath(ctx, s, point); err != nil {
				return fmt.Errorf("round %d: %w", t.round, err)
			}
			var at app.DieAt // the last one is to live
			if t.round < t.opt.Rounds {
				at = next(t)
			}
			recovery, err := t.revive(ctx, s, at)
			if err != nil {
				return fmt.Errorf("round %d: %w", t.round, err)
			}
			t.recovered(r, recovery, "died "+point)
		}
		return nil
	}
}

// revive starts a daemon until one stores something before it dies, each later
// than the last, and returns how long that took from its start.
func (t *trial) revive(ctx context.Context, s *slot, at app.DieAt) (float64, error) {
	for ; ; at.Passing *= 2 {
		if err := t.insertsOver(ctx); err != nil {
			return 0, err
		}
		base, err := t.rows(ctx)
		if err != nil {
			return 0, err
		}
		t.feed()
		began, stored := time.Now(), false
		if err := t.start(s, at); err != nil {
			return 0, err
		}
		err = t.until(ctx, "something is stored", func(ctx context.Context) (bool, error) {
			n, err := t.rows(ctx)
			stored = err == nil && n > base
			return stored || s.daemon.Running() != nil, err
		})
		switch {
		case stored || err != nil:
			return time.Since(began).Seconds(), err
		case at == (app.DieAt{}):
			return 0, t.running()
		}
		if err := t.awaitDeath(ctx, s, at.Point); err != nil {
			return 0, err
		}
	}
}

// awaitDeath waits until a slot's daemon has ended itself at a point. Anything
// else that ended it, and that nothing did, is an error: then the fault did not
// happen.
func (t *trial) awaitDeath(ctx context.Context, s *slot, point string) error {
	s.absent = true
	err := t.until(ctx, s.cfg.Instance+" dies at "+point, func(context.Context) (bool, error) {
		return s.daemon.Running() != nil, nil
	})
	if err != nil {
		return err
	}
	t.peak = max(t.peak, s.daemon.PeakRSS())
	if words := s.daemon.LastWords(); !s.daemon.Killed() || !diedAt(words, point) {
		return fmt.Errorf("%s ended, but not at %s; its last words:\n%s", s.cfg.Instance, point, words)
	}
	return nil
}

// diedAt reports whether the last line of a log says that the point was reached.
func diedAt(log, point string) bool {
	log = strings.TrimSpace(log)
	last := log[strings.LastIndexByte(log, '\n')+1:]
	return strings.Contains(last, app.DyingWords) && strings.Contains(last, point+":")
}
