package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

var _ ingest.EventWriter = (*Writer)(nil)

// Writer stores batches of events exactly once; the package comment has its
// states and invariants. Run must run for anything to be stored. Append copies
// a batch into columns and releases it at once.
type Writer struct {
	cfg    InsertConfig
	client tables
	log    *slog.Logger
	met    writerMetrics
	conn   sender

	healthy atomic.Bool
	spare   sync.Pool // of *unit

	mu       sync.Mutex
	parts    map[event.Partition]*assigned
	filling  *unit
	sealed   []*unit
	inflight *unit
	bytes    int           // of filling, sealed and inflight
	wake     chan struct{} // buffered 1: the inserter may have something to do
	changed  chan struct{} // closed and replaced whenever room or state changes
}

// tables is what the writer asks the server about rows, and tells it about offsets
// that have none; *Client is the real one.
type tables interface {
	heldTo(ctx context.Context, p event.Partition, committed int64) (int64, error)
	held(ctx context.Context, p event.Partition, s span) (map[place]bool, error)
	runningInserts(ctx context.Context, among []string) ([]string, error)
	killInserts(ctx context.Context, ids []string) error
	noteGaps(ctx context.Context, gaps []offsetGap) error
}

// sender inserts blocks, one at a time; *inserter is the real one.
type sender interface {
	send(ctx context.Context, b *block) error
	close()
}

// assigned is what the writer knows of a partition.
type assigned struct {
	partition event.Partition
	// next is the offset after the last one appended; rows below it are in the
	// queue or stored, and are left out when they come again.
	next int64
	// heldTo is the first offset above everything that the tables held at
	// Assign. It is read before the partition's first insert.
	heldTo  int64
	checked bool
	from    int64 // committed at Assign
	revoked bool
}

// ack is the promise to tell the reader of one batch.
type ack struct {
	part *assigned
	next int64
	tell func(next int64)
}

// unit is what is stored together: one block of events and one of rejects.
type unit struct {
	events  *eventBlock
	rejects *quarantineBlock
	gaps    []offsetGap
	acks    []ack
	born    time.Time
	size    int
}

func newUnit() *unit { return &unit{events: newEventBlock(), rejects: newQuarantineBlock()} }

func (u *unit) rows() int { return u.events.rows + u.rejects.rows }

func (u *unit) reset() {
	u.events.reset()
	u.rejects.reset()
	u.gaps = u.gaps[:0]
	clear(u.acks)
	u.acks = u.acks[:0]
	u.size = 0
}

// NewWriter prepares a writer that stores through c's server.
func NewWriter(c *Client) *Writer {
	w := &Writer{
		cfg:     c.cfg.Insert,
		client:  c,
		log:     c.log.With("part", "store.writer"),
		met:     newWriterMetrics(c.met),
		conn:    newInserter(c),
		spare:   sync.Pool{New: func() any { return newUnit() }},
		parts:   map[event.Partition]*assigned{},
		wake:    make(chan struct{}, 1),
		changed: make(chan struct{}),
	}
	w.healthy.Store(true)
	w.filling = w.fresh()
	return w
}

func (w *Writer) fresh() *unit { return w.spare.Get().(*unit) }

// Healthy reports whether the last attempt to store succeeded.
func (w *Writer) Healthy() bool { return w.healthy.Load() }

