// Package alert tells people what was found and takes their decisions. It
// journals findings, folds them into incidents, routes and writes messages, and
// records what people decide. It promises that nothing is told before it is
// journaled, that every message arrives at least once (and once, as long as
// the messenger can be asked what it has), and that a decision is recorded once
// with its outcome, refused ones too.
//
// # Who writes
//
// Every member folds the journal through Manager.Apply and answers questions.
// Only the leader, between Lead and StepDown, appends and sends. Its writers
// (the intake of findings, Tick, Decide, the outbox) take turns, and after an
// append each waits until the records have come back through Apply: what the
// next one decides on is the journal and nothing else.
//
// # Life of a message
//
//	new ----> sending ----> sent(ts)
//	             |  ^
//	             v  | not found by look-up
//	          unknown
//
// "new" and "sending" are journaled before the first byte leaves. A message
// whose last state is sending or unknown, and of which this process does not
// know that it was refused, is looked up before it is posted again. An
// incident has one root message per channel, edited in place; what happens to it
// goes to the root's thread, several lines in one reply when they come fast.
//
// # Bounds in a storm
//
// A batch of findings about more than a few new subjects of one kind becomes
// one incident about many. A token bucket per (rule, source) and one per
// incident keep the journal small: findings beyond it are counted, and the count
// is journaled and shown. Messages are limited per channel and minute.
package alert
