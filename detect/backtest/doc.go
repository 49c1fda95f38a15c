// Package backtest runs rules over stored events: what would they have found?
//
// It is the production code on both sides. ClickHouse evaluates the predicates
// that rules.Set.Predicate writes from the same IR as the stream program; the
// rows that match go, in order of (ts, topic, partition, offset, idx), through
// the correlator that the daemon runs.
//
// Events before the range fill the windows: twice as far back as the correlator's
// chains of timespans reach, so that an episode that was open when the range
// begins is known to be. For rules of type first_seen and rate_anomaly as much is
// read before as they remember. A finding belongs to the range when its episode begins
// in it, so that two ranges side by side give what the whole gives. (Only windows
// that are judged at their end, such as `lt` and `absence`, follow one another
// without a gap and so depend on everything before.) Windows that end after the
// range are not judged.
//
// A backtest differs from the live run in two ways, both on its side: it sees
// events that came too late to be correlated, and every event has the cause that
// is stored with it.
//
// Run holds one query per group of rules open at a time, merges the answers as
// they come, and keeps nothing but the correlator's windows.
package backtest
