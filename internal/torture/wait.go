package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/stage"
)

// patience is how long the trial waits without any progress.
const patience = time.Minute

// lookEvery is how often rows are counted while waiting.
const lookEvery = 20 * time.Millisecond

// rows is how many rows the plain tables hold, copies included. Before the
// daemon has made them there are none.
func (t *trial) rows(ctx context.Context) (uint64, error) {
	n, err := stage.Number(ctx, t.store, "SELECT toUInt64(sum(total_rows)) FROM system.tables WHERE database = currentDatabase() AND name IN ('events', 'quarantine')")
	if err != nil && t.round <= 1 {
		return 0, nil // the database may not exist yet
	}
	return n, err
}

// firstInsert waits until there are more rows than base, and returns how many
// seconds that was after began.
func (t *trial) firstInsert(ctx context.Context, began time.Time, base uint64) (float64, error) {
	deadline := time.Now().Add(patience)
	for {
		n, err := t.rows(ctx)
		if err == nil && n > base {
			return time.Since(began).Seconds(), nil
		}
		if time.Now().After(deadline) {
			return 0, errors.Join(fmt.Errorf("nothing was stored for %v", patience), err, t.running(), t.lastWords())
		}
		if err := stage.Pause(ctx, lookEvery); err != nil {
			return 0, err
		}
	}
}

// until waits until done says so; what names it in the error of an end of the
// patience.
func (t *trial) until(ctx context.Context, what string, done func(ctx context.Context) (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := done(ctx)
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s: not for %v", what, patience), err, t.running(), t.lastWords())
		}
		if err := stage.Pause(ctx, lookEvery); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// lastWords is what the daemons said last, for the error of a trial that hangs.
func (t *trial) lastWords() error {
	var errs []error
	for _, s := range t.slots {
		if s.daemon != nil {
			errs = append(errs, fmt.Errorf("%s said last:\n%s", s.cfg.Instance, s.daemon.LastWords()))
		}
	}
	return errors.Join(errs...)
}

// insertsOver waits until no insert of events runs in the server.
func (t *trial) insertsOver(ctx context.Context) error {
	for {
		n, err := t.inserts(ctx)
		if err != nil || n == 0 {
			return err
		}
		if err := stage.Pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// inserts is how many inserts of daemons run in the server.
func (t *trial) inserts(ctx context.Context) (uint64, error) {
	return stage.Number(ctx, t.store, "SELECT count() FROM system.processes WHERE startsWith(query_id, 'keysentry-insert-')")
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

// produced is how many records the topic ever held.
func (t *trial) produced(ctx context.Context) (int64, error) {
	ends, err := t.ends(ctx)
	var sum int64
	for _, end := range ends {
		sum += end
	}
	return sum, err
}

// ends are the ends of the topic's partitions.
func (t *trial) ends(ctx context.Context) (map[int32]int64, error) {
	out := map[int32]int64{}
	for i := range int32(partitions) {
		_, end, err := t.kafka.Bounds(ctx, event.Partition{Topic: topic, ID: i})
		if err != nil {
			return nil, err
		}
		out[i] = end
	}
	return out, nil
}

// behind is how many records lie above the committed offsets.
func (t *trial) behind(ctx context.Context) (int64, error) {
	ends, err := t.ends(ctx)
	if err != nil {
		return 0, err
	}
	committed, err := t.kafka.Committed(ctx, config.Default().Kafka.Group.ID, topic)
	if err != nil {
		return 0, err
	}
	var sum int64
	for p, end := range ends {
		sum += end - committed[event.Partition{Topic: topic, ID: p}]
	}
	return sum, nil
}

// settle waits until everything is committed, or nothing moves any more, and
// stops the daemons in an orderly way.
func (t *trial) settle(ctx context.Context) error {
	lastRows, lastBehind, since := uint64(0), int64(-1), time.Now()
	for {
		n, err := t.rows(ctx)
		if err != nil {
			return err
		}
		behind, err := t.behind(ctx) // fails while there is no group yet
		if err != nil {
			behind = -1
		}
		if n != lastRows || behind != lastBehind {
			lastRows, lastBehind, since = n, behind, time.Now()
		}
		if behind == 0 && time.Since(since) > 2*time.Second {
			break // late copies would have come by now
		}
		if time.Since(since) > patience {
			if err != nil {
				return err
			}
			t.say("%d rows are stored, %d records are not committed, and nothing new for %v", n, behind, patience)
			break
		}
		if err := errors.Join(stage.Pause(ctx, 10*lookEvery), t.running()); err != nil {
			return err
		}
	}
	for _, s := range t.slots {
		if s.absent {
			continue
		}
		if err := t.end(ctx, s, false); err != nil {
			return err
		}
	}
	return nil
}
