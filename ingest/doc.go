// Package ingest turns Kafka records into events and hands each batch to
// detection first and to storage second. It promises that every offset it is
// given ends as events, as a quarantined record, or as a named gap, and that
// offsets are committed only after storage acknowledged them.
//
// # Decoding
//
// A Decoder makes a Batch of a Fetched: it decodes (package event) or maps
// (package ingest/mapping), checks that the topic may say this at all, sets
// origin, times and id, masks secrets (package redact), and turns whatever is no
// event into a Reject with a reason of a closed list. A bad record costs only
// itself.
//
// # Two positions
//
// Each partition has two positions, and each moves for its own reason.
//
//	detected  what detection has seen; moves with every fetch; told to the
//	          FindingSink together with what was found up to there.
//	stored    what is durable; moves with the writer's acknowledgements;
//	          committed to the consumer group.
//
// On assignment the windows are filled silently: from what is stored, and from
// there up to detected by replaying, at most ReplayMaxEvents over all partitions
// (docs/explanation/state-after-restart.md). From detected on one goroutine per partition reads: decode, Observe, Deliver, hand over. A
// second one feeds the writer. While the writer keeps up it stores the very
// batches that detection saw, causes included (coupled). When it stays full for
// DetachAfter, or is known to be failing, detection goes on alone and the second
// goroutine reads the partition by itself from the stored position (detached).
// When it has come near it couples again. handoff.go holds the states.
//
// # Causes while storage is behind
//
// A cause is decided once, by Observe, from what was known then. While storage is
// behind (detached, failing, or slower than DetachAfter) the reader writes the
// verdicts of refused events to the VerdictLog: first those that storage was given
// and has not acknowledged, then those of each batch before detected passes it. What
// storage reads again it joins with them, by coordinates and append time; also what
// a former process had judged. verdicts.go holds the merge, verdict.go the format.
// A refused event without a verdict is judged by Detector.Diagnose and flagged: one
// that was judged and not stored when a process was killed while all was well, or
// whose verdict could not be written. A record that no daemon signed is passed over.
//
// # Invariants
//
//   - Between assignment and revocation detection sees every offset once, in order,
//     but for gaps that were told.
//   - The writer is given every offset at or above the committed one once, in
//     order, but for gaps that were told.
//   - A committed position never goes back and never passes what is durable.
//   - Findings of a batch are delivered before detected passes it. An interrupted
//     delivery is repeated when the pipeline resumes, so a finding may be delivered
//     twice; its id is then the same.
//   - Memory is bounded: per partition one batch being read, queueLen queued, one at
//     the writer, maxUntold bytes of verdicts, and one read of verdicts when detached.
//
// Effective times of records that storage reads again are made with the clock
// estimates as they stood when it detached, so those of one batch at that border
// may differ from what detection used by what one closed minute changed.
package ingest
