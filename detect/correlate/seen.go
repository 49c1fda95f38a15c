package correlate

import (
	"cmp"
	"slices"

	"github.com/keysentry/keysentry/event"
)

// seenWindow is first_seen: the values of a group, each with the times at which
// it was first and last seen. A value satisfies the condition when it was not
// seen within the lookback before; it is judged in order of time.
//
// A group that begins after others were dropped for room may be one of them: until
// the lookback has passed since, its values are not told, but counted as unknown.
//
// A group that has been known for less than learn fires nothing: all of its
// values are new. One of which nothing was seen for the lookback is new again. A
// rule whose memory was not loaded fires nothing either.
type seenWindow struct {
	known map[uint64]*seenValue
	since event.Instant // when the group was first seen; never: it was not
	last  event.Instant // when it was last seen
	fresh int           // new values since the last verdict
	took  bool          // the last observation was one
	// doubt is when the newest of the groups that were dropped before this one
	// began was last seen; never: none was.
	doubt event.Instant
	// changed are values that TakeMemory has to tell.
	changed []uint64
	names   int // bytes of texts
}

type seenValue struct {
	first, last event.Instant
	told        event.Instant // last, as it was told
	text        string
	named       bool // text is the value; else it was forgotten while it waited
}

// maxSeen bounds the values of one group. Beyond it the quarter that was not seen
// for longest is forgotten.
const maxSeen = 65_536

func (w *seenWindow) has(val uint64) bool { return w.known[val] != nil }

func (w *seenWindow) arrive(*spec, *obs, event.Instant) bool { return false }
func (w *seenWindow) newest(*spec) float64                   { return 0 }

func (w *seenWindow) add(s *spec, o *obs) {
	if w.since == never || o.ts-w.last > event.Instant(s.corr.Lookback) {
		w.since = o.ts
	}
	w.since, w.last = min(w.since, o.ts), max(w.last, o.ts)
	w.took = false
	v := w.known[o.val]
	switch {
	case v == nil:
		v = &seenValue{first: o.ts, last: o.ts, told: never}
		if o.carried != nil {
			v.text, v.named = o.carried.value, o.carried.named
			w.names += len(v.text)
		}
		w.known[o.val] = v
		w.bound()
	case o.ts-v.last <= event.Instant(s.corr.Lookback):
		v.first, v.last = min(v.first, o.ts), max(v.last, o.ts)
		w.change(s, o.val, v)
		return
	}
	v.last = max(v.last, o.ts)
	w.change(s, o.val, v)
	switch {
	case s.learning || o.ts-w.since < event.Instant(s.corr.Learn):
	case w.doubt != never && o.ts-w.doubt <= event.Instant(s.corr.Lookback):
		s.doubted++
	default:
		w.fresh++
		w.took = true
	}
}

// change notes a value to be told: a new one, or one whose last time has moved by
// enough that a restart would misjudge it.
func (w *seenWindow) change(s *spec, val uint64, v *seenValue) {
	if s.remembers && v.named && v.last-v.told >= max(event.Instant(s.corr.Lookback)/64, event.Instant(updateEvery)) {
		v.told = v.last
		w.changed = append(w.changed, val)
	}
}

// bound forgets values when there are too many.
func (w *seenWindow) bound() {
	if len(w.known) <= maxSeen {
		return
	}
	type aged struct {
		val  uint64
		last event.Instant
	}
	all := make([]aged, 0, len(w.known))
	for val, v := range w.known {
		all = append(all, aged{val, v.last})
	}
	slices.SortFunc(all, func(a, b aged) int { return cmp.Or(cmp.Compare(a.last, b.last), cmp.Compare(a.val, b.val)) })
	for _, a := range all[:len(all)/4] {
		w.names -= len(w.known[a.val].text)
		delete(w.known, a.val)
	}
}

// judge reports the new values since the last verdict.
func (w *seenWindow) judge(*spec, event.Instant) (float64, bool) {
	n := w.fresh
	w.fresh = 0
	return float64(n), n > 0
}

func (w *seenWindow) size() int { return 128 + 104*len(w.known) + w.names + 8*cap(w.changed) }
