package torture

import (
	"context"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/internal/stage"
)

// strike breaks something and mends it again, and returns when events are stored
// again: how long that took from the repair on.
type strike func(ctx context.Context, t *trial) (recovery float64, err error)

// strikeWithin is the span after a round's first insert from which the moment
// of the fault is drawn; the round's events are spread over a little more.
const strikeWithin = 2 * time.Second

// inRounds strikes once in every round, at a moment that the seed draws.
func inRounds(s strike) func(ctx context.Context, t *trial, r *Result) error {
	return func(ctx context.Context, t *trial, r *Result) error {
		for t.round = 1; t.round <= t.opt.Rounds; t.round++ {
			if err := t.playRound(ctx, s, r); err != nil {
				return fmt.Errorf("round %d: %w", t.round, err)
			}
		}
		return nil
	}
}

func (t *trial) playRound(ctx context.Context, s strike, r *Result) error {
	if t.round == 1 { // later rounds' first insert is the last round's recovery
		t.flow.open(t.share()/2, t.pace())
		if _, err := t.firstInsert(ctx, time.Now(), 0); err != nil {
			return err
		}
	}
	t.flow.open(t.share()*t.round, t.pace())
	moment := time.Duration(t.rng.Float64() * float64(strikeWithin))
	if err := stage.Pause(ctx, moment); err != nil {
		return err
	}
	recovery, err := s(ctx, t)
	if err != nil {
		return err
	}
	t.recovered(r, recovery, fmt.Sprintf("struck %.2f s after the first insert", moment.Seconds()))
	return nil
}

// recovered takes a round's recovery in and tells of it.
func (t *trial) recovered(r *Result, recovery float64, what string) {
	r.RecoverySMax = max(r.RecoverySMax, recovery)
	t.say("%s: round %d of %d: %s; stored again after %.2f s; %d events sent", r.Fault, t.round, t.opt.Rounds, what, recovery, t.flow.sent())
}

// share is how many events a round has; as many are left for the end.
func (t *trial) share() int { return t.opt.Events / (t.opt.Rounds + 1) }

// pace spreads a round's events, per second.
func (t *trial) pace() float64 { return float64(t.share()) / strikeWithin.Seconds() }

// feed lets the next round's first events in, for the first insert after a
// repair.
func (t *trial) feed() { t.flow.open(t.share()*t.round+t.share()/2, t.pace()) }
