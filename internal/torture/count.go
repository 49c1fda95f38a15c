package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/app"
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
	if err != nil && t.round == 1 {
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

// lastWords is what the daemons said last, for the error of a trial that hangs.
func (t *trial) lastWords() error {
	var errs []error
	for _, s := range t.slots {
		errs = append(errs, fmt.Errorf("%s said last:\n%s", s.cfg.Instance, s.daemon.LastWords()))
	}
	return errors.Join(errs...)
}

// insertsOver waits until no insert of events runs in the server.
func (t *trial) insertsOver(ctx context.Context) error {
	for {
		n, err := stage.Number(ctx, t.store, "SELECT count() FROM system.processes WHERE startsWith(query_id, 'keysentry-insert-')")
		if err != nil || n == 0 {
			return err
		}
		if err := stage.Pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// records is how many records the topic holds.
func (t *trial) records(ctx context.Context) (int64, error) {
	var sum int64
	for i := range int32(partitions) {
		first, end, err := t.kafka.Bounds(ctx, event.Partition{Topic: topic, ID: i})
		if err != nil {
			return 0, err
		}
		sum += end - first
	}
	return sum, nil
}

// settle waits until the store holds as many rows as the topic holds records,
// or has stopped growing, and stops the daemons in an orderly way.
func (t *trial) settle(ctx context.Context) error {
	want, err := t.records(ctx)
	if err != nil {
		return err
	}
	last, since := uint64(0), time.Now()
	for {
		n, err := t.rows(ctx)
		if err != nil {
			return err
		}
		if n != last {
			last, since = n, time.Now()
		}
		if n >= uint64(want) && time.Since(since) > 2*time.Second {
			break // late copies would have come by now
		}
		if time.Since(since) > patience {
			t.say("stored %d of %d rows and nothing new for %v", n, want, patience)
			break
		}
		if err := errors.Join(stage.Pause(ctx, 10*lookEvery), t.running()); err != nil {
			return err
		}
	}
	for _, s := range t.slots {
		stop, cancel := context.WithTimeout(ctx, stopWithin)
		_, err := s.daemon.Stop(stop)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// maxTold bounds the findings that are told of.
const maxTold = 20

// count fills in the verdict.
func (t *trial) count(ctx context.Context, r *Result) error {
	want, err := t.records(ctx)
	if err != nil {
		return err
	}
	c, err := t.store.Count(ctx, topic)
	if err != nil {
		return err
	}
	t.say("%d records; plain table %d rows, %d distinct, %d with FINAL, %d through the view; %d quarantined",
		want, c.Rows, c.Distinct, c.Final, c.View, c.Quarantine)
	r.Events = int(want)
	r.Lost = want - int64(c.Distinct+c.Quarantine)
	r.Duplicates = int64(max(c.Final, c.View)) - int64(c.Distinct)
	var findings, leaders int
	twice := newEpisodes()
	err = app.ExportJournal(ctx, t.slots[0].cfg, func(rec journal.Record) error {
		switch rec.Kind {
		case journal.KindTookOver:
			leaders++
		case journal.KindEpisode:
			var ep journal.Episode
			if err := json.Unmarshal(rec.Body, &ep); err != nil {
				return fmt.Errorf("read episode of record %d: %w", rec.N, err)
			}
			if ep.Closed {
				twice.closed(ep.FindingID)
			}
		case journal.KindFinding:
			var f finding.Finding
			if err := json.Unmarshal(rec.Body, &f); err != nil {
				return fmt.Errorf("read finding of record %d: %w", rec.N, err)
			}
			if findings++; findings <= maxTold {
				t.say("finding: %s %v, episode from %s, fired %s", f.RuleName, f.Group, f.First, f.Fired)
			}
			if twice.add(f) {
				t.say("record %d is a finding that is there already: %s %s", rec.N, f.RuleName, f.ID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.say("the journal holds %d findings and %d take-overs", findings, leaders)
	if findings == 0 {
		return errors.New("the journal holds no finding, though a key that never existed was tried: nothing can be said of findings")
	}
	r.FindingsTwice = twice.again
	return nil
}

// offsetWatch polls the group's committed offsets.
type offsetWatch struct {
	client *kafka.Client
	group  string
	last   map[event.Partition]int64
	back   int
}

func newOffsetWatch(c *kafka.Client, group string) *offsetWatch {
	return &offsetWatch{client: c, group: group, last: map[event.Partition]int64{}}
}

// run polls until ctx ends. A broker that does not answer is part of the game.
func (w *offsetWatch) run(ctx context.Context) error {
	for {
		if now, err := w.client.Committed(ctx, w.group, topic); err == nil {
			w.take(now)
		}
		if err := stage.Pause(ctx, 5*lookEvery); err != nil {
			return nil //nolint:nilerr // the end of the trial
		}
	}
}

func (w *offsetWatch) take(now map[event.Partition]int64) {
	for p, o := range w.last {
		// An offset that is gone is one that went back to the start.
		if got, ok := now[p]; !ok || got < o {
			w.back++
		}
	}
	w.last = now
}

// episodes finds findings that tell of the same thing twice.
type episodes struct {
	ids   map[string]bool
	open  map[string]string // rule and group -> id of the episode that goes on
	again int
}

func newEpisodes() *episodes {
	return &episodes{ids: map[string]bool{}, open: map[string]string{}}
}

// add takes a finding in and reports whether it was there before: the same id,
// or another of the same rule and group whose episode was not closed.
func (e *episodes) add(f finding.Finding) bool {
	key := fmt.Sprint(f.RuleID, f.Group, f.Subject)
	twice := e.ids[f.ID] || e.open[key] != ""
	e.ids[f.ID], e.open[key] = true, f.ID
	if twice {
		e.again++
	}
	return twice
}

// closed notes that an episode is over: the next one is a new finding.
func (e *episodes) closed(id string) {
	for key, open := range e.open {
		if open == id {
			delete(e.open, key)
		}
	}
}
