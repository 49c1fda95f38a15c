// Package correlate turns matches into firings: it keeps the windows of every
// correlation and of every standalone detection rule, per group, on effective
// time, and says when an episode opens.
//
// # Two views of one window
//
// An observation (one record under one rule and group) is taken in twice.
//
// On arrival, in any order, it enters a small summary of the newest window of
// its group. Where no later event can undo the verdict (event_count and
// value_count with gt or gte, temporal types without not), a summary that
// satisfies the condition fires at once. The summary may miss a window; it never
// invents one.
//
// Then it waits for the watermark. Once the watermark has passed it, it is
// judged in order of (ts, topic, partition, offset, idx), all observations of
// one ts before any verdict on that ts, timers in between. This second view is
// exact and, because it is ordered, does not depend on the order of arrival. It
// decides what the episodes are; types that a later event can undo are judged
// only here.
//
// # States of an episode
//
//	(none) --satisfied on arrival--> fired early --watermark--> open --quiet for a timespan--> closed
//	(none) --satisfied in order----> open, fires ------------------------------------^
//	(none) --satisfied in order, an early firing lies ahead--> waiting --reaches it--> open
//	                                                           waiting --closes first--> fires, closed
//
// An arrival fires nothing while an earlier episode of the group ended less than
// two timespans plus the lateness ago, or may still grow: the ordered view then
// decides. So one episode fires once.
//
// # Forward windows
//
// lt, lte, eq, neq, a range and not are verdicts that one more event can undo.
// Their window opens at the group's first observation outside an earlier such
// window, spans the timespan forward, and is judged when the watermark passes
// its end. Its First is its start, its Last and Fired are its end.
//
// absence with order: after is a forward window too, with an end of its own: see
// absence.go. Absence is judged only where everything would have been seen.
//
// # Rules that remember
//
// first_seen and rate_anomaly know more than a window: which values a group had,
// and how many events are usual when. They are judged in order only. Config.Remembers
// says that somebody keeps what they know (memory.go): then a rule fires nothing
// until it was given back, and a group that may have been dropped for room calls
// nothing new.
//
// # Chaining
//
// An episode of an inner correlation is an observation of the outer one, at the
// episode's first satisfying time, delivered by the ordered view.
//
// # After a restart
//
// Silent observations fill windows and fire nothing. Resume and Missing say what
// is known (known.go): a condition that a missing event could undo is not judged
// over windows that reach further back. An episode that the journal knows keeps
// its first time and its count.
//
// # Invariants
//
//   - Observations at or above the watermark are never lost to ordering; late
//     ones within timespan + lateness update the window and may fire; older ones
//     are counted and left out.
//   - Memory is bounded: groups per rule, bytes over all, observations that
//     wait. Groups go when they can no longer matter, else the one longest
//     without an event among a sample goes. Everything dropped is counted.
//   - Nothing here reads the clock, and no map order reaches the output.
package correlate
