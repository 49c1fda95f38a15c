package detect

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Stored reads what is stored; *stored.Reader is the real one.
type Stored interface {
	// History says how far back the stored events reach.
	History(ctx context.Context, since event.Instant) (stored.History, error)
	// Read shows the events of a request in order of time, until see returns
	// false, an error, or the end of ctx.
	Read(ctx context.Context, q stored.Request, see func(*stored.Row) bool) error
}

var (
	errNoStore = errors.New("no store is configured")
	errLive    = errors.New("its windows are live already")
)

// Lookback is how far back the windows and the inventory reach, in nanoseconds.
func (e *Engine) Lookback() int64 {
	e.correlating.Lock()
	defer e.correlating.Unlock()
	return int64(max(e.windows.FillBack(), e.cfg.InventoryAge+e.cfg.HeartbeatTimeout))
}

// snapshotSlack is how far before its time a snapshot may lack events.
const snapshotSlack = time.Minute

// RegistrySince is from when on the registries want events, when the last that was
// judged is of end: from what a snapshot holds on, or, without one, as far back as
// a host has to be known; and for the life of a token, which no snapshot holds.
func (e *Engine) RegistrySince(end event.Instant) event.Instant {
	e.mu.Lock()
	defer e.mu.Unlock()
	since := end.Add(-e.cfg.InventoryAge - e.cfg.HeartbeatTimeout)
	if e.snapshot != 0 {
		since = max(since, min(end, e.snapshot).Add(-snapshotSlack))
	}
	return min(since, end.Add(-e.cfg.TokenLife-e.cfg.TokenLeeway))
}

// Fill fills windows silently from what is stored below the given positions,
// newest events first, until ctx ends. It is called once, before the first Replay
// or Observe of these partitions. What it did not reach is noted as missing, and
// the rules that want it are learning. It returns the positions for which nothing
// was taken, and why: Kafka has to be read again for them, as far back as Lookback
// says.
func (e *Engine) Fill(ctx context.Context, at []event.Standing) ([]event.Standing, error) {
	e.swap.RLock()
	defer e.swap.RUnlock()
	var live, past []event.Standing
	for _, p := range at {
		if e.imported(p.Partition.Topic) {
			past = append(past, p)
		} else {
			live = append(live, p)
		}
	}
	a := &filling{e: e, windows: e.windows, at: live, matcher: rules.NewMatcher(e.set.Program())}
	b := &filling{e: e, windows: e.past, at: past, matcher: a.matcher, imported: true}
	if err := a.run(ctx); err != nil {
		b.standing() // what is asked next would not be answered either
		return at, err
	}
	if err := b.run(ctx); err != nil {
		return past, err
	}
	return nil, nil
}

// filling is one run of Fill over one kind of topics.
type filling struct {
	e        *Engine
	windows  *correlate.Correlator
	matcher  *rules.Matcher
	at       []event.Standing
	imported bool

	resumed event.Instant
	since   []event.Instant // by place in Set.Rules
	oldest  event.Instant   // the least of since
	rows    int
	matches int
}

// resumeAt is the event time at which judging goes on: where the partition is that
// is farthest behind. One that was read to its end holds nothing back, however
// old its last record is. Zero: nothing was judged yet.
func resumeAt(at []event.Standing) event.Instant {
	var newest event.Instant
	for _, p := range at {
		newest = max(newest, p.End)
	}
	out := newest
	for _, p := range at {
		if p.Next != 0 {
			out = min(out, max(p.End, min(p.Next, newest)))
		}
	}
	return out
}

// standing tells the windows where judging goes on, if anything was judged.
func (f *filling) standing() bool {
	f.e.correlating.Lock()
	defer f.e.correlating.Unlock()
	f.resumed = resumeAt(f.at)
	if f.resumed == 0 || f.windows.Live() {
		return false
	}
	f.windows.Resume(f.resumed, math.MinInt64)
	f.oldest = f.resumed
	for _, back := range f.windows.Backs() {
		since := event.Instant(0)
		if back > 0 {
			since = max(f.resumed.Add(-back), 1)
			f.oldest = min(f.oldest, since)
		}
		f.since = append(f.since, since)
	}
	return true
}

