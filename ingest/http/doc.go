// Package httpingest is the door for producers that cannot speak Kafka: a POST to
// /v1/events becomes records of one topic. It promises that
//
//   - an answer of 202 comes after Kafka acknowledged every event of the request
//     (acks=all), and not before;
//   - a request is taken whole or not at all: of one with a malformed event nothing
//     is produced;
//   - what a source may say is what its topic may: the token chooses the source, the
//     source the topic, and nothing in the request does;
//   - no token and no part of a body stands in an answer, an error, a log or a
//     metric.
//
// Only the form is checked here (JSON, UTF-8, size, nesting). What an event means is
// checked by who reads the topic: Kafka is the buffer, and a bad event goes to
// quarantine with its place.
//
// Delivery is at least once. After a 503 that says written: unknown, some events of
// the request may be in Kafka; sent again they are records of their own, with the
// same id if the producer gave one.
//
// Every member of a group serves the path, leader or not, since it only produces.
// Nothing is kept between requests. Run lets requests under way finish when it is
// told to stop.
package httpingest
