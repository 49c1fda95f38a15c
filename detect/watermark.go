package detect

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/keysentry/keysentry/event"
)

// fetchFresh is how old a partition's last fetch may be for it to count as
// drained.
const fetchFresh = 2 * time.Second

// progress is how far one partition was read.
type progress struct {
	newest  event.Instant // newest ts; noTS before the first event
	fetched event.Instant // time of the last successful fetch
	// level is since when the position has equalled the end of the partition
	// without an event; zero: it does not. Records that are no events move the
	// position too, and must not let anyone who can write them hold the watermark.
	level event.Instant
}

const noTS = event.Instant(math.MinInt64)

// watermarks computes the watermark of DESIGN: see the package comment.
type watermarks struct {
	lateness, idle time.Duration
	parts          map[event.Partition]*progress
	current        event.Instant
	now            event.Instant // the latest that was told
	// imported: the times are those of the records' producer, maybe years ago, so
	// that the clock says nothing about what is still to come.
	imported bool
}

func newWatermarks(cfg Config) watermarks {
	return watermarks{lateness: cfg.Lateness, idle: cfg.IdleAfter, parts: map[event.Partition]*progress{}, current: noTS}
}

// assign makes parts the ones that take part; those that stay keep their state.
func (w *watermarks) assign(parts []event.Partition) {
	next := make(map[event.Partition]*progress, len(parts))
	for _, p := range parts {
		next[p] = w.at(p)
	}
	w.parts = next
}

func (w *watermarks) at(p event.Partition) *progress {
	s := w.parts[p]
	if s == nil {
		s = &progress{newest: noTS}
		w.parts[p] = s
	}
	return s
}

// saw takes in the newest ts of a batch.
func (w *watermarks) saw(p event.Partition, newest event.Instant) {
	s := w.at(p)
	s.newest = max(s.newest, newest)
	s.level = 0
}

// fetched takes in a successful fetch.
func (w *watermarks) fetched(p event.Partition, position, highWatermark int64, now event.Instant) {
	w.now = max(w.now, now)
	s := w.at(p)
	s.fetched = now
	switch {
	case position < highWatermark:
		s.level = 0
	case s.level == 0:
		s.level = now
	}
}

func (w *watermarks) drained(s *progress, now event.Instant) bool {
	return s.level != 0 && now.Sub(s.level) >= w.idle && now.Sub(s.fetched) < fetchFresh
}

// advance computes the watermark as of the latest time that was told.
func (w *watermarks) advance(now event.Instant) event.Instant {
	w.now = max(w.now, now)
	low := event.Instant(math.MaxInt64)
	active := false
	for _, s := range w.parts {
		if w.drained(s, w.now) {
			continue
		}
		active = true
		low = min(low, s.newest)
	}
	switch {
	case len(w.parts) == 0 || active && low == noTS:
		return w.current
	case !active && w.imported:
		return w.current
	case !active:
		low = w.now.Add(-w.idle)
	}
	w.current = max(w.current, low.Add(-w.lateness))
	return w.current
}

// holders are the partitions whose newest event holds the watermark, the
// farthest behind first.
func (w *watermarks) holders(now event.Instant) []event.Partition {
	var out []event.Partition
	for p, s := range w.parts {
		if !w.drained(s, now) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b event.Partition) int {
		return cmp.Or(cmp.Compare(w.parts[a].newest, w.parts[b].newest), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// allFetched reports whether every partition was fetched from, live.
func (w *watermarks) allFetched() bool {
	for _, s := range w.parts {
		if s.fetched == 0 {
			return false
		}
	}
	return len(w.parts) > 0
}
