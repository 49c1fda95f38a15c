package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Rules of type first_seen and rate_anomaly know more than a replay could tell
// them. What they know goes to ClickHouse, and comes back when a member takes
// over or a rule is new. Until then they are learning: they fire nothing, and the
// other rules run.
//
// A piece is written only once the positions that it rests on are kept. So what
// is replayed after a crash is judged by what was known before it, and a value
// that was new then is new again. What ClickHouse could not be given in time, as
// it was down until the crash, is seen for the first time once more.

const (
	// memoryEvery is the pause between two turns; memoryPieces is how much one
	// writes.
	memoryEvery  = 2 * time.Second
	memoryPieces = 20_000
	// memoryAtStart bounds how long a takeover waits for memory.
	memoryAtStart = 3 * time.Second
)

// memoryBatch waits for the positions that it rests on.
type memoryBatch struct {
	engine *detect.Engine
	pieces []memory.Piece
	upTo   map[event.Partition]int64
}

// keepRuleMemory loads memory that rules wait for, and writes what is new.
func (a *App) keepRuleMemory(ctx context.Context) error {
	return a.whenStored(ctx, func(ctx context.Context) error {
		var waits memoryBatch
		said := ""
		for ctx.Err() == nil {
			a.mu.Lock()
			s := a.session
			a.mu.Unlock()
			if s == nil || waits.engine != s.engine {
				waits = memoryBatch{}
			}
			if s != nil {
				err := errors.Join(a.loadRuleMemory(ctx, s.engine, true), a.writeRuleMemory(ctx, s, &waits))
				if err != nil && ctx.Err() == nil && err.Error() != said {
					said = err.Error()
					a.log.Warn("what rules remember was not loaded or kept; trying again", "error", err)
				}
			}
			_ = pause(ctx, memoryEvery)
		}
		return nil
	})
}

// writeRuleMemory takes what is new, or writes what was taken before.
func (a *App) writeRuleMemory(ctx context.Context, s *session, waits *memoryBatch) error {
	if len(waits.pieces) == 0 {
		*waits = memoryBatch{engine: s.engine, pieces: s.engine.TakeMemory(memoryPieces), upTo: map[event.Partition]int64{}}
		for _, p := range s.pipeline.Status() {
			waits.upTo[p.Partition] = p.Observed
		}
		return nil
	}
	if !a.kept.covers(waits.upTo) {
		return nil
	}
	if err := a.store.WriteMemory(ctx, waits.pieces); err != nil {
		return err
	}
	waits.pieces = nil
	return nil
}

// errNotWhole is the state of a rule whose past was not read off the events yet.
var errNotWhole = errors.New("its past is not read off the stored events yet")

// loadRuleMemory gives the rules that are learning what is kept of them; with
// history a rule of which not all is kept gets what the stored events tell, which
// may take a while.
func (a *App) loadRuleMemory(ctx context.Context, e *detect.Engine, history bool) error {
	learning := e.Forgetful()
	if len(learning) == 0 {
		return nil
	}
	set := e.Rules()
	var errs []error
	for _, c := range learning {
		if !slices.Contains(set.Correlations, c) {
			continue // swapped just now; the next turn has its successor
		}
		n, err := a.recall(ctx, e, set, c, history)
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %s: %w", c.ID, err))
			continue
		}
		if err := e.LoadMemory(c.ID, c.Logic, nil, true); err != nil {
			errs = append(errs, err)
			continue
		}
		a.log.Info("rule knows what came before", "rule", c.ID, "pieces", n)
	}
	return errors.Join(errs...)
}

// recall loads what is kept of a rule, or else what the stored events tell.
func (a *App) recall(ctx context.Context, e *detect.Engine, set *rules.Set, c *rules.Correlation, history bool) (n int, err error) {
	now := event.At(a.opts.Now())
	since := now.Add(-correlate.HistoryOf(c))
	load := func(pieces []memory.Piece) error {
		// What does not fit the rule any more is no reason to have none.
		if err := e.LoadMemory(c.ID, c.Logic, pieces, false); err != nil {
			a.log.Warn("a piece of memory was passed over", "rule", c.ID, "error", err)
		}
		return nil
	}
	whole, err := a.store.MemorySince(ctx, c.ID, c.Logic)
	if err != nil {
		return 0, err
	}
	if whole != 0 {
		n, err := a.store.ReadMemory(ctx, c.ID, c.Logic, since, load)
		if n > 0 || err != nil || c.Type != rules.RateAnomaly {
			return n, err
		}
		// No season at all: nothing happened yet, or the seasons were lost.
	}
	if !history {
		return 0, errNotWhole
	}
	err = a.stored().Remembered(ctx, set, c, since, now, func(pieces []memory.Piece) error {
		n += len(pieces)
		if err := a.store.WriteMemory(ctx, pieces); err != nil {
			return err
		}
		return load(pieces)
	})
	if errors.Is(err, stored.ErrNoHistory) {
		a.log.Info("a rule begins without memory", "rule", c.ID, "reason", err)
		err = nil
	}
	if err != nil {
		return n, err
	}
	return n, a.store.MarkMemory(ctx, c.ID, c.Logic, now)
}

// keptPositions are the detected positions that the control topic holds for this
// member's leadership.
type keptPositions struct {
	mu sync.Mutex
	at map[event.Partition]int64
}

// note takes over positions that were saved.
func (k *keptPositions) note(detected map[event.Partition]int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at == nil {
		k.at = map[event.Partition]int64{}
	}
	maps.Copy(k.at, detected)
}

// covers reports whether all of upTo is kept. A partition of which nothing was
// observed has no position that is kept, and needs none.
func (k *keptPositions) covers(upTo map[event.Partition]int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, pos := range upTo {
		if k.at[p] < pos {
			return false
		}
	}
	return true
}
