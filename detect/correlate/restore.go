package correlate

import (
	"slices"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Restore loads episodes that fired before a restart, so that none fires again.
// It is called before the first Observe; episodes of rules that are gone are
// ignored.
func (c *Correlator) Restore(eps []Episode) {
	byID := map[string]*spec{}
	for _, s := range c.specs {
		byID[s.meta.ID] = s
	}
	for _, e := range eps {
		s := byID[e.RuleID]
		if s == nil {
			continue
		}
		key, ok := s.keyOf(e.Group)
		if !ok {
			continue
		}
		if s.restored == nil {
			s.restored = map[string][]fired{}
		}
		r := fired{id: e.ID, first: e.First, last: max(e.First, e.Last), count: e.Count}
		if e.Told || s.undoable() { // what such a rule fires it has judged in order
			r.told, r.toldCount = r.last, r.count
		}
		s.restored[key] = append(s.restored[key], r)
	}
	for _, s := range c.specs {
		for _, l := range s.restored {
			slices.SortFunc(l, func(a, b fired) int { return int(min(max(a.first-b.first, -1), 1)) })
		}
	}
}

// Migrate takes over from old the state of the rules whose logic did not change,
// and all its counters. A rule that did change, or is gone, is forgotten: its open
// episodes are told as closed, and its windows begin empty. It is called before
// the first Observe; old must not be used afterwards.
func (c *Correlator) Migrate(old *Correlator) {
	c.watermark, c.cursor, c.isLive, c.newestSilent = old.watermark, old.cursor, old.isLive, old.newestSilent
	c.parts, c.partOf, c.lastPart = old.parts, old.partOf, old.lastPart
	c.resumed = old.resumed
	c.seed, c.updates, c.stats = old.seed, old.updates, old.stats
	c.began, c.latest = old.began, old.latest
	c.hash.SetSeed(c.seed)
	c.stats.Groups, c.stats.Bytes = 0, 0

	same := map[string]*spec{}
	for _, s := range old.specs {
		same[s.signature()] = s
	}
	for _, s := range c.specs {
		was := same[s.signature()]
		if was == nil {
			s.begin(old)
			continue
		}
		delete(same, s.signature())
		s.known, s.missing = was.known, was.missing
		s.groups, s.slab, s.bytes, s.restored = was.groups, was.slab, was.bytes, was.restored
		s.learning, s.lost, s.doubted = was.learning, was.lost, was.doubted
		for _, g := range s.slab {
			g.s = s
		}
		c.stats.Groups += len(s.slab)
		c.stats.Bytes += s.bytes
		was.groups, was.slab = nil, nil
	}
	for _, s := range same {
		c.closeEpisodes(s)
	}
	c.moveWaiting(old, same)
	c.renumber(old.program)
}

// closeEpisodes tells that the open episodes of a forgotten rule are over.
func (c *Correlator) closeEpisodes(s *spec) {
	over := func(id string, first, last event.Instant, count uint64) {
		if s.emits && id != "" && len(c.updates) < maxUpdates {
			c.updates = append(c.updates, Update{ID: id, First: first, Last: last, Count: count, Closed: true})
		}
	}
	for _, g := range s.slab {
		if ep := g.ep; ep != nil && !ep.closed {
			over(ep.id, ep.first, ep.last, ep.count)
		}
		for _, r := range g.fire {
			over(r.id, r.first, r.last, r.count)
		}
	}
}

// renumber gives the values that are carried for outer correlations the slots of
// the new program.
func (c *Correlator) renumber(old *rules.Program) {
	if old == nil || c.program == nil {
		return
	}
	// A rule's records share one list of slots, and one record is in many places.
	lists := map[*int][]int{}
	done := map[*carried]bool{}
	fix := func(x *carried) {
		if x == nil || len(x.slots) == 0 || done[x] {
			return
		}
		done[x] = true
		first := &x.slots[0]
		if lists[first] == nil {
			for _, s := range x.slots {
				lists[first] = append(lists[first], c.program.Slot(old.FieldName(s)))
			}
		}
		x.slots = lists[first]
	}
	for _, s := range c.specs {
		for _, g := range s.slab {
			fix(g.carried)
		}
	}
	for _, b := range c.wait.buckets {
		for i := range b {
			fix(b[i].carried)
		}
	}
}

// moveWaiting takes over what waits for the watermark, for a timer, and for the
// end of the replay, but for the rules that are gone.
func (c *Correlator) moveWaiting(old *Correlator, gone map[string]*spec) {
	dropped := map[*spec]bool{}
	for _, s := range gone {
		dropped[s] = true
	}
	for _, b := range old.wait.buckets {
		for _, e := range b {
			if !dropped[e.g.s] {
				c.wait.add(e)
			}
		}
	}
	for _, t := range old.timers {
		if !dropped[t.g.s] {
			c.timers = append(c.timers, t)
		}
	}
	c.fixTimers()
	for _, d := range old.dirty {
		if !dropped[d.g.s] {
			c.dirty = append(c.dirty, d)
		}
	}
	for _, x := range old.silent {
		if !dropped[x.g.s] {
			c.silent = append(c.silent, x)
		}
	}
}

// signature tells a rule from one that fires at other times. What only says how
// a finding is told may change.
func (s *spec) signature() string {
	if s.rule != nil {
		return "rule " + s.meta.ID + " " + s.meta.Logic
	}
	return "correlation " + s.meta.ID + " " + s.meta.Logic
}
