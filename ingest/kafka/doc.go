// Package kafka is the daemon's side of Kafka: it reads partitions (Source),
// takes part in the consumer group where one member holds everything (Group),
// keeps the detected positions in a compacted topic (Control), checks and makes
// topics, and produces.
//
// Of a group of daemons one is active. The member that carries the highest
// takeover epoch gets all partitions, else the one with the lowest id, so that a
// correlation never sees half of its events; the others stand by with none.
//
// Offsets are committed only inside the generation that owned the partition,
// and never lower than before in it; after a rebalance the broker refuses what an
// old owner sends.
//
// A Client holds connections: Close it.
package kafka
