package torture

import (
	"context"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/stage"
)

const (
	// standbyStep is how often standbys join and leave, and leaderSteps how many
	// steps lie between two ends of a leader.
	standbyStep = 5 * time.Second
	leaderSteps = 12
)

// playStandbys has three places for members under a steady load. At every step
// one standby joins and another leaves; at every twelfth, the sixth being the
// first, the leader ends while a standby is there. Ends are alternately kill -9
// and orderly. After every step something must be stored in time.
func playStandbys(ctx context.Context, t *trial, r *Result) error {
	if _, err := t.addSlot(); err != nil { // the third place, empty yet
		return err
	}
	t.flow.open(t.opt.Events, float64(t.share())/standbyStep.Seconds())
	if _, err := t.firstInsert(ctx, time.Now(), 0); err != nil {
		return err
	}
	if _, err := t.leader(ctx); err != nil {
		return err
	}
	ends := 0
	for t.round = 1; t.round <= t.opt.Rounds; t.round++ {
		next := time.Now().Add(standbyStep)
		what, err := t.standbyTurn(ctx, &ends)
		if err != nil {
			return fmt.Errorf("step %d: %w", t.round, err)
		}
		recovery, err := t.progress(ctx)
		if err != nil {
			return fmt.Errorf("step %d: %s: %w", t.round, what, err)
		}
		t.recovered(r, recovery, what)
		if err := stage.Pause(ctx, max(0, time.Until(next))); err != nil {
			return err
		}
	}
	return nil
}

// progress returns how long it takes until a new row is stored.
func (t *trial) progress(ctx context.Context) (float64, error) {
	if t.flow.sent() >= t.opt.Events {
		return 0, nil // a slow machine is at the end already
	}
	base, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	return t.firstInsert(ctx, time.Now(), base)
}

// standbyTurn is one step.
func (t *trial) standbyTurn(ctx context.Context, ends *int) (what string, err error) {
	var leader *slot
	var up, down []*slot
	err = t.until(ctx, "somebody leads", func(ctx context.Context) (bool, error) {
		leader, up, down = nil, nil, nil
		for _, s := range t.slots {
			switch {
			case s.absent:
				down = append(down, s)
			case t.role(ctx, s) == "leader" && leader == nil:
				leader = s
			default:
				up = append(up, s)
			}
		}
		return leader != nil, nil
	})
	if err != nil {
		return "", err
	}
	if t.round%leaderSteps == leaderSteps/2 && len(up) > 0 {
		*ends++
		return "the leader " + leader.cfg.Instance + " ended", t.end(ctx, leader, *ends%2 == 1)
	}
	if len(down) > 0 {
		what = down[0].cfg.Instance + " joined"
		if err := t.start(down[0], app.DieAt{}); err != nil {
			return what, err
		}
	}
	if len(up) > 0 {
		if what != "" {
			what += ", "
		}
		what += up[0].cfg.Instance + " left"
		*ends++
		return what, t.end(ctx, up[0], *ends%2 == 1)
	}
	return what, nil
}
