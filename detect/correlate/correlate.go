package correlate

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// defaultSuppress is the timespan of a standalone rule that names none.
const defaultSuppress = time.Hour

// Correlator keeps the windows of one rule set. It is not safe for concurrent
// use.
type Correlator struct {
	cfg      Config
	program  *rules.Program // knows the names of slots; may be nil
	specs    []*spec        // in judging order
	byRule   [][]use        // per place in Set.Rules
	problems []error
	lookback time.Duration

	watermark event.Instant
	cursor    event.Instant // the ts that is being judged
	began     event.Instant // the earliest ts that arrived
	latest    event.Instant // the latest one
	ending    bool          // the input is over: time passes, and nothing more can come
	noted     bool          // a record became evidence in this call of Observe
	dirty     []news        // what TakeMemory has to tell
	wait      waiting
	timers    timerHeap
	toJudge   []*group
	judging   int // place in toJudge

	// isLive: a record that is not silent came, or GoLive was called.
	isLive       bool
	newestSilent event.Instant
	resumed      event.Instant // where judging went on; never: nobody said
	silent       []silentEpisode
	sweepAt      int

	parts    []event.Partition
	partOf   map[event.Partition]int32
	lastPart int32
	updates  []Update
	stats    Stats
	seed     maphash.Seed

	// Scratch of one call.
	out  []Firing
	buf  []byte
	hits []hit
	hash maphash.Hash
}

// hit is one group that the record being observed belongs to.
type hit struct {
	g *group
	o obs
}

// New builds a correlator for the rules of set. Rules that this build cannot
// evaluate are left out and named by Problems.
func New(set *rules.Set, cfg Config) *Correlator {
	c := &Correlator{cfg: cfg, program: set.Program(), byRule: make([][]use, len(set.Rules)), watermark: math.MinInt64, cursor: math.MinInt64,
		began: math.MaxInt64, newestSilent: math.MinInt64, resumed: never, partOf: map[event.Partition]int32{}, seed: maphash.MakeSeed()}
	c.wait.buckets = map[int64][]entry{}
	c.hash.SetSeed(c.seed)
	if cfg.Standalone {
		for _, r := range set.Rules {
			if !r.Inner {
				s := standalone(r, cfg)
				c.register(s)
				c.byRule[r.Index] = append(c.byRule[r.Index], use{s, 0})
			}
		}
	}
	of := map[*rules.Correlation]*spec{}
	for _, k := range set.Correlations {
		s, err := newSpec(k, cfg)
		if err != nil {
			c.problems = append(c.problems, err)
			continue
		}
		of[k] = s
		c.register(s)
		for i, in := range k.Inputs {
			switch {
			case in.Rule != nil:
				c.byRule[in.Rule.Index] = append(c.byRule[in.Rule.Index], use{s, i})
			case of[in.Correlation] != nil:
				of[in.Correlation].feed(use{s, i})
			default:
				c.problems = append(c.problems, fmt.Errorf("%s:%d: %s: refers to %s, which is not evaluated", k.File, k.Line, k.Title, in.Name))
			}
		}
	}
	c.lookback = c.reach()
	return c
}

func (c *Correlator) register(s *spec) {
	s.order = len(c.specs)
	c.specs = append(c.specs, s)
}

// feed makes u a user of s's episodes.
func (s *spec) feed(u use) {
	s.users = append(s.users, u)
	in := u.s.inputs[u.input]
	for _, slot := range slices.Concat(in.GroupSlots, in.FieldSlots) {
		if slot >= 0 && !slices.Contains(s.carry, slot) {
			s.carry = append(s.carry, slot)
		}
	}
}

// reach is the largest sum of timespans along a chain, and the lateness.
func (c *Correlator) reach() time.Duration {
	upTo := make([]time.Duration, len(c.specs)) // by order: inputs come first
	var most time.Duration
	for i, s := range c.specs {
		upTo[i] += s.reach.Sub(0)
		most = max(most, upTo[i])
		for _, u := range s.users {
			upTo[u.s.order] = max(upTo[u.s.order], upTo[i])
		}
	}
	return most + c.cfg.Lateness
}

