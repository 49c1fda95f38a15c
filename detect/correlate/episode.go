package correlate

import (
	"slices"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// episode is a run of satisfying times with no gap above the timespan, as the
// ordered view knows it.
type episode struct {
	id          string // set once fired
	first, last event.Instant
	told        event.Instant // last, as it was last told in an update
	firedAt     event.Instant
	count       uint64
	value       float64
	// fired: a firing was emitted for it, now or before a restart.
	fired bool
	// waiting: an early firing lies ahead that may belong to it.
	waiting bool
	// silent: it opened in a replay, and no firing of it is known.
	silent bool
	closed bool
	// countedTo: count holds what satisfied the condition up to then, as the
	// journal says.
	countedTo event.Instant
}

const episodeBytes = 96

// fired is an episode that is known to have fired, before the ordered view has
// reached it: early, or before a restart.
type fired struct {
	id          string
	first, last event.Instant
	count       uint64
	// told is the last time of the episode as the journal has it, with the count
	// up to then; zero: it has the firing only.
	told      event.Instant
	toldCount uint64
}

// silentEpisode is an episode that opened in a replay.
type silentEpisode struct {
	g  *group
	ep *episode
	// waited: it was to fire when it ended, if at all.
	waited bool
}

// updateEvery is the least distance between two updates of one episode.
const updateEvery = 10 * time.Second

// maxUpdates bounds the updates that nobody took.
const maxUpdates = 65_536

// arrived handles a condition that holds on arrival, at g.newest.
func (c *Correlator) arrived(g *group) {
	s, t := g.s, g.newest
	if ep := g.ep; ep != nil && (t-ep.last < s.hold || c.watermark <= ep.last+s.span) {
		return
	}
	for i := range g.fire {
		r := &g.fire[i]
		if t >= r.first-s.span && t-r.last <= s.span {
			r.last = max(r.last, t)
			r.count++
			return
		}
		if t-r.last < s.hold || c.watermark <= r.last+s.span {
			return
		}
	}
	f := c.firing(g, t, t)
	f.Last, f.Count = t, 1
	f.Value = g.w.newest(s)
	g.fire = append(g.fire, fired{id: f.ID, first: t, last: t, count: 1})
	if s.emits {
		c.out = append(c.out, f)
	}
}

// satisfied handles a condition that holds in order, at t, by n events.
func (c *Correlator) satisfied(g *group, t event.Instant, n uint32, value float64) {
	s := g.s
	if ep := g.ep; ep != nil && t-ep.last <= s.span {
		if ep.closed { // a late event
			ep.closed = false
			c.timer(g, ep.last+s.span)
		}
		c.extend(g, t, n)
		return
	}
	c.end(g)
	held := g.ep != nil && t-g.ep.last < s.hold
	c.open(g, &episode{first: t, last: t, count: uint64(n), value: value}, held)
	c.timer(g, t+s.span)
}

// extend takes one more satisfying time into the open episode.
func (c *Correlator) extend(g *group, t event.Instant, n uint32) {
	ep := g.ep
	ep.first = min(ep.first, t)
	ep.last = max(ep.last, t)
	if t > ep.countedTo || ep.countedTo == 0 {
		ep.count += uint64(n)
	}
	if ep.waiting {
		c.adopt(g, ep)
	}
	if !ep.fired {
		return
	}
	if r := g.s.refire; r > 0 && ep.last-ep.firedAt >= r && g.live {
		ep.firedAt = ep.last
		f := c.firing(g, ep.last, ep.last)
		f.Repeat = true
		c.emit(g, ep, f)
	}
	if ep.last-ep.told >= max(g.s.span/2, event.Instant(updateEvery)) {
		c.update(g, ep)
	}
}

// open begins an episode and fires it, unless it is known to have fired, or
// waits, or opened in a replay.
func (c *Correlator) open(g *group, ep *episode, held bool) {
	g.ep = ep
	c.weigh(g)
	c.adopt(g, ep)
	switch {
	case ep.fired:
	case !g.live:
		ep.silent = true
		c.silent = append(c.silent, silentEpisode{g, ep, ep.waiting})
	case ep.waiting:
	default:
		if held {
			c.stats.Held++
		}
		c.fire(g, ep)
	}
	c.deliver(g, ep)
}

// adopt finds the firing that ep is known by, or sets waiting when one lies
// ahead that ep may still reach.
func (c *Correlator) adopt(g *group, ep *episode) {
	ep.waiting = false
	span := g.s.span
	keep := g.fire[:0]
	for _, r := range g.fire {
		switch {
		case g.fwd != nil && r.first != ep.first: // windows side by side are episodes of their own
		case r.last < ep.first-span: // behind: whatever it was, it is over
			continue
		case r.first-span <= ep.last && !ep.fired:
			ep.fired, ep.id, ep.told, ep.firedAt = true, r.id, r.last, r.first
			ep.goOn(&r)
			continue
		case r.first-span > ep.last:
			ep.waiting = !ep.fired
		case ep.fired: // a second firing of the same episode
			continue
		}
		keep = append(keep, r)
	}
	g.fire = keep
	if len(keep) == 0 {
		g.fire = nil
	}
}

// fire emits the firing of ep.
func (c *Correlator) fire(g *group, ep *episode) {
	ep.fired, ep.waiting, ep.silent = true, false, false
	ep.told, ep.firedAt = ep.last, ep.last
	f := c.firing(g, ep.first, ep.last)
	ep.id = f.ID
	f.Fired = ep.last
	c.emit(g, ep, f)
}

func (c *Correlator) emit(g *group, ep *episode, f Firing) {
	f.First, f.Last, f.Count, f.Value = ep.first, ep.last, ep.count, ep.value
	if g.s.emits {
		c.out = append(c.out, f)
	}
}

// end closes the open episode of g, if there is one. One that waited fires now,
// as it ended before the early firing ahead; but whether one of a replay fires is
// for settleSilent to decide, since the journal's reader knows the last episode
// of a group only.
func (c *Correlator) end(g *group) {
	ep := g.ep
	if ep == nil || ep.closed {
		return
	}
	ep.closed = true
	if ep.waiting {
		ep.waiting = false
		if !ep.silent {
			c.fire(g, ep)
		}
	}
	if ep.fired {
		c.update(g, ep)
	}
}

// update tells how ep stands.
func (c *Correlator) update(g *group, ep *episode) {
	ep.told = ep.last
	if g.s.emits && ep.id != "" && len(c.updates) < maxUpdates {
		c.updates = append(c.updates, Update{ID: ep.id, First: ep.first, Last: ep.last, Count: ep.count, Closed: ep.closed})
	}
}

// settleSilent decides on episodes that opened in a replay and are not known to
// have fired: one that the watermark may not have passed before the restart
// fires now, the others are taken as fired. How far the watermark had come is for
// Resume to say, since one partition may have been far behind the newest record. One that still waits is decided on
// when it no longer does.
func (c *Correlator) settleSilent() {
	if !c.isLive || len(c.silent) == 0 {
		return
	}
	from := c.newestSilent
	if c.resumed != never {
		from = c.resumed
	}
	from -= 2 * event.Instant(c.cfg.Lateness)
	kept := c.silent[:0]
	for _, x := range c.silent {
		ep := x.ep
		switch {
		case !ep.silent || ep.fired:
		case !x.g.s.judges(x.g.windowOf(ep.first)): // what it was judged by has turned out to be incomplete
		case ep.waiting:
			x.waited = true
			kept = append(kept, x)
			continue
		case ep.first >= from || x.g.fwd != nil && ep.last >= from || x.waited && ep.last+x.g.s.span >= from:
			x.g.live = true
			c.fire(x.g, ep)
			x.g.live = false
		}
		ep.silent, ep.fired = false, true
	}
	clear(c.silent[len(kept):])
	c.silent = kept
}

// windowOf is where the window begins that is judged at the first time of an
// episode.
func (g *group) windowOf(first event.Instant) event.Instant {
	if g.fwd != nil {
		return first
	}
	return first - g.s.span
}

// firing is the part of a firing that the group knows, for an episode that is
// identified by its time first and lasts until last.
func (c *Correlator) firing(g *group, first, last event.Instant) Firing {
	pairs := g.s.pairs(g.key)
	f := Firing{Rule: g.s.rule, Correlation: g.s.corr, Group: pairs, First: first, Fired: first,
		ID: finding.MakeID(g.s.meta.ID, pairs, first), Refs: c.evidence(g, first, last), Series: g.series()}
	if a, ok := g.w.(approximator); ok {
		f.Approximate = a.approximate()
	}
	if g.fwd != nil {
		f.Approximate = g.fwd.approximate()
	}
	return f
}

// evidence lists the events of g in order of time, those of the windows of the
// episode so far. When newer events have taken all of the room, these are shown.
func (c *Correlator) evidence(g *group, first, last event.Instant) []event.Ref {
	from := first - g.s.span
	if g.fwd != nil || g.s.typ == rules.FirstSeen { // earlier values are not new any more
		from = first
	}
	rs := slices.DeleteFunc(slices.Clone(g.refs), func(r ref) bool { return r.ts < from || r.ts > last })
	if len(rs) == 0 {
		rs = slices.Clone(g.refs)
	}
	slices.SortFunc(rs, func(a, b ref) int {
		return c.compare(&obs{ts: a.ts, off: a.off, part: a.part, idx: a.idx}, &obs{ts: b.ts, off: b.off, part: b.part, idx: b.idx})
	})
	out := make([]event.Ref, 0, len(rs))
	for _, r := range rs {
		out = append(out, c.refOf(r.part, r.off, r.idx))
	}
	return out
}
