// Package kafkajournal keeps the journal in a Kafka topic of one partition.
//
// A Log tails the topic from its first record and hands every accepted record to
// its subscribers, in order. What a process knows of the journal, it knows from
// there, its own records too: Append returns only after the tail has read the
// records back, accepted, and the subscribers have seen them. So a leader acts on
// nothing that another reader would not accept.
//
// States of a Log: following (the start; Append is refused) and leading (between
// a TakeOver and a StepDown, or the first sign of another leader).
//
//	following --TakeOver accepted--> leading
//	leading --StepDown, another's record accepted where ours was to be,
//	          or another's took_over read--> following
//
// Appending: the records are sealed onto the head, encoded into one record
// batch, which Kafka writes whole or not at all, and sent. When the answer is
// lost the very same bytes are sent again: of two copies the first offset is
// accepted and the second is a stray. When another writer's record was accepted
// on the same head, ours is a stray and Append answers ErrLostLeadership. When
// neither is known at the deadline, the outcome is unknown: the records may still
// appear, and the subscribers will see them if they do.
//
// Run must be running for everything but New and Subscribe. It ends when its
// context ends, or when the topic has lost its beginning.
package kafkajournal
