package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/internal/stage"
)

// strikeKill ends the daemon as kill -9 does and starts it on the same data
// folder.
func strikeKill(ctx context.Context, t *trial) (float64, error) {
	s := &t.slots[0]
	if err := t.running(); err != nil {
		return 0, err
	}
	s.daemon.Kill()
	return t.comeBack(ctx, func() error { return t.restart(s) })
}

// stopWithin is how long a stop in an orderly way may take, RESPONSE: SIGTERM
// under load.
const stopWithin = 10 * time.Second

// strikeTerm asks the daemon to stop, which it must do in time with exit code 0,
// and starts it again.
func strikeTerm(ctx context.Context, t *trial) (float64, error) {
	s := &t.slots[0]
	if err := t.running(); err != nil {
		return 0, err
	}
	stop, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	took, err := s.daemon.Stop(stop)
	if err != nil {
		return 0, err
	}
	t.say("round %d: stopped within %.2f s", t.round, took.Seconds())
	return t.comeBack(ctx, func() error { return t.restart(s) })
}

// strikeBroker stops Kafka and starts it again; the daemon has to live through it.
func strikeBroker(ctx context.Context, t *trial) (float64, error) {
	if err := t.stage.StopBroker(ctx); err != nil {
		return 0, fmt.Errorf("stop the broker: %w", err)
	}
	// What was read before is still to be stored (store.insert.max_age).
	if err := stage.Pause(ctx, time.Second); err != nil {
		return 0, err
	}
	if err := t.insertsOver(ctx); err != nil {
		return 0, err
	}
	base, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	t.feed()
	if err := t.stage.StartBroker(ctx); err != nil {
		return 0, err
	}
	return t.firstInsert(ctx, time.Now(), base)
}

// outage is how long ClickHouse is away: longer than the daemon waits before
// detection goes on alone (ingest.detach_after).
const outage = 5 * time.Second

// strikeClickHouse kills ClickHouse and starts it again on the same data and
// ports after an outage.
func strikeClickHouse(ctx context.Context, t *trial) (float64, error) {
	before, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	t.stage.KillClickHouse()
	t.feed()
	if err := stage.Pause(ctx, outage); err != nil {
		return 0, err
	}
	if err := t.stage.StartClickHouse(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	after, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	if after < before {
		return 0, fmt.Errorf("ClickHouse itself lost %d rows in the crash", before-after)
	}
	return t.firstInsert(ctx, began, after)
}

// strikeLeader ends the leader, alternately by kill -9 and in an orderly way; a
// standby takes over, and the ended member joins again as a standby.
func strikeLeader(ctx context.Context, t *trial) (float64, error) {
	s, err := t.leader(ctx)
	if err != nil {
		return 0, err
	}
	if t.round%2 == 1 {
		s.daemon.Kill()
	} else {
		stop, cancel := context.WithTimeout(ctx, stopWithin)
		defer cancel()
		if _, err := s.daemon.Stop(stop); err != nil {
			return 0, err
		}
	}
	recovery, err := t.comeBack(ctx, func() error { return nil })
	if err != nil {
		return 0, err
	}
	return recovery, t.restart(s)
}

// leader waits until one member leads and the others stand by.
func (t *trial) leader(ctx context.Context) (*slot, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var leader *slot
		standby := 0
		for i := range t.slots {
			st, err := t.slots[i].daemon.Status(ctx)
			switch {
			case err != nil:
			case st.Role == "leader":
				leader = &t.slots[i]
			case st.Role == "standby":
				standby++
			}
		}
		if leader != nil && standby == len(t.slots)-1 {
			return leader, nil
		}
		if err := stage.Pause(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for a leader and %d standbys: %w", len(t.slots)-1, errors.Join(err, t.running()))
		}
	}
}

// comeBack repairs, and returns how long it then took until a new row was
// stored. What ended may still have an insert on its way, which is awaited
// first, so that it does not count.
func (t *trial) comeBack(ctx context.Context, repair func() error) (float64, error) {
	if err := t.insertsOver(ctx); err != nil {
		return 0, err
	}
	base, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	t.feed()
	began := time.Now()
	if err := repair(); err != nil {
		return 0, err
	}
	return t.firstInsert(ctx, began, base)
}
