package ingest

import (
	"context"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Record is one Kafka record, as the reader hands it up.
type Record struct {
	Offset int64
	// Time is the broker's append time on a LogAppendTime topic, else the
	// producer's.
	Time event.Instant
	// Appended says that Time is the broker's.
	Appended   bool
	Key, Value []byte // Value nil: a tombstone
	Headers    []Header
}

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Fetched is the answer to one fetch of one partition.
type Fetched struct {
	Records []Record
	// Unreadable lists offset ranges [From, To) whose batch could not be read
	// (bad CRC, too large when decompressed); they go to quarantine.
	Unreadable []Unreadable
	// Next is the offset to fetch next, past control batches and gaps too.
	Next int64
	// HighWatermark and LogStart are the partition's bounds at that moment.
	HighWatermark, LogStart int64
}

// Unreadable is a range of offsets [From, To) that could not be read, and why.
type Unreadable struct {
	From, To int64
	Reason   string
}

// Source reads partitions. The memory of a Fetched belongs to the caller and is
// never reused.
type Source interface {
	// Fetch reads from offset on. It waits at most a short, configured time for
	// data and then returns an empty answer. An offset below the log start is
	// answered with *OffsetGone.
	Fetch(ctx context.Context, p event.Partition, offset int64) (*Fetched, error)
	// OffsetAt is the first offset whose record time is at or after t, or the
	// end of the partition.
	OffsetAt(ctx context.Context, p event.Partition, t event.Instant) (int64, error)
}

// OffsetGone says that retention overtook the reader: [Wanted, LogStart) is lost.
type OffsetGone struct {
	Partition        event.Partition
	Wanted, LogStart int64
}

func (e *OffsetGone) Error() string {
	return "offsets " + e.Partition.String() + " are gone: retention overtook the reader"
}

// Batch is what one fetch became. Who receives it for storing owns it until
// Release.
type Batch struct {
	Partition event.Partition
	// First and Next are the offset range [First, Next) that the batch covers;
	// every offset in it is an event, a reject, or was empty.
	First, Next int64
	Events      []event.Event
	Rejects     []Reject
	// Unreadable are the ranges that could not be read; the first offset of each is
	// a reject.
	Unreadable []Unreadable
	// Lost says that retention removed the whole range before it was read.
	Lost     bool
	leaks    []leak
	imported bool // its times are the producers' own
	release  func()
}

// Release gives the batch's memory back; the batch must not be used afterwards.
func (b *Batch) Release() {
	if f := b.release; f != nil {
		b.release = nil
		f()
	}
}

// Reject is one record that is not an event: it goes to quarantine.
type Reject struct {
	Ref        event.Ref
	ObservedAt event.Instant // the append time; 0 when it is unknown or impossible
	Reason     Reason
	Field      string // the field at fault, when one is
	Detail     string // what was wrong; redacted
	Excerpt    string // redacted head of the record, at most MaxExcerpt bytes
	Size       int    // bytes of the value
}

// EventWriter stores batches exactly once; store.Writer is the real one.
type EventWriter interface {
	// Assign prepares a partition whose committed offset is known: rows at or
	// above it that are stored already will not be stored again.
	Assign(ctx context.Context, p event.Partition, committed int64) error
	// Append takes the batch over. It blocks while the queue is full and returns
	// ctx's error when ctx ends first; the batch is then still the caller's.
	// Batches of one partition come in offset order. acked is called once, from
	// another goroutine, when everything below b.Next is durable.
	Append(ctx context.Context, b *Batch, acked func(next int64)) error
	// Healthy reports whether the last attempt to store succeeded.
	Healthy() bool
	// Revoke forgets a partition: batches in the queue are dropped, the insert
	// in flight is awaited.
	Revoke(p event.Partition)
}

// Committer commits stored positions to the consumer group.
type Committer interface {
	// Commit commits the offsets. An error of a lost generation is final for it.
	Commit(ctx context.Context, offsets map[event.Partition]int64) error
}

// Detector judges events. Its methods may be called concurrently for different
// partitions; for one partition they come in offset order.
type Detector interface {
	// Lookback is how far back the windows and registries reach: what Replay
	// should be given before the first Observe, in nanoseconds.
	Lookback() int64
	// RegistrySince is from when on the registries alone want events, when the last
	// that was judged is of end: what Replay should be given of partitions that
	// Fill filled.
	RegistrySince(end event.Instant) event.Instant
	// Fill fills windows from what is stored below the positions, until ctx ends,
	// once and before the first Replay of their partitions. It returns those of
	// which it took nothing, and why.
	Fill(ctx context.Context, at []event.Standing) ([]event.Standing, error)
	// Missing says that events before an instant reached neither Fill nor Replay.
	Missing(p event.Partition, before event.Instant)
	// Assign names the partitions that take part in the watermark.
	Assign(parts []event.Partition)
	// Replay fills windows silently.
	Replay(p event.Partition, events []event.Event)
	// Observe judges events: it sets Cause and CauseConfidence on refused ones,
	// Traits and SourceNet on all, and returns what fired.
	Observe(p event.Partition, events []event.Event) []finding.Finding
	// Progress tells how far a partition was read; it is called after every
	// successful fetch, empty ones too.
	Progress(p event.Partition, position, highWatermark int64, now event.Instant)
	// Tick lets time pass: the watermark may advance when all is drained.
	Tick(now event.Instant) []finding.Finding
	// Diagnose sets causes, traits and networks of re-read events without touching
	// any state, and flags the refused ones Rediagnosed.
	Diagnose(events []event.Event)
	// Derive sets SourceNet of re-read events.
	Derive(events []event.Event)
}

// FindingSink journals findings. Deliver blocks while its queue is full. When
// everything delivered for a partition is durable, the sink records position as
// the partition's detected position. p may be zero (from Tick): no position.
// Journal is for findings that something else has to wait for, as the committed
// offset waits for the gap that it passes: it returns nil only when they are
// durable, and ctx's error when ctx ends first.
type FindingSink interface {
	Deliver(ctx context.Context, findings []finding.Finding, p event.Partition, position int64) error
	Journal(ctx context.Context, findings []finding.Finding) error
}
