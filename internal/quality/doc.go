// Package quality measures how well Keysentry judges: it plays simulated networks
// with known attacks through the production code and compares what people would
// have been told with what was true.
//
// One play is one seed seen in one visibility. Everything between the broker and
// the messenger is the real thing: records are encoded, decoded, redacted and given
// their effective time, the engine judges them, the manager folds findings into
// incidents, the gate decides on proposals. Only Kafka, ClickHouse and Slack are
// missing, and the clock is the simulation's: a second of it is one fetch of every
// partition and one tick.
//
// Somebody is on call in the simulation too: incidents are acknowledged, and closed
// when they have been quiet, for else an attack could hide in an incident that a
// false alarm opened days before.
//
// docs/reference/quality.md has the table, the bars and what each figure means.
package quality
