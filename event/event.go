// Package event is the contract between producers of audit records and
// Keysentry: the canonical event, its closed vocabularies (type, cause,
// origin, authentication mode) and its coordinates in Kafka.
//
// A producer imports this package to build events and to encode them; the
// daemon uses it for everything it decodes, judges and stores. The package does
// no input or output and never reads the clock.
package event

import (
	"net/netip"
	"strconv"
	"strings"
)

// Event is one audit record: decoded, validated and redacted.
//
// Optional fields are absent when their bit in Present is clear; the zero value
// of a field says nothing by itself. Strings of an event that was decoded from
// a Kafka batch alias that batch's buffer: whoever keeps an event longer than
// the batch calls Clone.
type Event struct {
	// Present has one bit per field that the record carried.
	Present FieldSet

	Type   Type
	Origin Origin
	Mode   AuthMode

	// Cause, CauseConfidence and CauseGrounds, the facts that Cause rests on, are
	// decided by detection, for refused events.
	Cause           Cause
	CauseConfidence float32
	CauseGrounds    Grounds
	// Traits are facts that the registries knew when the event was judged, and
	// SourceNet is the network of its caller's address: see package detect.
	// SourceNet aliases no batch.
	Traits    Traits
	SourceNet string
	// MintKey is the key that a session's token was minted with, where the traits say
	// something about that mint. It is not stored and aliases no batch.
	MintKey string
	// Rediagnosed says that Cause was decided again on a re-read, without the
	// state that the live decision had.
	Rediagnosed bool
	// Redacted says that at least one field held something secret and was masked.
	Redacted bool

	// Status is the HTTP status of the observed answer.
	Status uint16

	// Ref locates the record in Kafka.
	Ref Ref

	// Time and SentAt are the host's clock; ObservedAt is the broker's append
	// time; TS is the effective time that windows run on.
	Time, SentAt, ObservedAt, TS Instant

	IssuedAt, ExpiresAt         Instant
	CertNotBefore, CertNotAfter Instant
	Seq                         uint64
	ClockOffset, ClockError     float64 // seconds
	SourceIP, ClientIP          netip.Addr

	ID, Network, Region, Service, Host, Release, Boot string
	UserID, Actor, ActorRole                          string
	KeyID, TokenID, SessionID, DeviceID               string
	Endpoint, Method, Code, Reason                    string
	CertID, CertCN, TLSAlert                          string
	UserAgent, RequestID                              string
}

// Has reports whether the record carried f.
func (e *Event) Has(f Field) bool { return e.Present.Has(f) }

// Clone returns a copy whose strings share no memory with the batch that e was
// decoded from.
func (e *Event) Clone() Event {
	c := *e
	for _, f := range stringFields {
		p := c.str(f)
		*p = strings.Clone(*p)
	}
	return c
}

// Refused reports whether the event tells of a refusal, which is what a Cause
// explains.
func (e *Event) Refused() bool { return e.Type.Refusal() }

// Ref is the place of one event in Kafka. Idx counts the events inside one
// message; it is 0 but for formats that carry several.
type Ref struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Idx       int32  `json:"idx"`
}

// Compare orders refs by topic, partition, offset and index.
func (r Ref) Compare(o Ref) int {
	switch {
	case r.Topic != o.Topic:
		return strings.Compare(r.Topic, o.Topic)
	case r.Partition != o.Partition:
		return sign(int64(r.Partition) - int64(o.Partition))
	case r.Offset != o.Offset:
		return sign(r.Offset - o.Offset)
	}
	return sign(int64(r.Idx) - int64(o.Idx))
}

func sign(d int64) int {
	switch {
	case d < 0:
		return -1
	case d > 0:
		return 1
	}
	return 0
}

// Partition names one partition of a topic.
type Partition struct {
	Topic string `json:"topic"`
	ID    int32  `json:"partition"`
}

// String is topic/partition.
func (p Partition) String() string { return p.Topic + "/" + strconv.Itoa(int(p.ID)) }
