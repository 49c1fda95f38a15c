package correlate

import (
	"slices"
	"strings"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// obs is one observation: one record under one rule and group.
type obs struct {
	ts   event.Instant
	off  int64
	part int32 // place in Correlator.parts
	idx  int32
	mask uint64 // inputs that it matched
	// val is the hash of the counted value, or the bits of the measured one.
	val uint64
	// carried are values of the record that a correlation of correlations wants.
	carried *carried
}

// group is one group of one rule.
type group struct {
	key  string
	s    *spec
	w    window
	fwd  *forwardWindow
	ep   *episode // the open episode, or the last one
	fire []fired  // known to have fired, not yet reached in order

	newest  event.Instant // newest ts that arrived
	judged  event.Instant // newest ts that was judged
	carried *carried      // of the observation taken in last
	refs    []ref         // ring, oldest at refAt once full
	chart   *chart

	bytes   int32
	slot    int32         // place in spec.slab
	pending int32         // observations that wait for the watermark
	due     event.Instant // of the timer; 0 for none
	ties    uint32
	refAt   uint8
	dead    bool
	queued  bool // in Correlator.toJudge
	live    bool // one of the observations to be judged is not silent
}

// ref is a reference to an event, in few bytes.
type ref struct {
	ts   event.Instant
	off  int64
	part int32
	idx  int32
}

const (
	groupBytes = 192 + 48 // the struct, its place in map and slab
	refBytes   = 24
)

// remember keeps o as evidence, unless what is kept is newer.
func (g *group) remember(o *obs) {
	r := ref{o.ts, o.off, o.part, o.idx}
	switch {
	case len(g.refs) < finding.MaxEvidence:
		g.refs = append(g.refs, r)
	case o.ts < g.refs[g.refAt].ts: // filled in after what followed it
	default:
		g.refs[g.refAt] = r
		g.refAt = uint8((int(g.refAt) + 1) % finding.MaxEvidence)
	}
	if g.chart == nil && len(g.refs) == finding.MaxEvidence && g.charted() {
		g.chart = g.chartOfRefs()
	} else if g.chart != nil {
		g.chart.add(o.ts)
	}
}

// charted reports whether findings of the group show a chart: not where one
// event is enough, nor where there is no timespan.
func (g *group) charted() bool {
	return g.s.span > 0 && (g.s.need > 1 || g.s.typ != rules.EventCount) && g.s.typ != rules.RateAnomaly
}

// chartOfRefs counts what is remembered. While that is every event of the group,
// no chart needs to be kept.
func (g *group) chartOfRefs() *chart {
	h := newChart(g.s.span)
	for _, r := range g.refs {
		h.add(r.ts)
	}
	return h
}

// series is the chart for a finding.
func (g *group) series() finding.Series {
	if w, ok := g.w.(*rateWindow); ok { // what it remembers is a sample
		from, counts := w.m.Recent()
		return finding.Series{Start: event.Instant(from) * minute, Bucket: int64(minute), Counts: counts}
	}
	if g.chart == nil && len(g.refs) >= chartFrom && g.charted() {
		return g.chartOfRefs().series()
	}
	return g.chart.series()
}

// add takes o into the window, in order of time.
func (g *group) add(o *obs) {
	g.w.add(g.s, o)
	if w, ok := g.w.(*seenWindow); ok && w.took {
		g.remember(o)
	}
}

// notable reports whether o is worth keeping as evidence. Most events of a
// first_seen or rate_anomaly rule are ordinary ones.
func (g *group) notable(o *obs) bool {
	switch w := g.w.(type) {
	case *seenWindow:
		return !w.has(o.val)
	case *rateWindow:
		return w.sample(o.ts)
	}
	return true
}

// size is the estimated memory of the group.
func (g *group) size() int32 {
	n := groupBytes + len(g.key) + cap(g.refs)*refBytes
	if g.w != nil {
		n += g.w.size()
	}
	if g.fwd != nil {
		n += g.fwd.size()
	}
	if g.chart != nil {
		n += chartBytes
	}
	if g.ep != nil {
		n += episodeBytes
	}
	return int32(n)
}

// expired reports whether the group can matter no more once the watermark is w.
func (g *group) expired(w event.Instant) bool {
	if g.pending > 0 || g.queued || g.newest+g.s.keep >= w || g.firesLater(w) {
		return false
	}
	return g.ep == nil || g.ep.closed && g.ep.last+g.s.hold < w
}

// newGroup makes a group with an empty window. Most groups that ever live count
// one or two events, so those of event_count get all that they need in one piece
// of memory: with a million of them, reaching many small ones is what costs.
func newGroup(s *spec) *group {
	if s.typ == rules.EventCount && s.need > 1 && !s.forward {
		p := &struct {
			group
			w            countWindow
			early, exact [2]event.Instant
			refs         [2]ref
		}{}
		p.w.early.times, p.w.exact.times, p.group.refs = p.early[:0], p.exact[:0], p.refs[:0]
		p.group.s, p.group.w, p.newest, p.judged = s, &p.w, never, never
		return &p.group
	}
	g := &group{s: s, newest: never, judged: never}
	if s.forward {
		g.fwd = newForward(s)
	} else {
		g.w = newWindow(s)
	}
	return g
}

// lookup finds or makes the group of key.
func (c *Correlator) lookup(s *spec, key []byte) *group {
	if g := s.groups[string(key)]; g != nil {
		return g
	}
	if len(s.groups) >= c.cfg.MaxGroups {
		c.evict(s)
	}
	c.sweep(s, s.dueSweep(c.watermark, 2))
	g := newGroup(s)
	g.key, g.slot = string(key), int32(len(s.slab))
	if r := s.restored[g.key]; r != nil {
		g.fire = r
		delete(s.restored, g.key)
	}
	s.groups[g.key] = g
	s.slab = append(s.slab, g)
	c.stats.Groups++
	c.weigh(g)
	return g
}

// weigh updates the estimate of g's memory.
func (c *Correlator) weigh(g *group) {
	n := g.size()
	d := int64(n - g.bytes)
	g.bytes = n
	g.s.bytes += d
	c.stats.Bytes += d
}

// sweep looks at n groups of s and drops the expired ones, which do not count, up
// to sweepPerAdvance.
func (c *Correlator) sweep(s *spec, n int) {
	for dropped := 0; n > 0 && dropped < sweepPerAdvance && len(s.slab) > 0; {
		if s.hand >= len(s.slab) {
			s.hand = 0
		}
		g := s.slab[s.hand]
		if g.expired(c.watermark) {
			c.stats.Expired++
			c.drop(g)
			dropped++
			continue
		}
		s.hand++
		n--
	}
}

// evictSample is how many groups are compared to find one that was long unused.
const evictSample = 16

// evict makes room for one group of s: expired ones go first, else the one
// longest without an event of a sample.
func (c *Correlator) evict(s *spec) {
	before := len(s.slab)
	c.sweep(s, evictSample)
	if len(s.slab) < before || before == 0 {
		return
	}
	var oldest *group
	for i := range min(evictSample, len(s.slab)) {
		g := s.slab[(s.hand+i)%len(s.slab)]
		if oldest == nil || g.newest < oldest.newest {
			oldest = g
		}
	}
	c.stats.Evicted++
	s.lost = max(s.lost, oldest.newest)
	c.end(oldest)
	c.drop(oldest)
}

// shrink brings the memory of all groups below the limit, largest rule first.
func (c *Correlator) shrink() {
	for c.stats.Bytes > c.cfg.MaxBytes {
		big := slices.MaxFunc(c.specs, func(a, b *spec) int { return int((a.bytes - b.bytes) >> 3) })
		if len(big.slab) == 0 {
			return
		}
		for range evictSample {
			c.evict(big)
		}
	}
}

// drop removes a group.
func (c *Correlator) drop(g *group) {
	s := g.s
	delete(s.groups, g.key)
	last := len(s.slab) - 1
	s.slab[g.slot] = s.slab[last]
	s.slab[g.slot].slot = g.slot
	s.slab[last] = nil
	s.slab = s.slab[:last]
	g.dead = true
	s.bytes -= int64(g.bytes)
	c.stats.Bytes -= int64(g.bytes)
	c.stats.Groups--
}

// chart counts the events of a group in buckets, for the finding's picture.
type chart struct {
	bucket event.Instant
	last   int64 // number of the newest bucket
	counts [chartBuckets]uint32
}

const (
	chartBuckets = 40 // two timespans
	chartFrom    = 4  // events before a chart says something
	chartBytes   = 16 + 4*chartBuckets
)

func newChart(span event.Instant) *chart {
	return &chart{bucket: max(span/(chartBuckets/2), 1)}
}

func (h *chart) add(ts event.Instant) {
	n := int64(ts / h.bucket)
	if h.last == 0 {
		h.last = n
	}
	for ; h.last < n; h.last++ {
		if n-h.last > chartBuckets {
			h.counts = [chartBuckets]uint32{}
			h.last = n
			break
		}
		*h.at(h.last + 1) = 0
	}
	if n > h.last-chartBuckets {
		*h.at(n)++
	}
}

// at is the count of a bucket; those before 1970 have negative numbers.
func (h *chart) at(n int64) *uint32 {
	return &h.counts[((n%chartBuckets)+chartBuckets)%chartBuckets]
}

// series is the chart as part of a finding.
func (h *chart) series() finding.Series {
	if h == nil {
		return finding.Series{}
	}
	s := finding.Series{Start: event.Instant(h.last-chartBuckets+1) * h.bucket, Bucket: int64(h.bucket),
		Counts: make([]float64, 0, chartBuckets)}
	for i := h.last - chartBuckets + 1; i <= h.last; i++ {
		s.Counts = append(s.Counts, float64(*h.at(i)))
	}
	return s
}

// carried are values of one record, by slot.
type carried struct {
	slots  []int
	values []string
	has    []bool
	// Of first_seen: the value itself, when it was not known on arrival.
	value string
	named bool
}

// naming is x with a value of first_seen.
func (x *carried) naming(value string) *carried {
	n := carried{}
	if x != nil {
		n = *x
	}
	n.value, n.named = strings.Clone(value), true
	return &n
}

func carry(slots []int, v Values) *carried {
	x := &carried{slots: slots, values: make([]string, len(slots)), has: make([]bool, len(slots))}
	for i, slot := range slots {
		t, ok := v.Text(slot)
		x.values[i], x.has[i] = strings.Clone(t), ok
	}
	return x
}

func (x *carried) text(slot int) (string, bool) {
	if x == nil {
		return "", false
	}
	i := slices.Index(x.slots, slot)
	if i < 0 {
		return "", false
	}
	return x.values[i], x.has[i]
}
