package correlate

import (
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Absence: an event of the first rule (A) without one of the second (B).
//
//	order: before   judged at A, in order of time: no B in [A - within, A].
//	order: after    A opens a forward window [A, A + within]. A B in it closes it
//	                without a verdict, so that the next A opens one of its own; one
//	                that reaches its end fires. What lies in a window that fired
//	                belongs to it.
//
// B at the very time of A counts, and so does a record that is both.

// Bits of an observation's mask.
const (
	maskA = 1 << 0
	maskB = 1 << 1
)

// absentWindow is absence with order: before. The latest B is enough, as times
// are judged in order; behind a late A lies a B that nobody remembers, and it
// fires nothing then.
type absentWindow struct {
	a, b event.Instant // the latest of each
	n    int           // A's at a
}

func (w *absentWindow) arrive(*spec, *obs, event.Instant) bool { return false }
func (w *absentWindow) newest(*spec) float64                   { return 0 }

func (w *absentWindow) add(_ *spec, o *obs) {
	if o.mask&maskB != 0 {
		w.b = max(w.b, o.ts)
	}
	switch {
	case o.mask&maskA == 0 || o.ts < w.a:
	case o.ts > w.a:
		w.a, w.n = o.ts, 1
	default:
		w.n++
	}
}

func (w *absentWindow) judge(s *spec, t event.Instant) (float64, bool) {
	return float64(w.n), w.a == t && w.b < t-s.span
}

func (w *absentWindow) size() int { return 32 }

// absenceAdd takes an observation into the forward window of absence with order:
// after.
func (c *Correlator) absenceAdd(g *group, o *obs, live bool) {
	w := g.fwd
	if w.open && o.ts > w.end {
		c.forwardEnd(g)
	}
	if o.mask&maskB != 0 {
		if w.open && o.ts >= w.start {
			w.open, w.end, g.due = false, o.ts, 0
		}
		if !w.open {
			w.end = max(w.end, o.ts) // an A of this very time has its B
		}
		return
	}
	switch {
	case w.open && o.ts >= w.start:
	case !w.open && o.ts > w.end:
		w.begin(g.s, o.ts)
		c.timer(g, w.end)
	default:
		if o.ts < c.cursor {
			c.stats.Late++
		}
		return
	}
	w.live = w.live || live
	w.add(g.s, o)
	c.weigh(g)
}

// certain reports whether a verdict on [from, to] can be given: that something is
// absent is known only where everything would have been seen. Other types than
// absence need no such thing.
func (c *Correlator) certain(g *group, from, to event.Instant) bool {
	s := g.s
	if s.typ != rules.Absence {
		return true
	}
	known := from > s.lost && (from >= c.began || !s.remembers)
	if known && s.corr.MinCoverage > 0 && c.cfg.Coverage != nil {
		share, told := c.cfg.Coverage(s.pairs(g.key), from, to)
		known = told && share >= s.corr.MinCoverage
	}
	if !known {
		c.stats.Unknown++
	}
	return known
}
