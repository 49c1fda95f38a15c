// Package stored reads the stored events that satisfy rules, in order of time.
//
// ClickHouse evaluates the predicates that rules.Set.Predicate writes from the
// same IR as the stream program; the rows that match are read with the columns
// that the correlator needs, and no others. A backtest and the filling of windows
// after a restart both read through it, so that they judge what the daemon judges.
//
// A Plan is the queries of a rule set: rules in groups, as a statement must not
// grow without bound. Open asks them all at the same time and merges the answers
// in order of (ts, topic, partition, offset, idx); an event that satisfies rules of
// several groups comes once. Whoever opens a Merge closes it.
package stored
