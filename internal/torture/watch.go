package torture

import (
	"context"
	"fmt"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/stage"
)

// offsetWatch polls the group's committed offsets.
type offsetWatch struct {
	client *kafka.Client
	group  string
	last   map[event.Partition]int64
	back   int
	looks  int // that showed an offset
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
	if len(now) > 0 {
		w.looks++
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
