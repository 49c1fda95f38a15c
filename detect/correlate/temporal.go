package correlate

import "github.com/keysentry/keysentry/event"

// temporalWindow is temporal without not: the latest time per input, once as
// they arrive and once in order.
type temporalWindow struct {
	early, exact []event.Instant
}

func newTemporal(s *spec) *temporalWindow {
	both := make([]event.Instant, 2*len(s.inputs))
	for i := range both {
		both[i] = never
	}
	return &temporalWindow{early: both[:len(s.inputs)], exact: both[len(s.inputs):]}
}

// never is before every time, by more than any timespan.
const never = event.Instant(-1 << 62)

func (w *temporalWindow) arrive(s *spec, o *obs, newest event.Instant) bool {
	mark(w.early, o)
	return s.present(within(w.early, newest-s.span))
}

func (w *temporalWindow) newest(s *spec) float64 { return float64(len(s.inputs)) }

func (w *temporalWindow) add(s *spec, o *obs) { mark(w.exact, o) }

func (w *temporalWindow) judge(s *spec, t event.Instant) (float64, bool) {
	return float64(len(s.inputs)), s.present(within(w.exact, t-s.span))
}

func (w *temporalWindow) size() int { return 48 + 16*len(w.early) }

func mark(times []event.Instant, o *obs) {
	for i := range times {
		if o.mask&(1<<i) != 0 {
			times[i] = max(times[i], o.ts)
		}
	}
}

func within(times []event.Instant, from event.Instant) uint64 {
	var mask uint64
	for i, t := range times {
		if t >= from {
			mask |= 1 << i
		}
	}
	return mask
}

// orderedWindow is temporal_ordered. For each way to satisfy the condition and
// each input of it, it holds the latest start of a chain of distinct observations
// that matches the inputs up to this one, in order. A chain fits into the window
// that ends at t exactly if the latest start of a whole chain is in it, which is
// what the greedy earliest successor finds.
type orderedWindow struct {
	early, exact         []event.Instant // the chains of all ways, one after another
	earlyLast, exactLast event.Instant   // the newest ts that each took in
}

func newOrdered(s *spec) *orderedWindow {
	n := 0
	for _, t := range s.terms {
		n += len(t.Need)
	}
	both := make([]event.Instant, 2*n)
	for i := range both {
		both[i] = never
	}
	return &orderedWindow{early: both[:n], exact: both[n:], earlyLast: never, exactLast: never}
}

func (w *orderedWindow) arrive(s *spec, o *obs, newest event.Instant) bool {
	// An observation out of order would make chains that run backwards, and one
	// of the same ts may belong before the last: the ordered view has them.
	if o.ts > w.earlyLast {
		w.earlyLast = o.ts
		s.chain(w.early, o)
	}
	return s.chained(w.early, newest-s.span)
}

func (w *orderedWindow) newest(s *spec) float64 { return float64(len(s.inputs)) }

func (w *orderedWindow) add(s *spec, o *obs) {
	// A late observation, behind what was judged, is left out: see above.
	if o.ts >= w.exactLast {
		w.exactLast = o.ts
		s.chain(w.exact, o)
	}
}

func (w *orderedWindow) judge(s *spec, t event.Instant) (float64, bool) {
	return float64(len(s.inputs)), s.chained(w.exact, t-s.span)
}

func (w *orderedWindow) size() int { return 80 + 16*len(w.early) }

// chain lengthens chains by o, each from the last input to the first, so that
// one observation is never two links of a chain.
func (s *spec) chain(start []event.Instant, o *obs) {
	for _, t := range s.terms {
		for i := len(t.Need) - 1; i > 0; i-- {
			if o.mask&(1<<t.Need[i]) != 0 {
				start[i] = max(start[i], start[i-1])
			}
		}
		if o.mask&(1<<t.Need[0]) != 0 {
			start[0] = max(start[0], o.ts)
		}
		start = start[len(t.Need):]
	}
}

// chained reports whether a whole chain started at from or later.
func (s *spec) chained(start []event.Instant, from event.Instant) bool {
	for _, t := range s.terms {
		if start[len(t.Need)-1] >= from {
			return true
		}
		start = start[len(t.Need):]
	}
	return false
}

// orderedForward is what a forward window of temporal_ordered has seen: per way
// to satisfy the condition, how many of its inputs matched in order. Its
// observations come in order; a late one behind the newest is no link.
type orderedForward struct {
	done   []int
	newest event.Instant
}

func (f *orderedForward) add(s *spec, o *obs) {
	if f.done == nil {
		f.done, f.newest = make([]int, len(s.terms)), never
	}
	if o.ts < f.newest {
		return
	}
	f.newest = o.ts
	for i, t := range s.terms {
		if n := f.done[i]; n < len(t.Need) && o.mask&(1<<t.Need[n]) != 0 {
			f.done[i]++
		}
	}
}

// holds reports whether one way is complete and none of what it excludes is
// among the inputs seen.
func (f *orderedForward) holds(s *spec, seen uint64) bool {
	for i, t := range s.terms {
		if f.done != nil && f.done[i] == len(t.Need) && seen&t.None == 0 {
			return true
		}
	}
	return false
}
