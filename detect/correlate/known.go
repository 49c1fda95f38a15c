package correlate

import (
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// This file is about windows that are not filled: after a restart a rule knows
// everything from one instant on, and nothing of what was before.
//
// A condition that more events can only make truer (event_count and value_count
// with gt or gte, temporal types without not) is judged all the same: it may miss,
// it never invents. Any other condition is judged only over windows that begin at
// or after that instant, because an event that is not known might undo it.

// always knows: the instant from which a rule knows everything when nothing was
// ever missing.
const alwaysKnown = never

// needs is how far back each rule looks, by order: its timespan and those of the
// correlations that it feeds.
func (c *Correlator) needs() []event.Instant {
	need := make([]event.Instant, len(c.specs))
	for i := len(c.specs) - 1; i >= 0; i-- { // users come after their inputs
		for _, u := range c.specs[i].users {
			need[i] = max(need[i], need[u.s.order])
		}
		need[i] += c.specs[i].reach
	}
	return need
}

// fillBack is how far back events are filled in, before the place where judging
// goes on, for a rule that looks back by need: once for the windows, once more
// for the episodes that are open at that place, and half as much for how far the
// journal may be behind with them; and a lateness on either side. With less, down
// to need, nothing is missed, but an episode may seem to begin anew.
func (c *Correlator) fillBack(need event.Instant) event.Instant {
	return need*5/2 + 2*event.Instant(c.cfg.Lateness+updateEvery)
}

// FillBack is how far back events are filled in at most.
func (c *Correlator) FillBack() (most time.Duration) {
	for _, need := range c.needs() {
		most = max(most, time.Duration(c.fillBack(need)))
	}
	return most
}

// Backs is how far back the events that satisfy a rule must be filled in, by
// place in Set.Rules. Zero: nobody looks at them.
func (c *Correlator) Backs() []time.Duration {
	need := c.needs()
	out := make([]time.Duration, len(c.byRule))
	for i, uses := range c.byRule {
		for _, u := range uses {
			out[i] = max(out[i], time.Duration(c.fillBack(need[u.s.order])))
		}
	}
	return out
}

// Resume says, before the first Observe that is not silent, that judging goes on
// at the event time at: an episode that opens in the replay, and begins no more
// than two latenesses before at, was not judged before. Everything at or after
// known is filled in, for each rule as far back as Backs says.
func (c *Correlator) Resume(at, known event.Instant) {
	c.resumed = at
	c.began = min(c.began, at.Add(-c.FillBack())) // each rule's known says more
	c.Missing(known)
	need := c.needs()
	for _, s := range c.specs {
		s.known = max(s.known, at-c.fillBack(need[s.order]))
	}
	c.spreadKnown()
}

// Live reports whether the replay is over.
func (c *Correlator) Live() bool { return c.isLive }

// Missing says that events before the instant were not filled in.
func (c *Correlator) Missing(before event.Instant) {
	for _, s := range c.specs {
		s.known = max(s.known, before)
		s.missing = max(s.missing, before)
	}
	c.spreadKnown()
}

// spreadKnown lets a correlation of correlations know no more than its inputs do.
// An episode of an inner rule may have begun before what is known, until two
// timespans after.
func (c *Correlator) spreadKnown() {
	for _, s := range c.specs {
		for _, u := range s.users {
			u.s.known = max(u.s.known, s.known+2*s.span)
		}
	}
}

// begunBefore reports whether an episode of s that seems to begin at t may have
// begun before what is known.
func (s *spec) begunBefore(t event.Instant) bool { return t-2*s.span < s.known }

// undoable reports whether an event that is missing could have made the condition
// of s false: such a rule is not judged over what it does not know.
func (s *spec) undoable() bool {
	switch s.typ {
	case rules.EventCount, rules.ValueCount, rules.Temporal, rules.TemporalOrdered:
		return s.forward
	}
	return true
}

// judges reports whether the window that begins at from may be judged.
func (s *spec) judges(from event.Instant) bool { return from >= s.known || !s.undoable() }

// Learning names the rules whose windows lack events when the watermark stands at
// now.
func (c *Correlator) Learning(now event.Instant) []*rules.Meta {
	var out []*rules.Meta
	need := c.needs()
	now = max(now, c.resumed)
	for _, s := range c.specs {
		if s.learning || s.missing != alwaysKnown && s.missing+need[s.order]+event.Instant(c.cfg.Lateness) > now {
			out = append(out, s.meta)
		}
	}
	return out
}

// begin makes s, which old does not have, know what comes from now on.
func (s *spec) begin(old *Correlator) {
	if old.watermark > never {
		s.known = old.watermark + event.Instant(old.cfg.Lateness)
		s.missing = s.known
	}
}

// firesLater reports whether the group holds firings that the watermark w has not
// passed: an episode is still to be known by them.
func (g *group) firesLater(w event.Instant) bool {
	for i := range g.fire {
		if g.fire[i].last+g.s.hold >= w {
			return true
		}
	}
	return false
}

// goOn makes ep the episode that the journal knows as r.
func (ep *episode) goOn(r *fired) {
	// The replay may hold only a part of it.
	ep.first = min(ep.first, r.first)
	if r.told == 0 {
		return
	}
	if ep.last > r.told {
		ep.count += r.toldCount
	} else {
		ep.count, ep.countedTo = r.toldCount, r.told
	}
	ep.last = max(ep.last, r.told)
}
