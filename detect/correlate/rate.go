package correlate

import (
	"time"

	"github.com/keysentry/keysentry/detect/season"
	"github.com/keysentry/keysentry/event"
)

// rateWindow is rate_anomaly: the season of the group's events. Too many are
// judged at every event, in order of time; too few at the end of every minute.
type rateWindow struct {
	m      *season.Model
	loaded bool          // from memory; what lies between then and now is not known yet
	kept   event.Instant // of the last event that became evidence
	told   int64         // the minute as of which memory was told
	// values are those of the quarter of an hour at hand, for rules with a field;
	// beyond maxRateValues every event counts as a new one.
	values  map[uint64]struct{}
	quarter int64
}

const minute = event.Instant(time.Minute)

// sampleEvery is the least distance between two events of a group that become
// evidence.
const sampleEvery = event.Instant(time.Second)

func newRate() *rateWindow { return &rateWindow{m: &season.Model{}, kept: never} }

// sample reports whether an event of that time becomes evidence.
func (w *rateWindow) sample(ts event.Instant) bool {
	if ts < w.kept+sampleEvery {
		return false
	}
	w.kept = ts
	return true
}

func (w *rateWindow) arrive(*spec, *obs, event.Instant) bool { return false }
func (w *rateWindow) newest(*spec) float64                   { return 0 }
func (w *rateWindow) size() int                              { return season.Size + 64 + 16*len(w.values) }

// maxRateValues bounds the values of one group that are told apart.
const maxRateValues = 4096

func (w *rateWindow) add(s *spec, o *obs) {
	n := 1.0
	if len(s.corr.Field) > 0 {
		if q := int64(o.ts / (15 * minute)); w.values == nil || q > w.quarter {
			w.values, w.quarter = map[uint64]struct{}{}, q
		}
		if _, known := w.values[o.val]; known {
			n = 0
		} else if len(w.values) < maxRateValues {
			w.values[o.val] = struct{}{}
		}
	}
	w.m.Add(int64(o.ts/minute), n)
}

// reached reports whether a score is one to tell of.
func (s *spec) reached(v season.Score) bool {
	c := s.corr
	if v.Surprise < c.Threshold || v.Count < c.Floor {
		return false
	}
	if c.Ratio > 0 && c.Ratio < 1 {
		return v.Count <= c.Ratio*v.Expected
	}
	return v.Count >= c.Ratio*v.Expected
}

func (w *rateWindow) judge(s *spec, _ event.Instant) (float64, bool) {
	if s.corr.Direction == "down" {
		return 0, false
	}
	v := w.m.Up()
	return v.Surprise, s.reached(v)
}

// watches reports whether the rule asks for too few events.
func (s *spec) watches() bool { return s.corr.Direction != "up" }

// beginRate is called for every observation, before it waits: it closes the gap that
// a restart may have left, and asks for the first timer.
func (c *Correlator) beginRate(g *group, w *rateWindow, o *obs) {
	if w.loaded {
		w.loaded = false
		w.m.Skip(int64(max(c.began, g.s.known) / minute))
	}
	if g.s.watches() && g.due == 0 {
		c.timer(g, (o.ts/minute+1)*minute)
	}
}

// expireRate ends a minute of a group that is watched for too few events. The end
// of the input is not silence.
func (c *Correlator) expireRate(g *group, w *rateWindow, due event.Instant) {
	s := g.s
	if c.ending && due > c.latest {
		c.end(g)
		return
	}
	if ep := g.ep; ep != nil && !ep.closed && ep.last+s.span <= due {
		c.end(g)
	}
	w.m.Close(int64(due / minute))
	if v := w.m.Down(); s.reached(v) && s.judges(due-season.Longest*minute) {
		g.live = c.isLive
		c.satisfied(g, due, 0, v.Surprise)
		g.live = false
	}
	c.tell(g)
	open := g.ep != nil && !g.ep.closed
	if g.newest+s.keep > due && (open || w.m.Silence() >= s.corr.Threshold) { // else the next event asks again
		g.due = 0
		c.timer(g, due+minute)
	}
}
