// Package detect judges events: it says why a refused request was refused, runs
// the rules over every event, and turns what they correlate into findings. It
// promises that one episode is one finding, also across a restart, and that a
// verdict never waits for storage.
//
// # An event's way through the engine
//
// A batch of one partition passes four steps. The registries take it in first
// (keys, certificates, inventory of hosts), event by event, and each refused
// event gets its cause at that point, from what was known just before it. Then
// the rules match, so that they may ask for a cause. What matched goes to the
// correlator (package correlate). Last the watermark moves, and what fired
// becomes findings.
//
// An event of a probe of our own gets a cause, but neither matches nor enters a
// registry.
//
// # The watermark
//
// It is the smallest, over the active partitions, of the newest ts minus the
// lateness. A partition leaves the minimum only while it is drained: its last
// fetch is under two seconds old, and its position has equalled the end of the
// partition for idle_after without an event. One that cannot be fetched, or lags,
// holds the watermark. When all are drained the watermark follows the clock, lateness and
// idle_after behind.
//
// Imported topics, whose times are their producer's and may be years old, have
// windows and a watermark of their own, which follows their records only.
//
// # After a restart
//
// Fill takes what is stored below the place from which partitions are replayed,
// newest first, while the watermark stands; then Replay brings the rest up to where
// judging goes on. Rules that lack events are learning: they judge only what no
// missing event could undo. docs/explanation/state-after-restart.md has the
// invariants, correlate/known.go the conditions.
//
// # What the registries believe
//
// Facts about keys, certificates and settings come from lifecycle events, which
// ingest takes from lifecycle topics only, and from runs of our own. A mint
// changes none of them: it only tells that a host used a key. A host is one of
// ours once it has minted for inventory_age, and a refused call is a straggler's
// only if the host is, and the call came from where the host's mints come from.
package detect
