// Package kafkawire is the part of the Kafka protocol that the adapters share:
// the connection with its TLS and SASL, a Fetch of one partition, a reader of
// record batches, offsets, and a producer of single requests.
//
// It exists beside kafka-go because every way that library has to read records
// (version 0.4.51: Reader, Conn.ReadBatch, Client.Fetch) returns the producer's
// time on LogAppendTime topics, hands out aborted records, and lets a small
// compressed batch grow without bound. Connections, routing to the leader,
// groups and administration are the library's.
//
// What it promises about records: a batch whose checksum, codec or layout is
// wrong is never handed out as records and never stops the reader; its offsets
// come back as a Gap. Keys, values and headers alias the buffer of the response
// (or of the decompressed batch), which is never reused.
//
// Close ends the connections.
package kafkawire
