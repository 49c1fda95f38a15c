package correlate

import (
	"time"

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
//	wait:           with order: before, A opens a forward window [A, A + wait], and a
//	                B from A - within to its end closes it: a record of B may come
//	                later than that of A although it is earlier. The window is longer
//	                where Config.Delay says that records come later still.
//
// B at the very time of A counts. A record that is both is the B of others, never
// its own.

// Bits of an observation's mask.
const (
	maskA = 1 << 0
	maskB = 1 << 1
)

// absentWindow is absence with order: before. The latest B's are enough, as times
// are judged in order; behind a late A lies a B that nobody remembers, and it
// fires nothing then.
type absentWindow struct {
	a, b       event.Instant // the latest of each
	before     event.Instant // the latest B before b
	nA, nB     int           // A's at a that are no B, B's at b
	bothAtOnce int           // A's at a that are B too
}

func (w *absentWindow) arrive(*spec, *obs, event.Instant) bool { return false }
func (w *absentWindow) newest(*spec) float64                   { return 0 }

func (w *absentWindow) add(_ *spec, o *obs) {
	isA, isB := o.mask&maskA != 0, o.mask&maskB != 0
	if isB {
		switch {
		case o.ts > w.b:
			w.before, w.b, w.nB = w.b, o.ts, 1
		case o.ts == w.b:
			w.nB++
		default:
			w.before = max(w.before, o.ts)
		}
	}
	if !isA || o.ts < w.a {
		return
	}
	if o.ts > w.a {
		w.a, w.nA, w.bothAtOnce = o.ts, 0, 0
	}
	if isB {
		w.bothAtOnce++
	} else {
		w.nA++
	}
}

func (w *absentWindow) judge(s *spec, t event.Instant) (float64, bool) {
	from := t - s.span
	switch {
	case w.a != t:
		return 0, false
	case w.b < from:
		return float64(w.nA), w.nA > 0
	case w.b == t && w.nB == 1 && w.bothAtOnce == 1 && w.before < from:
		return 1, true // the only B is A itself
	}
	return 0, false
}

func (w *absentWindow) size() int { return 56 }

// absenceAdd takes an observation into the forward window of absence with order:
// after.
func (c *Correlator) absenceAdd(g *group, o *obs, live bool) {
	w := g.fwd
	if w.open && o.ts > w.end {
		c.forwardEnd(g)
	}
	// partner is when the latest B was, this record left out.
	partner := w.partner
	if o.mask&maskB != 0 {
		if w.open && o.ts >= w.start-g.s.before() {
			w.open, w.end, g.due = false, w.fired, 0
		}
		w.partner = max(w.partner, o.ts)
	}
	if o.mask&maskA == 0 {
		return
	}
	switch {
	case w.open && o.ts >= w.start:
	case !w.open && o.ts > w.end && partner < o.ts-g.s.before():
		w.begin(o.ts, c.absenceLength(g))
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

// maxDelay bounds how long an absence waits because records come late.
const maxDelay = event.Instant(10 * time.Minute)

// absenceLength is how far an absence that is about to begin looks forward.
func (c *Correlator) absenceLength(g *group) event.Instant {
	if g.s.corr.After {
		return g.s.span
	}
	n := event.Instant(g.s.corr.Wait)
	if c.cfg.Delay != nil {
		n = max(n, min(event.Instant(c.cfg.Delay(g.s.pairs(g.key))), maxDelay))
	}
	return n
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
