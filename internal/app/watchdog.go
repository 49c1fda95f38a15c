package app

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// What this member does in the consumer group.
const (
	membershipStarting int32 = iota // reads the journal
	membershipJoining               // has no part in a generation
	membershipStanding              // another member holds the partitions
	membershipTaking                // holds them and does not work on them yet
	membershipWorking
)

var memberships = [...]string{
	membershipStarting: "reading the journal", membershipJoining: "joining the consumer group", membershipStanding: "standing by",
	membershipTaking: "taking the partitions over", membershipWorking: "working",
}

// watch is the watchdog with what it acts on.
type watch struct {
	dog        *ingest.Watchdog
	membership atomic.Int32
	taken      atomic.Int64                       // generations that this member had a part in
	rejoin     atomic.Pointer[context.CancelFunc] // ends the membership
	again      atomic.Bool                        // the membership was ended to be begun anew
	said       atomic.Pointer[string]             // what is stuck, for readyz
	gaveUp     chan error
}

func newWatch(a *App) *watch {
	return &watch{dog: ingest.NewWatchdog(a.opts.Metrics), gaveUp: make(chan error, 1)}
}

// stopWithin is how long an orderly stop may take, after which a daemon that gave
// up ends without it: what is stuck may never end.
const stopWithin = 10 * time.Second

// lookEvery is the pause between two looks.
const lookEvery = time.Second / 2

// keepWatch looks at what makes progress. It returns an error when nothing more
// can be done about what does not.
func (a *App) keepWatch(ctx context.Context) error {
	c := a.cfg.Ingest.Watchdog
	if c.StuckAfter == 0 && c.StoreStuckAfter == 0 {
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := a.look(ctx); err != nil {
			a.watch.gaveUp <- err
			return err
		}
	}
}

// look takes one look and acts on it.
func (a *App) look(ctx context.Context) error {
	w := a.watch
	if w.membership.Load() == membershipStanding {
		w.dog.StandsBy()
	}
	// The monotonic clock would do; a step of the wall clock shifts one decision.
	advice, stuck := w.dog.Look(event.At(time.Now()), a.watched())
	if advice == ingest.Wait {
		a.saySo(w.dog.Helped())
		return nil
	}
	err := ingest.StuckError(stuck)
	if !slices.ContainsFunc(stuck, func(s ingest.Stuck) bool { return !s.Kafka }) {
		if away := a.kafka.Wire().Reachable(ctx); away != nil {
			a.log.Warn("nothing progresses, because kafka is away; waiting for it", "error", away)
			w.dog.Away(event.At(time.Now()))
			return nil
		}
	}
	if advice == ingest.GiveUp {
		return fmt.Errorf("ended to be started again: %w", err)
	}
	closed := a.kafka.Wire().Reconnect()
	w.again.Store(true)
	if end := w.rejoin.Load(); end != nil {
		(*end)()
	}
	w.dog.Reconnected(event.At(time.Now()), stuck)
	a.log.Error("no progress: the connections to kafka are made anew, and the group is joined as a new member", "closed", closed, "error", err)
	a.saySo(w.dog.Helped())
	return nil
}

// saySo keeps what has made no step for readyz.
func (a *App) saySo(stuck string) {
	if stuck == "" {
		a.watch.said.Store(nil)
		return
	}
	a.watch.said.Store(&stuck)
}

// watched is everything that has to get on.
func (a *App) watched() []ingest.Watched {
	c := a.cfg.Ingest.Watchdog
	a.mu.Lock()
	s, storing := a.session, a.storeErr == nil
	a.mu.Unlock()
	storing = storing && a.writer.Healthy()
	// A failure that is no sign of being stuck comes at the latest when all attempts
	// of one call are used up, which may take longer than somebody configured.
	if c.StuckAfter > 0 {
		c.StuckAfter = max(c.StuckAfter, a.cfg.Kafka.RetryFor+a.cfg.Kafka.RequestTimeout+a.cfg.Kafka.Fetch.MaxWait)
	}
	m := a.watch.membership.Load()
	group := ingest.Watched{Kind: ingest.WatchGroup, Name: a.cfg.Kafka.Group.ID, Busy: m != membershipStanding && m != membershipWorking,
		Steps: a.journal.Head().N, Troubles: a.watch.taken.Load(), Patience: c.StuckAfter, Kafka: true, Detail: memberships[m] + " without end"}
	if err := a.group.JoinError(); err != nil && group.Busy {
		group.Detail += ", the last error is: " + err.Error()
	}
	if s == nil {
		return []ingest.Watched{group}
	}
	out := []ingest.Watched{group}
	for _, p := range s.pipeline.Status() {
		out[0].Detail += fmt.Sprintf("; %s is judged up to offset %d of %d", p.Partition, p.Live, p.End)
		list := p.Watched(c, storing)
		if p.Progress.Doing == ingest.DoingFill && list[0].Patience > 0 {
			list[0].Patience += a.cfg.Ingest.FillTimeout
		}
		out = append(out, list...)
	}
	return out
}

// ended is the error of a run that was given up and whose orderly stop takes too
// long; it comes never when all is well.
func (w *watch) ended(done <-chan struct{}) <-chan error {
	out := make(chan error, 1)
	go func() {
		select {
		case <-done:
		case err := <-w.gaveUp:
			select {
			case <-done:
			case <-time.After(stopWithin):
				out <- fmt.Errorf("watchdog: %w (an orderly stop took longer than %v)", err, stopWithin)
			}
		}
	}()
	return out
}