// Assign prepares a partition: rows at or above committed that are stored
// already will not be stored again. The server is asked before the partition's
// first insert, not here, so Assign succeeds while ClickHouse is away.
func (w *Writer) Assign(ctx context.Context, p event.Partition, committed int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.Revoke(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parts[p] = &assigned{partition: p, next: committed, from: committed}
	return nil
}

// Append takes b over and releases it; see ingest.EventWriter.
func (w *Writer) Append(ctx context.Context, b *ingest.Batch, acked func(next int64)) error {
	w.mu.Lock()
	for w.bytes >= w.cfg.QueueBytes {
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	part := w.parts[b.Partition]
	if part == nil {
		return fmt.Errorf("append to %s: the partition is not assigned", b.Partition)
	}
	u := w.filling
	if len(u.acks) == 0 {
		u.born = time.Now()
	}
	w.fill(u, part, b)
	u.acks = append(u.acks, ack{part: part, next: b.Next, tell: acked})
	b.Release()
	size := u.events.size() + u.rejects.size()
	w.bytes += size - u.size
	u.size = size
	w.met.queueBytes.Set(float64(w.bytes))
	if u.rows() >= w.cfg.MaxRows || u.size >= w.cfg.MaxBytes {
		w.seal()
	}
	w.poke()
	return nil
}

func (w *Writer) fill(u *unit, part *assigned, b *ingest.Batch) {
	known := part.next
	skipped := 0
	for i := range b.Events {
		if b.Events[i].Ref.Offset < known {
			skipped++
			continue
		}
		u.events.append(&b.Events[i])
	}
	for i := range b.Rejects {
		if b.Rejects[i].Ref.Offset < known {
			skipped++
			continue
		}
		u.rejects.append(&b.Rejects[i])
	}
	u.gaps = appendGaps(u.gaps, b, known)
	part.next = max(known, b.Next)
	w.met.duplicates.Add(float64(skipped))
}

// seal closes the unit that is being filled. The caller holds mu.
func (w *Writer) seal() {
	w.sealed = append(w.sealed, w.filling)
	w.filling = w.fresh()
}

func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// broadcast tells everybody who waits that something changed. The caller holds mu.
func (w *Writer) broadcast() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// Revoke forgets p: its rows in the queue are dropped, an attempt in flight is
// awaited (at most insert.timeout, and longer while it looks up what an unknown
// outcome stored), and what it stored is acknowledged first.
// It must not be called while holding a lock that acked takes.
func (w *Writer) Revoke(p event.Partition) {
	w.mu.Lock()
	part := w.parts[p]
	if part == nil {
		w.mu.Unlock()
		return
	}
	delete(w.parts, p)
	part.revoked = true
	w.filling = w.without(w.filling, part)
	for i := range w.sealed {
		w.sealed[i] = w.without(w.sealed[i], part)
	}
	w.recount()
	w.broadcast()
	for w.inflight != nil && w.inflight.names(part) {
		changed := w.changed
		w.mu.Unlock()
		<-changed
		w.mu.Lock()
	}
	w.mu.Unlock()
}

func (u *unit) names(part *assigned) bool {
	for i := range u.acks {
		if u.acks[i].part == part {
			return true
		}
	}
	return false
}

// without is u less everything of part.
func (w *Writer) without(u *unit, part *assigned) *unit {
	if !u.names(part) {
		return u
	}
	out := newUnit()
	out.born = u.born
	keep := func(b *block) func(i int) bool {
		return func(i int) bool { return b.partitionOf(i) != part.partition }
	}
	out.events.copyFrom(&u.events.block, 0, u.events.rows, keep(&u.events.block))
	out.rejects.copyFrom(&u.rejects.block, 0, u.rejects.rows, keep(&u.rejects.block))
	out.gaps = append(out.gaps, u.gaps...) // true whoever reads the partition
	for _, a := range u.acks {
		if a.part != part {
			out.acks = append(out.acks, a)
		}
	}
	out.size = out.events.size() + out.rejects.size()
	return out
}

func (w *Writer) recount() {
	w.bytes = w.filling.size
	for _, u := range w.sealed {
		w.bytes += u.size
	}
	if w.inflight != nil {
		w.bytes += w.inflight.size
	}
	w.met.queueBytes.Set(float64(w.bytes))
}

// Flush returns when everything that was appended before is stored, or with
// ctx's error.
func (w *Writer) Flush(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.filling.acks) > 0 {
		w.seal()
		w.poke()
	}
	for len(w.sealed) > 0 || w.inflight != nil {
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			w.mu.Lock()
			return ctx.Err()
		case <-changed:
		}
		w.mu.Lock()
	}
	return nil
}

// Run stores what is appended until ctx ends. An attempt in flight then has a
// short while to finish; what is still queued is dropped unacknowledged and
// will be read from Kafka again.
func (w *Writer) Run(ctx context.Context) error {
	defer w.conn.close()
	for {
		u := w.take(ctx)
		if u == nil {
			return nil
		}
		stored := w.store(ctx, u)
		w.mu.Lock()
		if stored {
			w.mu.Unlock()
			// Without the lock: acked may call back. Revoke still waits, because
			// inflight names the partition until below.
			for _, a := range u.acks {
				a.tell(a.next)
			}
			w.mu.Lock()
		}
		w.inflight = nil
		u.reset()
		w.spare.Put(u)
		w.recount()
		w.broadcast()
		w.mu.Unlock()
	}
}

// take waits for a unit that is due; nil when ctx ended.
func (w *Writer) take(ctx context.Context) *unit {
	for {
		wait := time.Hour
		w.mu.Lock()
		if len(w.sealed) == 0 && len(w.filling.acks) > 0 {
			if wait = w.cfg.MaxAge - time.Since(w.filling.born); wait <= 0 {
				w.seal()
			}
		}
		if len(w.sealed) > 0 && ctx.Err() == nil {
			w.inflight = w.sealed[0]
			w.sealed = append(w.sealed[:0], w.sealed[1:]...)
			u := w.inflight
			w.mu.Unlock()
			return u
		}
		w.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-w.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}