// Problems names the rules that were left out, and why: one error each, that
// begins with file and line.
func (c *Correlator) Problems() []error { return c.problems }

// Lookback is how far back events must be replayed for full windows.
func (c *Correlator) Lookback() time.Duration { return c.lookback }

// Noted reports whether the record of the last Observe may become evidence of a
// firing. One that is only a denominator does not, nor one of a series or a value
// that is well known.
func (c *Correlator) Noted() bool { return c.noted }

// Observe takes one record in and appends what fires at once.
func (c *Correlator) Observe(in Input, dst []Firing) []Firing {
	c.out, c.noted = dst, false
	c.began, c.latest = min(c.began, in.TS), max(c.latest, in.TS)
	if in.Silent {
		c.newestSilent = max(c.newestSilent, in.TS)
	} else {
		c.isLive = true
	}
	o := obs{ts: in.TS, off: in.Ref.Offset, part: c.partition(in.Ref), idx: in.Ref.Idx}
	c.hits = c.hits[:0]
	for _, r := range in.Matched {
		for _, u := range c.byRule[r] {
			c.collect(&in, u, o)
		}
	}
	for i := range c.hits {
		c.observe(c.hits[i].g, &c.hits[i].o, !in.Silent)
	}
	if c.wait.n > c.cfg.MaxPending {
		c.force()
	}
	if c.stats.Bytes > c.cfg.MaxBytes {
		c.shrink()
	}
	dst, c.out = c.out, nil
	return dst
}

func (c *Correlator) partition(r event.Ref) int32 {
	if n := len(c.parts); n > 0 && c.parts[c.lastPart].ID == r.Partition && c.parts[c.lastPart].Topic == r.Topic {
		return c.lastPart
	}
	p := event.Partition{Topic: r.Topic, ID: r.Partition}
	i, ok := c.partOf[p]
	if !ok {
		p.Topic = strings.Clone(p.Topic)
		i = int32(len(c.parts))
		c.parts = append(c.parts, p)
		c.partOf[p] = i
	}
	c.lastPart = i
	return i
}

func (c *Correlator) refOf(part int32, off int64, idx int32) event.Ref {
	p := c.parts[part]
	return event.Ref{Topic: p.Topic, Partition: p.ID, Offset: off, Idx: idx}
}

// collect finds the group of the record under one use of a rule that it
// satisfies. A record that satisfies several rules of one correlation is one
// observation.
func (c *Correlator) collect(in *Input, u use, o obs) {
	s := u.s
	c.stats.Observed++
	if o.ts < c.watermark && c.watermark.Sub(o.ts) > s.span.Sub(0)+c.cfg.Lateness {
		c.stats.TooLate++
		return
	}
	var ok bool
	if c.buf, ok = s.key(c.buf[:0], in, u.input); !ok {
		c.stats.MissingGroup++
		return
	}
	if o.val, ok = c.value(in, u); !ok {
		c.stats.MissingField++
		return
	}
	o.mask = 1 << u.input
	g := c.lookup(s, c.buf)
	if len(s.inputs) > 1 {
		for i := range c.hits {
			if c.hits[i].g == g {
				c.hits[i].o.mask |= o.mask
				return
			}
		}
	}
	if s.carry != nil {
		o.carried = carry(s.carry, in.Values)
	}
	if w, ok := g.w.(*seenWindow); ok && !w.has(o.val) {
		v, _ := in.Values.Text(s.inputs[u.input].FieldSlots[0])
		o.carried = o.carried.naming(v)
	}
	c.hits = append(c.hits, hit{g, o})
}

