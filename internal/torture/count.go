package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/store"
)

// tally is what the verdict is made of.
type tally struct {
	produced int64 // records that the topic ever held
	stored   store.Count
	excused  int64 // records that lie in a true gap
}

func (c tally) lost() int64 {
	return c.produced - int64(c.stored.Distinct+c.stored.Quarantine) - c.excused
}

func (c tally) duplicates() int64 {
	return int64(max(c.stored.Final, c.stored.View)) - int64(c.stored.Distinct)
}

// count fills in the verdict.
func (t *trial) count(ctx context.Context, r *Result) error {
	var c tally
	var err error
	if c.produced, err = t.produced(ctx); err != nil {
		return err
	}
	if c.stored, err = t.store.Count(ctx, topic); err != nil {
		return err
	}
	t.say("%d records; plain table %d rows, %d distinct, %d with FINAL, %d through the view; %d quarantined",
		c.produced, c.stored.Rows, c.stored.Distinct, c.stored.Final, c.stored.View, c.stored.Quarantine)
	j, err := t.readJournal(ctx)
	if err != nil {
		return err
	}
	t.say("the journal holds %d findings, %d gaps and %d take-overs", j.findings, len(j.gaps), j.leaders)
	if j.findings == len(j.gaps) {
		return errors.New("the journal holds no finding, though a key that never existed was tried: nothing can be said of findings")
	}
	var wrong int64
	c.excused, wrong, err = weigh(j.gaps, t.deleted, func(g gap) (int64, error) { return t.storedIn(ctx, g) })
	if err != nil {
		return err
	}
	r.Events = int(c.produced)
	r.Lost, r.Duplicates, r.FindingsTwice = c.lost(), c.duplicates(), j.twice.again
	if len(t.deleted) > 0 || len(j.gaps) > 0 {
		r.Gaps = &GapFigures{Records: c.excused, Wrong: wrong + t.gapWrong, ToldSMax: t.toldMax}
	}
	return nil
}

// testimony is what the journal says.
type testimony struct {
	findings, leaders int
	twice             *episodes
	gaps              []gap
}

func (t *trial) readJournal(ctx context.Context) (*testimony, error) {
	j := &testimony{twice: newEpisodes()}
	return j, app.ExportJournal(ctx, t.slots[0].cfg, func(rec journal.Record) error {
		again, err := j.take(rec)
		if err != nil {
			return fmt.Errorf("record %d of the journal: %w", rec.N, err)
		}
		if f := again; f != nil {
			t.say("record %d is a finding that is there already: %s %s", rec.N, f.RuleName, f.ID)
		}
		return nil
	})
}

// take takes a record in, and returns its finding when that is there again.
func (j *testimony) take(rec journal.Record) (again *finding.Finding, err error) {
	switch rec.Kind {
	case journal.KindTookOver:
		j.leaders++
	case journal.KindEpisode:
		var ep journal.Episode
		if err := json.Unmarshal(rec.Body, &ep); err != nil {
			return nil, fmt.Errorf("read episode: %w", err)
		}
		if ep.Closed {
			j.twice.closed(ep.FindingID)
		}
	case journal.KindFinding:
		var f finding.Finding
		if err := json.Unmarshal(rec.Body, &f); err != nil {
			return nil, fmt.Errorf("read finding: %w", err)
		}
		j.findings++
		g, ok, err := gapOf(f)
		if err != nil {
			return nil, err
		}
		if ok {
			j.gaps = append(j.gaps, g)
		}
		if j.twice.add(f) {
			return &f, nil
		}
	}
	return nil, nil
}
