// Package ingest turns Kafka records into events and hands each batch to
// detection first and to storage second. It promises that every offset it is
// given ends as events, as a quarantined record, or as a named gap, and that
// offsets are committed only after storage acknowledged them.
package ingest