// value is what a counting or measuring correlation takes from the record.
func (c *Correlator) value(in *Input, u use) (uint64, bool) {
	switch u.s.typ {
	case rules.ValueCount, rules.FirstSeen, rules.RateAnomaly:
		slots := u.s.inputs[u.input].FieldSlots
		if len(slots) == 0 {
			return 0, true
		}
		if len(slots) == 1 {
			v, ok := in.Values.Text(slots[0])
			return maphash.String(c.seed, v), ok
		}
		c.hash.Reset()
		for _, slot := range slots {
			v, ok := in.Values.Text(slot)
			if !ok {
				return 0, false
			}
			c.hashValue(v)
		}
		return c.hash.Sum64(), true
	case rules.ValueSum, rules.ValueAvg, rules.ValueMedian, rules.ValuePercentile:
		v, ok := in.Values.Number(u.s.inputs[u.input].FieldSlots[0])
		return math.Float64bits(v), ok && !math.IsNaN(v) && !math.IsInf(v, 0)
	}
	return 0, true
}

func (c *Correlator) hashValue(v string) {
	maphash.WriteComparable(&c.hash, len(v))
	c.hash.WriteString(v)
}

// observe takes one observation into its group.
func (c *Correlator) observe(g *group, o *obs, live bool) {
	if g.dead {
		c.stats.Orphaned++
		return
	}
	g.newest = max(g.newest, o.ts)
	if o.mask&g.s.evidence != 0 && g.notable(o) {
		c.noted = true
		if g.s.typ != rules.FirstSeen { // of that only what is judged to be new
			g.remember(o)
		}
	}
	if w, ok := g.w.(*rateWindow); ok {
		c.beginRate(g, w, o)
	}
	if o.ts < c.watermark {
		c.late(g, o, live)
		return
	}
	c.wait.add(entry{*o, g, live})
	g.pending++
	if g.w == nil {
		return
	}
	if g.w.arrive(g.s, o, g.newest) && live {
		c.arrived(g)
	}
	c.weigh(g)
}

// late takes in an observation that the watermark has passed: it joins the
// window, and the newest window is judged again.
func (c *Correlator) late(g *group, o *obs, live bool) {
	c.stats.Late++
	if g.fwd != nil {
		c.forwardAdd(g, o, live)
		return
	}
	g.w.arrive(g.s, o, g.newest)
	g.add(o)
	g.ties++
	g.live = g.live || live
	if g.queued {
		return
	}
	c.judge(g, max(o.ts, g.judged))
}

// deliver hands an episode that opened to the correlations that refer to its
// rule.
func (c *Correlator) deliver(g *group, ep *episode) {
	if len(g.s.users) == 0 || g.fwd == nil && g.s.begunBefore(ep.first) {
		return
	}
	pairs := g.s.pairs(g.key)
	at := ep.first
	if g.fwd != nil {
		at = ep.last
	}
	for _, u := range g.s.users {
		c.stats.Observed++
		key, val, text, ok := c.chained(u, pairs, g.carried)
		if !ok {
			c.stats.MissingGroup++
			continue
		}
		o := obs{ts: at, mask: 1 << u.input, val: val, carried: g.carried}
		if n := len(g.refs); n > 0 {
			r := g.refs[(int(g.refAt)+n-1)%n]
			o.part, o.off, o.idx = r.part, r.off, r.idx
		}
		to := c.lookup(u.s, key)
		if w, ok := to.w.(*seenWindow); ok && !w.has(val) {
			o.carried = o.carried.naming(text)
		}
		to.newest = max(to.newest, at)
		if u.s.typ != rules.FirstSeen {
			to.remember(&o)
		}
		if w, ok := to.w.(*rateWindow); ok {
			c.beginRate(to, w, &o)
		}
		if at < c.cursor {
			c.late(to, &o, g.live)
			continue
		}
		c.take(to, &o, g.live)
		if to.w != nil && to.w.arrive(u.s, &o, to.newest) && g.live {
			c.arrived(to)
		}
	}
}

