package correlate

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/detect/season"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// news is one thing that TakeMemory has to tell: a value of a group, or its
// season.
type news struct {
	g   *group
	val uint64
}

// maxMarks bounds what TakeMemory has to tell. Beyond it new values are told when
// they are seen again.
const maxMarks = 1 << 20

const (
	// keepSeason is how long a group without events keeps its season.
	keepSeason = 14 * 24 * time.Hour
	// tellSeason is how often a season is told, in minutes. The replay after a
	// restart reaches farther back than that, so that no minute is missing.
	tellSeason   = 5
	replaySeason = 30 * time.Minute
	// replaySeen is how far back the replay reaches for values that were not told
	// yet.
	replaySeen = 2 * time.Minute
)

// remember sets what is special about rules with a memory.
func (s *spec) remember(cfg Config) {
	switch s.typ {
	case rules.FirstSeen:
		s.keep = max(s.keep, event.Instant(s.corr.Lookback+cfg.Lateness))
		s.reach = max(s.reach, event.Instant(replaySeen))
	case rules.RateAnomaly:
		s.keep = max(s.keep, event.Instant(keepSeason))
		s.reach = max(s.reach, event.Instant(replaySeason))
	case rules.Absence:
		s.remembers = cfg.Remembers
		return
	default:
		return
	}
	s.remembers, s.learning = cfg.Remembers, cfg.Remembers
}

// Forgetful names the rules that fire nothing because their memory was not loaded.
func (c *Correlator) Forgetful() []*rules.Correlation {
	var out []*rules.Correlation
	for _, s := range c.specs {
		if s.learning {
			out = append(out, s.corr)
		}
	}
	return out
}

// History is how far back events would have to be replayed for a rule that has no
// memory to know what it would remember.
func (c *Correlator) History() time.Duration {
	h := c.lookback
	for _, s := range c.specs {
		if s.corr != nil {
			h = max(h, HistoryOf(s.corr))
		}
	}
	return h
}

// HistoryOf is how far back a rule remembers; zero for one that only has windows.
func HistoryOf(c *rules.Correlation) time.Duration {
	switch c.Type {
	case rules.FirstSeen:
		return c.Lookback + c.Learn
	case rules.RateAnomaly:
		return 2 * keepSeason
	}
	return 0
}

// LoadMemory gives memory back to the rule it is of, known by its id and its
// Logic: reading takes a while, and the rule may have been edited meanwhile. With
// last the rule has all of it, and begins to fire. What no longer fits the rule
// is left out, and told as an error once everything else was taken.
func (c *Correlator) LoadMemory(ruleID, logic string, pieces []memory.Piece, last bool) error {
	i := slices.IndexFunc(c.specs, func(s *spec) bool {
		return s.corr != nil && s.meta.ID == ruleID && s.meta.Logic == logic && s.remembers
	})
	if i < 0 {
		return nil // the rule is gone, or another one now
	}
	s := c.specs[i]
	var bad error
	for _, m := range pieces {
		if err := c.load(s, &m); err != nil && bad == nil {
			bad = fmt.Errorf("memory of rule %s, group %v: %w", ruleID, m.Group, err)
		}
	}
	if last {
		s.learning = false
	}
	return bad
}

// Relearn gives a running rule of type rate_anomaly seasons that were read off the
// stored events. A group takes one over that rests on more minutes than its own. A
// group that is not known, but had events lately, is added while there is room;
// added are those pieces. A rule that still waits for its memory, or is gone, takes
// nothing.
func (c *Correlator) Relearn(ruleID, logic string, pieces []memory.Piece) (added []memory.Piece, adopted int, err error) {
	i := slices.IndexFunc(c.specs, func(s *spec) bool {
		return s.typ == rules.RateAnomaly && s.meta.ID == ruleID && s.meta.Logic == logic && s.remembers && !s.learning
	})
	if i < 0 {
		return nil, 0, nil
	}
	s := c.specs[i]
	for _, m := range pieces {
		key, bad := s.keyByName(m.Group)
		if bad == nil && m.Season != nil {
			bad = c.relearn(s, key, &m, &added, &adopted)
		}
		if bad != nil && err == nil {
			err = fmt.Errorf("season of rule %s, group %v: %w", ruleID, m.Group, bad)
		}
	}
	return added, adopted, err
}