func (f *filling) run(ctx context.Context) error {
	if len(f.at) > 0 && f.live() {
		return errLive
	}
	if !f.standing() || f.oldest == f.resumed {
		return nil // nothing was judged yet, or no rule looks back
	}
	if f.e.stored == nil {
		return errNoStore
	}
	h, err := f.e.stored.History(ctx, f.oldest)
	if err != nil {
		return err
	}
	missing := f.lacking(h)
	reached, err := f.bands(ctx)
	if err != nil && f.rows == 0 && ctx.Err() == nil {
		return err
	}
	missing = max(missing, reached)
	f.e.correlating.Lock()
	f.windows.Missing(missing)
	f.e.correlating.Unlock()
	f.e.m.filled.Add(float64(f.rows))
	f.e.log.Info("windows are filled from what is stored", "events", f.rows, "matches", f.matches, "back_to", max(missing, f.oldest).String(),
		"wanted", f.oldest.String(), "imported", f.imported, "error", err)
	return nil
}

func (f *filling) live() bool {
	f.e.correlating.Lock()
	defer f.e.correlating.Unlock()
	return f.windows.Live()
}

// lacking is the instant before which stored events are missing that a rule
// wants: nothing is, when all reach back to the beginning of their partitions.
func (f *filling) lacking(h stored.History) event.Instant {
	missing := event.Instant(math.MinInt64)
	for _, p := range f.at {
		first, any := h.First[p.Partition]
		switch {
		case p.Below == 0 || any && first == 0:
		case h.Oldest == 0:
			missing = max(missing, p.From)
		case h.Oldest > f.oldest:
			missing = max(missing, h.Oldest)
		}
	}
	return missing
}

// maxFilled bounds the matches that wait for the watermark while windows are
// filled, as a part of what may wait at all.
func (f *filling) maxFilled() int { return f.e.cfg.Windows.MaxPending / 4 }

var errTooMany = errors.New("more events satisfy the rules than windows are filled with")

// bands reads what is stored in bands of time, the newest first, so that rules
// with short timespans are filled whatever the long ones ask for. Each band is
// read for the rules that look back so far. Nothing is judged meanwhile, so the
// order does not matter. It returns the instant down to which all was read.
func (f *filling) bands(ctx context.Context) (event.Instant, error) {
	var top event.Instant // nothing stored that is wanted is later
	for _, p := range f.at {
		top = max(top, p.From)
	}
	upper := max(top, f.resumed).Add(48 * time.Hour)
	for back := time.Hour; ; back *= 4 {
		lower := max(f.resumed.Add(-back), f.oldest)
		if top == 0 || !f.imported && lower > top.Add(time.Minute) {
			if lower <= f.oldest {
				return math.MinInt64, nil
			}
			upper = lower
			continue
		}
		full := false
		err := f.e.stored.Read(ctx, stored.Request{Rules: f.e.set, Extra: f.extra(), From: lower, To: upper, Since: f.since, Below: f.at}, func(r *stored.Row) bool {
			f.take(r)
			full = f.matches >= f.maxFilled()
			return !full
		})
		switch {
		case err != nil:
			return upper, err
		case full:
			return upper, errTooMany
		case lower <= f.oldest:
			return math.MinInt64, nil
		}
		upper = lower
	}
}

// extra are the fields that evidence shows, and the one by which an event of a
// probe of ours is known.
func (f *filling) extra() []event.Field {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	if len(f.e.probes) == 0 {
		return evidenceFields
	}
	return append(slices.Clip(evidenceFields), event.FieldRequestID)
}

// take shows one stored event to the windows.
func (f *filling) take(r *stored.Row) {
	e := f.e
	e.mu.Lock()
	own := e.isProbe(&r.Event)
	e.mu.Unlock()
	if own {
		return
	}
	f.rows++
	f.matches += len(r.Hits)
	f.matcher.Read(&r.Event)
	e.correlating.Lock()
	defer e.correlating.Unlock()
	// Nothing fires: it is silent, and the watermark stands.
	f.windows.Observe(correlate.Input{Matched: r.Hits, Values: f.matcher, Event: &r.Event, TS: r.Event.TS, Ref: r.Event.Ref, Silent: true}, nil)
	if e.evidence.room() && f.windows.Noted() {
		e.evidence.add(&r.Event)
	}
}

// Missing says that events of a partition before the instant were neither filled
// in nor replayed.
func (e *Engine) Missing(p event.Partition, before event.Instant) {
	e.swap.RLock()
	defer e.swap.RUnlock()
	e.correlating.Lock()
	defer e.correlating.Unlock()
	e.windowsOf(p.Topic).Missing(before)
}

// Learning names the rules whose windows are not filled: they may miss what began
// before, and those that judge what is absent wait.
func (e *Engine) Learning() []string {
	e.mu.Lock()
	live, past := e.live.current, e.history.current
	e.mu.Unlock()
	e.swap.RLock()
	defer e.swap.RUnlock()
	e.correlating.Lock()
	defer e.correlating.Unlock()
	var out []string
	for _, m := range append(e.windows.Learning(live), e.past.Learning(past)...) {
		out = append(out, m.Title)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
