package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/stage"
)

// strikeLeader ends the leader, alternately by kill -9 and in an orderly way; a
// standby takes over, and the ended member joins again as a standby.
func strikeLeader(ctx context.Context, t *trial) (float64, error) {
	s, err := t.leader(ctx)
	if err != nil {
		return 0, err
	}
	if err := t.end(ctx, s, t.round%2 == 1); err != nil {
		return 0, err
	}
	recovery, err := t.comeBack(ctx, func() error { return nil })
	if err != nil {
		return 0, err
	}
	return recovery, t.start(s, app.DieAt{})
}

// pausedBefore bounds the wait for an insert to pause the leader in.
const pausedBefore = 2 * time.Second

// strikePaused pauses the leader, in an insert when there is one, until a standby
// has taken over and stored, and lets it go on: it wakes up as the leader that it
// is no more, with whatever it was about to insert, commit and journal.
func strikePaused(ctx context.Context, t *trial) (float64, error) {
	s, err := t.leader(ctx)
	if err != nil {
		return 0, err
	}
	t.feed()
	for deadline := time.Now().Add(pausedBefore); time.Now().Before(deadline); {
		if n, err := t.inserts(ctx); err != nil || n > 0 {
			break
		}
		if err := stage.Pause(ctx, time.Millisecond); err != nil {
			return 0, err
		}
	}
	if err := s.daemon.Pause(); err != nil {
		return 0, err
	}
	recovery, err := t.successor(ctx, s)
	if err != nil {
		return 0, errors.Join(err, s.daemon.Resume())
	}
	return recovery, s.daemon.Resume()
}

// successor waits until another member than the paused one leads and stores, and
// returns how long that took.
func (t *trial) successor(ctx context.Context, paused *slot) (float64, error) {
	began := time.Now()
	err := t.until(ctx, "another member leads", func(ctx context.Context) (bool, error) {
		for _, s := range t.slots {
			if s != paused && !s.absent && t.role(ctx, s) == "leader" {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return 0, err
	}
	// What the paused one had sent is there now: it was paused before the broker
	// gave it up.
	base, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	t.flow.open(t.share()*(t.round+1), t.pace())
	return t.firstInsert(ctx, began, base)
}

// statusTimeout bounds one question: a paused daemon does not answer.
const statusTimeout = time.Second

// role is what a daemon says it is; empty when it does not answer.
func (t *trial) role(ctx context.Context, s *slot) string {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := s.daemon.Status(ctx)
	if err != nil {
		return ""
	}
	return st.Role
}

// leader waits until one member leads and the others that run stand by.
func (t *trial) leader(ctx context.Context) (*slot, error) {
	var leader *slot
	err := t.until(ctx, "one leads and the others stand by", func(ctx context.Context) (bool, error) {
		leader = nil
		ready := true
		for _, s := range t.slots {
			if s.absent {
				continue
			}
			switch role := t.role(ctx, s); {
			case role == "leader" && leader == nil:
				leader = s
			case role != "standby":
				ready = false
			}
		}
		return ready && leader != nil, nil
	})
	return leader, err
}

// nextRebalance lets a daemon die when it is given its partitions again because
// somebody joined.
var nextRebalance = app.DieAt{Point: app.DieInRebalance, Passing: 2}

// playRebalance lets a second member join, so that the leader is given its
// partitions anew, and dies in that moment. In every second round its successor
// dies too, right after it took over.
func playRebalance(ctx context.Context, t *trial, r *Result) error {
	leader := t.slots[0]
	other, err := t.addSlot()
	if err != nil {
		return err
	}
	for t.round = 1; t.round <= t.opt.Rounds; t.round++ {
		if t.round == 1 {
			t.flow.open(t.share()/2, t.pace())
			if _, err := t.firstInsert(ctx, time.Now(), 0); err != nil {
				return err
			}
		}
		t.flow.open(t.share()*t.round, t.pace())
		recovery, err := t.rebalanceDeath(ctx, leader, other)
		if err != nil {
			return fmt.Errorf("round %d: %w", t.round, err)
		}
		t.recovered(r, recovery, leader.cfg.Instance+" died in the rebalance")
		leader, other = other, leader
	}
	return nil
}

func (t *trial) rebalanceDeath(ctx context.Context, leader, other *slot) (float64, error) {
	second := t.round%2 == 0
	at := nextRebalance
	switch {
	case second:
		at = app.DieAt{Point: app.DieInTakeOver, Passing: 1}
	case t.round == t.opt.Rounds:
		at = app.DieAt{} // is to live
	}
	if err := t.start(other, at); err != nil {
		return 0, err
	}
	if err := t.awaitDeath(ctx, leader, app.DieInRebalance); err != nil {
		return 0, err
	}
	if !second {
		return t.comeBack(ctx, func() error { return nil })
	}
	if err := t.awaitDeath(ctx, other, app.DieInTakeOver); err != nil {
		return 0, err
	}
	at = nextRebalance
	if t.round == t.opt.Rounds {
		at = app.DieAt{}
	}
	return t.comeBack(ctx, func() error { return t.start(other, at) })
}