// chained builds the group key and the value of a chained observation from the
// inner group's values and from the record that completed it. The text of the
// value is given where it is a single one.
func (c *Correlator) chained(u use, pairs []finding.Pair, extra *carried) (key []byte, val uint64, text string, ok bool) {
	in := u.s.inputs[u.input]
	for i, slot := range in.GroupSlots {
		v, ok := named(pairs, in.GroupNames[i])
		if slot >= 0 {
			v, ok = extra.text(slot)
		}
		if !ok {
			return nil, 0, "", false
		}
		key = appendValue(key, v)
	}
	if u.s.typ != rules.ValueCount && u.s.typ != rules.FirstSeen && (u.s.typ != rules.RateAnomaly || len(in.FieldSlots) == 0) {
		return key, 0, "", len(in.FieldSlots) == 0
	}
	c.hash.Reset()
	for i, slot := range in.FieldSlots {
		v, ok := named(pairs, u.s.corr.Field[i])
		if slot >= 0 {
			v, ok = extra.text(slot)
		}
		if !ok {
			return nil, 0, "", false
		}
		if len(in.FieldSlots) == 1 {
			return key, maphash.String(c.seed, v), v, true
		}
		c.hashValue(v)
	}
	return key, c.hash.Sum64(), "", true
}

func named(pairs []finding.Pair, name string) (string, bool) {
	for _, p := range pairs {
		if p.Field == name {
			return p.Value, true
		}
	}
	return "", false
}

// force judges the older half of what waits, for room.
func (c *Correlator) force() {
	n := c.wait.n
	limit := c.wait.half()
	c.run(limit)
	c.watermark = max(c.watermark, limit)
	c.stats.Forced += uint64(n - c.wait.n)
}

// GoLive says that the replay is over even if no live record came yet.
func (c *Correlator) GoLive() { c.isLive = true }

// Advance moves the watermark and appends what fires now. The watermark
// never moves back; the largest Instant ends the input.
func (c *Correlator) Advance(watermark event.Instant, dst []Firing) []Firing {
	if watermark <= c.watermark {
		return dst
	}
	c.out = dst
	c.ending = watermark == math.MaxInt64
	c.run(watermark)
	c.watermark = watermark
	c.settleSilent()
	if len(c.specs) > 0 {
		c.sweepAt = (c.sweepAt + 1) % len(c.specs)
		s := c.specs[c.sweepAt]
		c.sweep(s, s.dueSweep(c.watermark, sweepPerAdvance))
	}
	dst, c.out = c.out, nil
	return dst
}

// sweepPerAdvance is how many groups of one rule an Advance looks at, at most.
const sweepPerAdvance = 64

// sweepsPerHold is how often every group is looked at in the time that it takes
// to expire, so that memory holds an eighth more than what lives.
const sweepsPerHold = 8

// dueSweep is how many groups are to be looked at now, at most n: looking at a
// million groups costs more than all else, and only the watermark makes them
// expire.
func (s *spec) dueSweep(watermark event.Instant, n int) int {
	if watermark > s.swept {
		all := float64(len(s.slab))
		passed := float64(watermark) - float64(s.swept)
		s.sweepDue = min(s.sweepDue+all*passed*sweepsPerHold/float64(s.keep), all)
		s.swept = watermark
	}
	n = min(n, int(s.sweepDue))
	s.sweepDue -= float64(n)
	return n
}

// TakeUpdates returns how episodes went on since the last call: when they
// closed, and every half timespan while they last.
func (c *Correlator) TakeUpdates() []Update {
	u := c.updates
	c.updates = nil
	return u
}

// Stats returns the counters.
func (c *Correlator) Stats() Stats {
	s := c.stats
	s.Pending = c.wait.n
	for _, x := range c.specs {
		s.Unknown += x.doubted
	}
	return s
}
