package ingest

import (
	"context"
	"sync"
	"time"
)

// queueLen bounds the batches of one partition that wait for the writer, beside
// the one it is being given.
const queueLen = 4

// joinWithin is how near, in offsets, storage must have come to detection before
// it stops re-reading and takes batches from it again.
const joinWithin = 20_000

// handoff passes batches from the reader that detection follows to the goroutine
// that feeds the writer. It has two states.
//
//	coupled   batches queue up; the writer gets what detection saw.
//	detached  batches are dropped here; the store side reads the partition itself,
//	          from pos on.
//
// It detaches when the queue stays full for too long, and couples again when pos
// has come near to live: then catchTo is set to live in the same moment, later
// batches queue up, and the store side reads up to catchTo before it takes from
// the queue. So every offset is handed over exactly once and in order:
// [pos, catchTo) by reading, then the queue, then, when detached, the rest.
type handoff struct {
	mu       sync.Mutex
	queue    []*Batch
	pos      int64 // what the store side hands over next
	catchTo  int64 // read up to here before taking from the queue
	live     int64 // end of what detection has seen
	detached bool
	wake     chan struct{} // the store side has something to do
	room     chan struct{} // the queue has room
}

func newHandoff(pos, live int64) *handoff {
	return &handoff{pos: pos, live: live, detached: pos < live,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// offer gives a batch away: it is queued, or released when storage reads by
// itself. It waits at most patience for room, not at all when hopeless says so,
// and then detaches; it reports whether it did. When ctx ends it queues the batch
// whatever the room, so that nothing is lost.
func (h *handoff) offer(ctx context.Context, b *Batch, patience time.Duration, hopeless func() bool) (detached bool) {
	if h.put(b, false) {
		return false
	}
	if !hopeless() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		for {
			select {
			case <-h.room:
				if h.put(b, false) {
					return false
				}
				continue
			case <-ctx.Done():
				h.put(b, true)
				return false
			case <-timer.C:
			}
			break
		}
	}
	h.mu.Lock()
	h.detached = true
	h.live = b.Next
	h.mu.Unlock()
	b.Release()
	signal(h.wake)
	return true
}

// put queues a batch, or drops it when detached or already stored; it reports
// false when there is no room.
func (h *handoff) put(b *Batch, force bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.detached, b.Next <= h.pos:
		b.Release()
	case len(h.queue) >= queueLen && !force:
		return false
	default:
		if b.First < h.pos {
			b.trim(h.pos)
		}
		h.queue = append(h.queue, b)
	}
	h.live = b.Next
	signal(h.wake)
	return true
}

// task is what the store side does next: hand over a batch, or read from pos up
// to catchTo.
type task struct {
	batch        *Batch
	pos, catchTo int64
}

// next returns the next task, or false when there is none now. A batch stays at
// the head of the queue until done.
func (h *handoff) next() (task, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pos < h.catchTo {
		return task{pos: h.pos, catchTo: h.catchTo}, true
	}
	if len(h.queue) > 0 {
		return task{batch: h.queue[0]}, true
	}
	if !h.detached || h.pos >= h.live {
		h.detached = false
		return task{}, false
	}
	if h.live-h.pos <= joinWithin {
		h.detached = false
		h.catchTo = h.live
	}
	return task{pos: h.pos, catchTo: h.live}, true
}

// done says that everything below pos was handed over; fromQueue, that it was
// the head of the queue.
func (h *handoff) done(pos int64, fromQueue bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pos = pos
	if fromQueue {
		h.queue[0] = nil
		h.queue = h.queue[1:]
		signal(h.room)
	}
}

// reading reports whether the store side reads by itself.
func (h *handoff) reading() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.detached || h.pos < h.catchTo
}

// position is where the store side stands.
func (h *handoff) position() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pos
}

// drop releases what is queued.
func (h *handoff) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.queue {
		b.Release()
	}
	h.queue = nil
}

// signal wakes a waiter, who may already have been woken.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// trim forgets what lies below offset from.
func (b *Batch) trim(from int64) {
	events := b.Events[:0]
	for i := range b.Events {
		if b.Events[i].Ref.Offset >= from {
			events = append(events, b.Events[i])
		}
	}
	b.Events = events
	rejects := b.Rejects[:0]
	for i := range b.Rejects {
		if b.Rejects[i].Ref.Offset >= from {
			rejects = append(rejects, b.Rejects[i])
		}
	}
	b.Rejects = rejects
	b.First = from
}
