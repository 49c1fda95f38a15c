package correlate

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// numPanes is how many parts an approximate window has.
const numPanes = 64

// panes is a window with too many values to keep each: 64 parts of a 64th of the
// timespan, on bounds that are multiples of it, the one that t lies in included.
type panes struct {
	width event.Instant
	ratio bool
	ring  [numPanes]pane
	ranks bool
}

type pane struct {
	id  int64
	sum tally
	// hist counts values per logarithmic bucket of 1 %, for percentiles.
	hist map[int32]uint32
}

// tally is what panes add up to. For a ratio sum counts the first input and den
// the second.
type tally struct {
	n        int64
	sum, den float64
}

func newPanes(s *spec) *panes {
	return &panes{width: max(s.span/numPanes, 1), ratio: s.typ == rules.EventRatio, ranks: ranked(s.typ)}
}

func (p *panes) id(t event.Instant) int64 {
	n := int64(t / p.width)
	if t < 0 && t%p.width != 0 {
		n--
	}
	return n
}

func (p *panes) add(t event.Instant, v float64) {
	id := p.id(t)
	at := &p.ring[((id%numPanes)+numPanes)%numPanes]
	if at.id > id && at.sum.n > 0 {
		return // late by more than the window
	}
	if at.id != id {
		*at = pane{id: id}
	}
	at.sum.n++
	switch {
	case p.ratio:
		mask := int(v)
		at.sum.sum += float64(mask & 1)
		at.sum.den += float64(mask >> 1 & 1)
	case p.ranks:
		if at.hist == nil {
			at.hist = map[int32]uint32{}
		}
		at.hist[logBucket(v)]++
	default:
		at.sum.sum += v
	}
}

// total adds up the window that ends at t.
func (p *panes) total(t event.Instant) tally {
	var sum tally
	p.each(t, func(at *pane) {
		sum.n += at.sum.n
		sum.sum += at.sum.sum
		sum.den += at.sum.den
	})
	return sum
}

// each visits the panes of the window that ends at t, oldest first, so that
// sums do not depend on where the ring starts.
func (p *panes) each(t event.Instant, f func(*pane)) {
	last := p.id(t)
	for id := last - numPanes + 1; id <= last; id++ {
		at := &p.ring[((id%numPanes)+numPanes)%numPanes]
		if at.id == id && at.sum.n > 0 {
			f(at)
		}
	}
}

// value is what the condition compares; sum is the total at t.
func (p *panes) value(s *spec, t event.Instant, sum tally) float64 {
	switch s.typ {
	case rules.ValueAvg:
		return sum.sum / float64(sum.n)
	case rules.ValueMedian, rules.ValuePercentile:
		all := map[int32]uint32{}
		p.each(t, func(at *pane) {
			for k, n := range at.hist {
				all[k] += n
			}
		})
		q := 50.0
		if s.typ == rules.ValuePercentile {
			q = s.corr.Percentile
		}
		return histRank(all, rank(int(sum.n), q))
	}
	return sum.sum
}

// histRank is the middle of the bucket that holds the k-th smallest value.
func histRank(hist map[int32]uint32, k int) float64 {
	for _, b := range slices.SortedFunc(maps.Keys(hist), cmp.Compare) {
		k -= int(hist[b])
		if k <= 0 {
			return bucketValue(b)
		}
	}
	return 0
}

func (p *panes) size() int {
	if p == nil {
		return 0
	}
	n := 32 + numPanes*48
	if p.ranks {
		n += numPanes * 512
	}
	return n
}

// Buckets grow by gamma, so that the middle of a bucket is within 1 % of every
// value in it (the relative-error sketch of Masson, Rim and Lee, VLDB 2019).
var logGamma = math.Log(1.01 / 0.99)

// bucketSpan separates positive from negative buckets around zero, which is 0.
const bucketSpan = 1 << 17

func logBucket(v float64) int32 {
	if v == 0 {
		return 0
	}
	b := int32(math.Ceil(math.Log(math.Abs(v))/logGamma)) + bucketSpan
	if v < 0 {
		return -b
	}
	return b
}

func bucketValue(b int32) float64 {
	switch {
	case b == 0:
		return 0
	case b < 0:
		return -bucketValue(-b)
	}
	return 2 * math.Exp(float64(b-bucketSpan)*logGamma) / (math.Exp(logGamma) + 1)
}