func (c *Correlator) relearn(s *spec, key []byte, m *memory.Piece, added *[]memory.Piece, adopted *int) error {
	if g := s.groups[string(key)]; g != nil {
		old, err := season.Restore(*m.Season)
		if w, ok := g.w.(*rateWindow); ok && err == nil && w.m.Adopt(old) {
			w.told = 0
			*adopted++
		}
		return err
	}
	if m.Last+s.keep <= c.watermark || len(s.groups) >= c.cfg.MaxGroups || c.stats.Bytes >= c.cfg.MaxBytes {
		return nil
	}
	if err := c.load(s, m); err != nil {
		return err
	}
	*added = append(*added, *m)
	return nil
}

// keyByName is the key of a group that is given by names.
func (s *spec) keyByName(group []finding.Pair) ([]byte, error) {
	var key []byte
	for _, f := range s.fields {
		v, ok := named(group, f)
		if !ok {
			return nil, fmt.Errorf("the group has no %s", f)
		}
		key = appendValue(key, v)
	}
	return key, nil
}

func (c *Correlator) load(s *spec, m *memory.Piece) error {
	key, err := s.keyByName(m.Group)
	if err != nil {
		return err
	}
	g := c.lookup(s, key)
	switch w := g.w.(type) {
	case *seenWindow:
		if m.Season == nil {
			c.loadValue(w, m)
		}
	case *rateWindow:
		if m.Season == nil {
			return nil
		}
		old, err := season.Restore(*m.Season)
		if err != nil {
			return err
		}
		if now, begun := w.m.Minute(); begun {
			old.Skip(now) // it came late: what was counted meanwhile is less than what it knows
		}
		w.m, w.loaded, w.told = old, true, m.Season.Minute
	}
	g.newest = max(g.newest, m.Last)
	c.weigh(g)
	return nil
}

func (c *Correlator) loadValue(w *seenWindow, m *memory.Piece) {
	val := maphash.String(c.seed, m.Value)
	v := w.known[val]
	if v == nil {
		v = &seenValue{first: m.First, last: m.Last, told: m.Last, text: strings.Clone(m.Value), named: true}
		w.known[val] = v
		w.names += len(v.text)
		w.bound()
	}
	v.first, v.last = min(v.first, m.First), max(v.last, m.Last)
	if w.since == never || m.First < w.since {
		w.since = m.First
	}
	w.last = max(w.last, m.Last)
}

// tell notes what of g's memory has changed.
func (c *Correlator) tell(g *group) {
	if !g.s.remembers {
		return
	}
	full := len(c.dirty) >= maxMarks
	switch w := g.w.(type) {
	case *seenWindow:
		for _, val := range w.changed {
			if !full {
				c.dirty = append(c.dirty, news{g, val})
			} else if v := w.known[val]; v != nil {
				v.told = never
			}
		}
		w.changed = w.changed[:0]
	case *rateWindow:
		if now, begun := w.m.Minute(); begun && now-w.told >= tellSeason && !full {
			w.told = now
			c.dirty = append(c.dirty, news{g: g})
		}
	}
}

// TakeMemory returns what has changed since it was last told, at most n pieces.
// They rest on events that were judged before this call, and may be kept once a
// restart would begin behind those.
func (c *Correlator) TakeMemory(n int) []memory.Piece {
	n = min(n, len(c.dirty))
	out := make([]memory.Piece, 0, n)
	for _, d := range c.dirty[:n] {
		m := memory.Piece{RuleID: d.g.s.meta.ID, RuleHash: d.g.s.meta.Logic, Group: d.g.s.pairs(d.g.key), Last: d.g.newest}
		switch w := d.g.w.(type) {
		case *seenWindow:
			v := w.known[d.val]
			if v == nil {
				continue // forgotten for room
			}
			m.Value, m.First, m.Last = v.text, v.first, v.last
		case *rateWindow:
			state := w.m.State()
			m.Season = &state
		}
		out = append(out, m)
	}
	c.dirty = slices.Delete(c.dirty, 0, n)
	return out
}
