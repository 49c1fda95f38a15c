package correlate

import "slices"

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
		s.restored[key] = append(s.restored[key], fired{id: e.ID, first: e.First, last: max(e.First, e.Last), count: e.Count})
	}
	for _, s := range c.specs {
		for _, l := range s.restored {
			slices.SortFunc(l, func(a, b fired) int { return int(min(max(a.first-b.first, -1), 1)) })
		}
	}
}

// Migrate takes over from old the state of the rules that did not change, and
// all its counters. It is called before the first Observe; old must not be used
// afterwards.
func (c *Correlator) Migrate(old *Correlator) {
	c.watermark, c.cursor, c.isLive, c.newestSilent = old.watermark, old.cursor, old.isLive, old.newestSilent
	c.parts, c.partOf, c.lastPart = old.parts, old.partOf, old.lastPart
	c.seed, c.updates, c.stats = old.seed, old.updates, old.stats
	c.began = old.began
	c.hash.SetSeed(c.seed)
	c.stats.Groups, c.stats.Bytes = 0, 0

	same := map[string]*spec{}
	for _, s := range old.specs {
		same[s.signature()] = s
	}
	for _, s := range c.specs {
		was := same[s.signature()]
		if was == nil {
			continue
		}
		delete(same, s.signature())
		s.groups, s.slab, s.bytes, s.restored = was.groups, was.slab, was.bytes, was.restored
		s.learning, s.lost = was.learning, was.lost
		for _, g := range s.slab {
			g.s = s
		}
		c.stats.Groups += len(s.slab)
		c.stats.Bytes += s.bytes
		was.groups, was.slab = nil, nil
	}
	c.moveWaiting(old, same)
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

// signature tells a rule from a changed one.
func (s *spec) signature() string {
	if s.rule != nil {
		return "rule " + s.meta.Hash
	}
	return "correlation " + s.meta.Hash
}
