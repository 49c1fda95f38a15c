package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/internal/app"
)

// strikeRetention lets Kafka delete records before the daemon reads them: in odd
// rounds it is stopped meanwhile, in even ones paused. It must tell of exactly
// what it missed.
func strikeRetention(ctx context.Context, t *trial) (float64, error) {
	s, paused := t.slots[0], t.round%2 == 0
	if err := t.caughtUp(ctx); err != nil {
		return 0, err
	}
	back := func() error { return t.start(s, app.DieAt{}) }
	var counted float64
	var err error
	if paused {
		back = s.daemon.Resume
		if counted, err = s.daemon.Metric(ctx, lostOffsets); err == nil {
			err = s.daemon.Pause()
		}
	} else {
		err = t.end(ctx, s, false)
	}
	if err != nil {
		return 0, err
	}
	below, err := t.deleteSome(ctx)
	if err != nil {
		return 0, errors.Join(err, back())
	}
	began := time.Now()
	recovery, err := t.comeBack(ctx, back)
	if err != nil {
		return 0, err
	}
	told, err := t.awaitGaps(ctx, began, below)
	if err != nil {
		return 0, err
	}
	now, err := s.daemon.Metric(ctx, lostOffsets)
	if diff := int64(math.Abs(now - counted - float64(told))); err == nil && diff > 0 {
		t.say("the daemon counted %.0f lost offsets and told of %d", now-counted, told)
		t.gapWrong += diff
	}
	return recovery, err
}

const lostOffsets = "keysentry_ingest_lost_offsets_total"

// caughtUp waits until everything that may flow is stored and committed.
func (t *trial) caughtUp(ctx context.Context) error {
	return t.until(ctx, "everything is stored before records are deleted", func(ctx context.Context) (bool, error) {
		if t.flow.sent() < t.share()*t.round {
			return false, nil
		}
		behind, err := t.behind(ctx)
		return behind == 0, err
	})
}

// leastDeleted is how many new records a partition must have for some to be
// deleted: a paused daemon may already have been sent the first of them.
const leastDeleted = batchSize

// deleteSome lets events flow and deletes at least half of the new records of
// each partition. It returns below which offsets.
func (t *trial) deleteSome(ctx context.Context) (map[int32]int64, error) {
	before, err := t.ends(ctx)
	if err != nil {
		return nil, err
	}
	upTo := t.share()*t.round + t.share()/4 // the rest of the half share follows the repair
	t.flow.open(upTo, 0)
	if err := t.until(ctx, "the broker takes events", func(context.Context) (bool, error) { return t.flow.sent() >= upTo, nil }); err != nil {
		return nil, err
	}
	after, err := t.ends(ctx)
	if err != nil {
		return nil, err
	}
	below := map[int32]int64{}
	for p := range int32(partitions) {
		if n := after[p] - before[p]; n >= leastDeleted {
			below[p] = before[p] + n/2 + t.rng.Int64N(n-n/2+1)
			t.deleted[p] = below[p]
		}
	}
	if len(below) == 0 {
		return nil, fmt.Errorf("no partition has %d new records to delete some of; give more events", leastDeleted)
	}
	return below, t.stage.DeleteRecords(ctx, topic, below)
}

// awaitGaps waits until each deletion has a finding with an incident, and returns
// how many records those of this round name. It remembers how long the last took.
func (t *trial) awaitGaps(ctx context.Context, began time.Time, below map[int32]int64) (told int64, err error) {
	err = t.until(ctx, fmt.Sprintf("the gaps below %v have their incidents", below), func(ctx context.Context) (bool, error) {
		w := newGapWatch(below)
		if err := app.ExportJournal(ctx, t.slots[0].cfg, w.take); err != nil {
			return false, err
		}
		if !w.complete() {
			return false, nil
		}
		told = w.records
		took := w.last.Sub(began).Seconds()
		t.toldMax = max(t.toldMax, took)
		t.say("round %d: %d records below %v were named as lost %.2f s after the repair", t.round, told, below, took)
		return true, nil
	})
	return told, err
}

// gapWatch looks in the journal for the gaps that end where records were deleted.
type gapWatch struct {
	below   map[int32]int64
	open    map[string]gap // told, and without an incident yet
	done    map[int32]bool
	records int64
	last    time.Time // of the last incident
}

func newGapWatch(below map[int32]int64) *gapWatch {
	return &gapWatch{below: below, open: map[string]gap{}, done: map[int32]bool{}}
}

func (w *gapWatch) take(rec journal.Record) error {
	switch rec.Kind {
	case journal.KindFinding:
		var f finding.Finding
		if err := json.Unmarshal(rec.Body, &f); err != nil {
			return fmt.Errorf("read finding of record %d: %w", rec.N, err)
		}
		if g, ok, err := gapOf(f); err != nil {
			return err
		} else if ok && w.below[g.partition] == g.to {
			w.open[g.finding] = g
		}
	case journal.KindIncident:
		var c journal.IncidentChange
		if err := json.Unmarshal(rec.Body, &c); err != nil {
			return fmt.Errorf("read incident of record %d: %w", rec.N, err)
		}
		if g, ok := w.open[c.FindingID]; ok {
			delete(w.open, c.FindingID)
			w.done[g.partition] = true
			w.records += g.to - g.from
			w.last = rec.Time.Time()
		}
	}
	return nil
}

func (w *gapWatch) complete() bool { return len(w.open) == 0 && len(w.done) == len(w.below) }
