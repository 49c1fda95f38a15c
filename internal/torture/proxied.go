package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/internal/stage"
)

const (
	// answerDelay holds an answer long enough for the row to be seen first.
	answerDelay = time.Second
	// silence is more than half of the deadline of an insert
	// (store.insert.timeout, 8 s): the answer before the rows comes in time, the
	// one after them does not.
	silence = 6 * time.Second
	// awayFor is how long a cut server stays away.
	awayFor = time.Second
)

// strikeAnswers lets an insert reach ClickHouse and its answer not reach the
// daemon: in odd rounds the connections are cut while the answer is on its way,
// in even ones it does not come before the deadline.
func strikeAnswers(ctx context.Context, t *trial) (float64, error) {
	proxy := t.stage.ClickHouseProxy()
	before, err := t.doubts(ctx)
	if err != nil {
		return 0, err
	}
	delay := answerDelay
	if t.round%2 == 0 {
		delay = silence
	}
	if err := proxy.DelayAnswers(delay, 0); err != nil {
		return 0, err
	}
	base, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	t.feed()
	if _, err := t.firstInsert(ctx, time.Now(), base); err != nil {
		return 0, fmt.Errorf("an insert whose answer is late: %w", err)
	}
	if t.round%2 == 1 {
		proxy.Cut()
		if err := stage.Pause(ctx, awayFor); err != nil {
			return 0, err
		}
	} else if err := t.doubted(ctx, before, false); err != nil {
		return 0, err
	}
	proxy.Heal(ctx)
	if base, err = t.rows(ctx); err != nil {
		return 0, err
	}
	if err := proxy.Restore(); err != nil {
		return 0, err
	}
	t.flow.open(t.share()*(t.round+1), t.pace())
	recovery, err := t.firstInsert(ctx, time.Now(), base)
	return recovery, errors.Join(err, t.doubted(ctx, before, true))
}

// doubts are the daemon's counts of inserts of unknown outcome, and of rows that
// it left out because they were there.
type doubts struct{ unknown, avoided float64 }

func (t *trial) doubts(ctx context.Context) (d doubts, err error) {
	if d.unknown, err = t.slots[0].daemon.Metric(ctx, "keysentry_store_unknown_outcomes_total"); err != nil {
		return d, err
	}
	d.avoided, err = t.slots[0].daemon.Metric(ctx, "keysentry_store_duplicates_avoided_total")
	return d, err
}

// doubted waits until an outcome was unknown since before and, when resolved is
// wanted, rows were left out because they were found: proof that the answer was
// lost and the insert was not.
func (t *trial) doubted(ctx context.Context, before doubts, resolved bool) error {
	return t.until(ctx, "an insert arrives and its answer is lost", func(ctx context.Context) (bool, error) {
		now, err := t.doubts(ctx)
		return err == nil && now.unknown > before.unknown && (now.avoided > before.avoided || !resolved), err
	})
}

const (
	// slowFor is how long ClickHouse is slow, slowAnswers how late it answers, and
	// slowKB how many KB a second go to it.
	slowFor     = 4 * time.Second
	slowAnswers = 300 * time.Millisecond
	slowJitter  = 200 * time.Millisecond
	slowKB      = 64
)

// strikeSlow makes ClickHouse slow for a while.
func strikeSlow(ctx context.Context, t *trial) (float64, error) {
	proxy, d := t.stage.ClickHouseProxy(), t.slots[0].daemon
	if err := errors.Join(proxy.DelayAnswers(slowAnswers, slowJitter), proxy.Throttle(slowKB)); err != nil {
		return 0, err
	}
	const sum, count = "keysentry_store_insert_seconds_sum", "keysentry_store_insert_seconds_count"
	sum0, err := d.Metric(ctx, sum)
	if err != nil {
		return 0, err
	}
	count0, err := d.Metric(ctx, count)
	if err != nil {
		return 0, err
	}
	t.feed()
	if err := stage.Pause(ctx, slowFor); err != nil {
		return 0, err
	}
	err = t.until(ctx, "inserts are slow", func(ctx context.Context) (bool, error) {
		s, err := d.Metric(ctx, sum)
		if err != nil {
			return false, err
		}
		n, err := d.Metric(ctx, count)
		// An insert waits for two answers.
		return err == nil && n > count0 && (s-sum0)/(n-count0) > (slowAnswers-slowJitter).Seconds(), err
	})
	if err != nil {
		return 0, err
	}
	base, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	proxy.Heal(ctx)
	t.flow.open(t.share()*(t.round+1), t.pace())
	return t.firstInsert(ctx, time.Now(), base)
}

const (
	// brokerDelay holds the broker's answers, so that some are always on their
	// way: offsets are committed every 200 ms.
	brokerDelay = 500 * time.Millisecond
	// brokerCuts is how often the connections are cut in a round.
	brokerCuts = 3
)

// strikeBrokerAnswers cuts the connections to Kafka several times while answers
// are on their way: of fetches, commits, heartbeats, journal records and
// positions.
func strikeBrokerAnswers(ctx context.Context, t *trial) (float64, error) {
	proxy, d := t.stage.BrokerProxy(), t.slots[0].daemon
	if err := proxy.DelayAnswers(brokerDelay, 0); err != nil {
		return 0, err
	}
	t.feed()
	const failed = "keysentry_ingest_commit_errors_total"
	before, err := d.Metric(ctx, failed)
	if err != nil {
		return 0, err
	}
	for cut := range brokerCuts {
		if cut > 0 {
			if err := proxy.Restore(); err != nil {
				return 0, err
			}
		}
		if err := stage.Pause(ctx, brokerDelay+time.Duration(t.rng.Int64N(int64(2*brokerDelay)))); err != nil {
			return 0, err
		}
		proxy.Cut()
		if err := stage.Pause(ctx, awayFor/2); err != nil {
			return 0, err
		}
	}
	now, err := d.Metric(ctx, failed)
	if err != nil {
		return 0, err
	}
	if t.lostCommits += now - before; t.lostCommits == 0 && t.round == t.opt.Rounds {
		return 0, errors.New("no commit's answer was lost in any round: the fault did not happen")
	}
	proxy.Heal(ctx)
	return t.comeBack(ctx, proxy.Restore)
}
