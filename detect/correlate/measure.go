package correlate

import (
	"math"
	"slices"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// maxExact is how many values of one group and window are kept one by one;
// beyond it the window becomes panes.
const maxExact = 4096

// sample is one value at one time.
type sample struct {
	ts event.Instant
	v  float64
}

// samples holds the values of the window in order of time.
type samples struct {
	all  []sample
	head int
}

func (q *samples) live() []sample { return q.all[q.head:] }

// add puts x in its place and forgets what is before from; it returns what it
// forgot, valid until the next call.
func (q *samples) add(x sample, from event.Instant) []sample {
	q.all = append(q.all, x)
	for i := len(q.all) - 1; i > q.head && q.all[i-1].ts > x.ts; i-- {
		q.all[i], q.all[i-1] = q.all[i-1], x
	}
	return q.forget(from)
}

func (q *samples) forget(from event.Instant) []sample {
	old := q.head
	for q.head < len(q.all) && q.all[q.head].ts < from {
		q.head++
	}
	gone := q.all[old:q.head]
	if q.head > 64 && q.head*2 > len(q.all) {
		gone = slices.Clone(gone)
		n := copy(q.all, q.all[q.head:])
		q.all, q.head = q.all[:n], 0
	}
	return gone
}

// ratioWindow is event_ratio: observations of the first input over those of the
// second.
type ratioWindow struct {
	q      samples // v holds the mask of inputs
	counts [2]int64
	panes  *panes
}

func (w *ratioWindow) arrive(*spec, *obs, event.Instant) bool { return false }
func (w *ratioWindow) newest(*spec) float64                   { return 0 }
func (w *ratioWindow) approximate() bool                      { return w.panes != nil }

func (w *ratioWindow) add(s *spec, o *obs) {
	mask := float64(o.mask & 3)
	if w.panes != nil {
		w.panes.add(o.ts, mask)
		return
	}
	w.count(sample{v: mask}, 1)
	for _, x := range w.q.add(sample{o.ts, mask}, o.ts-s.span) {
		w.count(x, -1)
	}
	if len(w.q.live()) > maxExact {
		w.panes = newPanes(s)
		for _, x := range w.q.live() {
			w.panes.add(x.ts, x.v)
		}
		w.q = samples{}
	}
}

func (w *ratioWindow) count(x sample, by int64) {
	if int(x.v)&1 != 0 {
		w.counts[0] += by
	}
	if int(x.v)&2 != 0 {
		w.counts[1] += by
	}
}

func (w *ratioWindow) judge(s *spec, t event.Instant) (float64, bool) {
	for _, x := range w.q.forget(t - s.span) {
		w.count(x, -1)
	}
	num, den := float64(w.counts[0]), float64(w.counts[1])
	if w.panes != nil {
		sum := w.panes.total(t)
		if sum.n == 0 {
			w.panes, w.counts = nil, [2]int64{}
			return 0, false
		}
		num, den = sum.sum, sum.den
	}
	return ratio(s, num, den)
}

// ratio compares num over den, in percent; without a denominator there is none.
func ratio(s *spec, num, den float64) (float64, bool) {
	if den <= 0 || den < float64(s.corr.MinDenominator) {
		return 0, false
	}
	v := 100 * num / den
	return v, s.holds(v)
}

func (w *ratioWindow) size() int { return 96 + 16*cap(w.q.all) + w.panes.size() }

// measureWindow is value_sum, value_avg, value_median and value_percentile.
type measureWindow struct {
	q      samples
	sorted []float64 // of a percentile: the values in order of size
	panes  *panes
}

func (w *measureWindow) arrive(*spec, *obs, event.Instant) bool { return false }
func (w *measureWindow) newest(*spec) float64                   { return 0 }
func (w *measureWindow) approximate() bool                      { return w.panes != nil }

func (w *measureWindow) add(s *spec, o *obs) {
	v := math.Float64frombits(o.val)
	if w.panes != nil {
		w.panes.add(o.ts, v)
		return
	}
	gone := w.q.add(sample{o.ts, v}, o.ts-s.span)
	if ranked(s.typ) {
		i, _ := slices.BinarySearch(w.sorted, v)
		w.sorted = slices.Insert(w.sorted, i, v)
		w.unsort(gone)
	}
	if len(w.q.live()) > maxExact {
		w.panes = newPanes(s)
		for _, x := range w.q.live() {
			w.panes.add(x.ts, x.v)
		}
		w.q, w.sorted = samples{}, nil
	}
}

func (w *measureWindow) unsort(gone []sample) {
	for _, x := range gone {
		if i, ok := slices.BinarySearch(w.sorted, x.v); ok {
			w.sorted = slices.Delete(w.sorted, i, i+1)
		}
	}
}

func ranked(t rules.CorrelationType) bool {
	return t == rules.ValueMedian || t == rules.ValuePercentile
}

func (w *measureWindow) judge(s *spec, t event.Instant) (float64, bool) {
	if w.panes != nil {
		sum := w.panes.total(t)
		if sum.n == 0 {
			w.panes = nil
			return 0, false
		}
		v := w.panes.value(s, t, sum)
		return v, s.holds(v)
	}
	gone := w.q.forget(t - s.span)
	if ranked(s.typ) {
		w.unsort(gone)
	}
	all := w.q.live()
	if len(all) == 0 {
		return 0, false
	}
	var v float64
	switch s.typ {
	case rules.ValueMedian:
		v = median(w.sorted)
	case rules.ValuePercentile:
		v = percentile(w.sorted, s.corr.Percentile)
	default:
		for _, x := range all {
			v += x.v
		}
		if s.typ == rules.ValueAvg {
			v /= float64(len(all))
		}
	}
	return v, s.holds(v)
}

func (w *measureWindow) size() int {
	return 96 + 16*cap(w.q.all) + 8*cap(w.sorted) + w.panes.size()
}

// median of values in order: the middle one, or the mean of the middle two.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// percentile of values in order, by nearest rank: the smallest value that at
// least p percent do not exceed.
func percentile(sorted []float64, p float64) float64 {
	return sorted[rank(len(sorted), p)-1]
}

// rank is the 1-based nearest rank of the p-th percentile of n values.
func rank(n int, p float64) int {
	return min(max(int(math.Ceil(p/100*float64(n))), 1), n)
}
