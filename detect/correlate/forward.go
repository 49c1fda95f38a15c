package correlate

import (
	"math"
	"slices"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// forwardWindow is the state of one group whose windows look forward: what the
// open window holds so far.
type forwardWindow struct {
	open       bool
	start, end event.Instant

	n       int                 // events
	mask    uint64              // inputs seen
	num     int                 // of a ratio: events of the first input
	den     int                 // of a ratio: events of the second
	sum     float64             // of measured values
	values  map[uint64]struct{} // distinct counted values, at most maxValues
	samples []float64           // of a percentile
	panes   *panes
	ordered orderedForward
	// Of absence: when the latest event of the second rule was, and the end of the
	// last window that was judged.
	partner, fired event.Instant
	live           bool
}

func newForward(*spec) *forwardWindow {
	return &forwardWindow{start: never, end: never, partner: never, fired: never}
}

// begin opens a window of a length at t.
func (w *forwardWindow) begin(t, length event.Instant) {
	*w = forwardWindow{open: true, start: t, end: t + length, samples: w.samples[:0], partner: w.partner, fired: w.fired}
}

func (w *forwardWindow) add(s *spec, o *obs) {
	w.n++
	w.mask |= o.mask
	switch s.typ {
	case rules.EventRatio:
		w.num += int(o.mask & 1)
		w.den += int(o.mask >> 1 & 1)
	case rules.TemporalOrdered:
		w.ordered.add(s, o)
	case rules.ValueCount:
		if w.values == nil {
			w.values = map[uint64]struct{}{}
		}
		if len(w.values) < s.maxValues() {
			w.values[o.val] = struct{}{}
		}
	case rules.ValueSum, rules.ValueAvg:
		w.sum += math.Float64frombits(o.val)
	case rules.ValueMedian, rules.ValuePercentile:
		w.rankedValue(s, o)
	}
}

func (w *forwardWindow) rankedValue(s *spec, o *obs) {
	v := math.Float64frombits(o.val)
	if w.panes == nil && len(w.samples) < maxExact {
		w.samples = append(w.samples, v)
		return
	}
	if w.panes == nil {
		w.panes = newPanes(s)
		for _, x := range w.samples {
			w.panes.add(w.end, x)
		}
		w.samples = nil
	}
	w.panes.add(w.end, v)
}

// maxValues is how many distinct values decide a condition: one more than its
// largest bound. With neq the finding says how many there were, up to maxExact.
func (s *spec) maxValues() int {
	n := 1
	for _, b := range s.bounds {
		n = max(n, int(clampCount(b.Value))+2)
		if b.Op == "neq" {
			n = max(n, maxExact)
		}
	}
	return n
}

// judge evaluates the whole window.
func (w *forwardWindow) judge(s *spec) (float64, bool) {
	var v float64
	switch s.typ {
	case rules.Temporal:
		return float64(w.n), s.present(w.mask)
	case rules.Absence:
		return float64(w.n), true // a second event would have closed it
	case rules.TemporalOrdered:
		return float64(w.n), w.ordered.holds(s, w.mask)
	case rules.EventRatio:
		return ratio(s, float64(w.num), float64(w.den))
	case rules.EventCount:
		v = float64(w.n)
	case rules.ValueCount:
		v = float64(len(w.values))
	case rules.ValueSum:
		v = w.sum
	case rules.ValueAvg:
		v = w.sum / float64(w.n)
	default:
		v = w.rank(s)
	}
	return v, s.holds(v)
}

func (w *forwardWindow) rank(s *spec) float64 {
	if w.panes != nil {
		return w.panes.value(s, w.end, w.panes.total(w.end))
	}
	slices.Sort(w.samples)
	if s.typ == rules.ValueMedian {
		return median(w.samples)
	}
	return percentile(w.samples, s.corr.Percentile)
}

func (w *forwardWindow) approximate() bool { return w.panes != nil }

func (w *forwardWindow) size() int {
	return 192 + 16*len(w.values) + 8*(cap(w.samples)+len(w.ordered.done)) + w.panes.size()
}

// forwardAdd takes an observation in, in order; a late one only if it lies in
// the open window or after the last.
func (c *Correlator) forwardAdd(g *group, o *obs, live bool) {
	if g.s.typ == rules.Absence {
		c.absenceAdd(g, o, live)
		return
	}
	w := g.fwd
	switch {
	case w.open && o.ts > w.end:
		c.forwardEnd(g)
		fallthrough
	case !w.open && o.ts > w.end:
		w.begin(o.ts, g.s.span)
		c.timer(g, w.end)
	case !w.open || o.ts < w.start:
		c.stats.Late++
		return
	}
	w.live = w.live || live
	w.add(g.s, o)
	c.weigh(g)
}

// forwardEnd judges the open window of g, whose end the watermark has passed.
func (c *Correlator) forwardEnd(g *group) {
	w := g.fwd
	if !w.open {
		return
	}
	w.open, w.fired = false, w.end
	g.judged = w.end
	v, ok := w.judge(g.s)
	from := w.start - g.s.before()
	if !ok || !g.s.judges(from) || !c.certain(g, from, w.end) {
		return
	}
	c.end(g)
	g.live = w.live
	c.open(g, &episode{first: w.start, last: w.end, count: uint64(w.n), value: v}, false)
	c.end(g)
	g.live = false
}
