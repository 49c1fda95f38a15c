// Package store keeps events in ClickHouse: the schema and its migrations, the
// exactly-once writer, the rollups, the mirror of the journal, and the queries
// that people and the posture checks ask.
//
// # Exactly once
//
// A row of events or quarantine is one record of Kafka, known by its coordinates
// (topic, partition, offset, idx). Delivery is at least once; the writer makes
// storage effectively once. The invariants:
//
//  1. A batch's rows are appended to one unit, and units are stored one after
//     the other, so what is acknowledged for a partition is always a prefix.
//  2. acked(next) is called only when every row of every batch up to next is in
//     the table, rejects included.
//  3. No row is sent twice by one writer unless the server was asked first which
//     rows it holds (after an unknown outcome), or carries the same
//     deduplication token over the same rows.
//  4. No row is sent that the table held at Assign. Inserts of another writer
//     that are still running at that moment are awaited first.
//  5. The sorting keys consist of values that a re-read of Kafka reproduces, so
//     a copy that slips through (a paused former leader) folds away under FINAL.
//  6. Before acked(next) every offset below next that brought no row is in
//     offset_gaps, with the reason.
//
// A unit moves filling -> sealed -> sending -> stored. From sending it goes back
// to sealed after a clean refusal, and to checking after an unknown outcome
// (deadline, connection lost); checking removes the rows that are present and
// returns to sealed, or to stored when nothing is left. A block that the server
// refuses for its data is halved until single rows remain, and those go to
// quarantine with reason bad_value. Every other error is retried until the
// context ends or the partition is revoked.
//
// Whoever makes a Client closes it, after Writer.Run, Roller.Run and Mirror.Run
// have returned.
package store
