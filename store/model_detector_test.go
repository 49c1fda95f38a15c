package store

import (
	"context"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// view is what one session saw of one partition.
type view struct {
	m        *model
	part     event.Partition
	start    int64 // where detection had got, or below zero
	next     int64 // detection saw, or was told of, everything below
	last     event.Ref
	seen     map[event.Ref]bool
	batches  []int64 // last offsets of the batches that were observed
	appended int64   // the writer was given everything below
}

// advance checks that detection saw every event below offset to.
func (v *view) advance(to int64) {
	for ; v.next < to; v.next++ {
		if v.next < v.start || v.start < 0 && v.next < v.m.broker.first[v.part] || v.m.broker.told(v.part, v.next) {
			continue
		}
		for _, idx := range v.m.broker.log[v.part][v.next].kind.surely() {
			ref := event.Ref{Topic: v.part.Topic, Partition: v.part.ID, Offset: v.next, Idx: idx}
			if !v.seen[ref] {
				v.m.blame("%v: detection did not see it, and stands at %d", ref, to)
			}
		}
	}
}

// modelDetector checks what detection is shown in one session.
type modelDetector struct{ s *session }

var _ ingest.Detector = modelDetector{}

func (modelDetector) Lookback() int64                               { return int64(10 * time.Second) }
func (modelDetector) RegistrySince(end event.Instant) event.Instant { return end }
func (modelDetector) Missing(event.Partition, event.Instant)        {}
func (modelDetector) Assign([]event.Partition)                      {}
func (modelDetector) Tick(event.Instant) []finding.Finding          { return nil }
func (modelDetector) Derive([]event.Event)                          {}
func (modelDetector) Diagnose([]event.Event)                        {}
func (modelDetector) Replay(event.Partition, []event.Event)         {}
func (modelDetector) Fill(context.Context, []event.Standing) ([]event.Standing, error) {
	return nil, nil
}

// Observe checks the order, and that what waits for the writer is bounded.
func (d modelDetector) Observe(p event.Partition, events []event.Event) []finding.Finding {
	coupled := !d.s.detached(p)
	d.s.p.m.mu.Lock()
	defer d.s.p.m.mu.Unlock()
	v := d.s.view(p)
	for i := range events {
		ref := events[i].Ref
		if len(v.seen) > 0 && ref.Compare(v.last) <= 0 || ref.Offset < v.start {
			v.m.blame("detection saw %v after %v, and began at %d", ref, v.last, v.start)
		}
		v.last, v.seen[ref] = ref, true
	}
	if len(events) == 0 {
		return nil
	}
	v.batches = append(v.batches, v.last.Offset)
	for len(v.batches) > 0 && v.batches[0] < v.appended {
		v.batches = v.batches[1:]
	}
	// Four in the queue, this one, and one that each end of a run forces in.
	if n := len(v.batches); coupled && n > 4+1+d.s.rejoins {
		v.m.blame("%v: %d batches wait for the writer", p, n)
	}
	return nil
}

func (d modelDetector) Progress(p event.Partition, position, _ int64, _ event.Instant) {
	d.s.p.m.mu.Lock()
	defer d.s.p.m.mu.Unlock()
	if v := d.s.view(p); position < v.next {
		v.m.blame("%v: detection went back from %d to %d", p, v.next, position)
	} else {
		v.advance(position)
	}
}

// largestBatch is more than what the largest batch of the model takes.
const largestBatch = 64 << 10

// modelWriter notes what the pipeline hands to the writer.
type modelWriter struct {
	ingest.EventWriter
	s *session
}

// Assign begins a time in which the writer has not looked yet.
func (w modelWriter) Assign(ctx context.Context, p event.Partition, committed int64) error {
	m := w.s.p.m
	m.mu.Lock()
	w.s.p.assigned[p] = m.tick()
	w.s.view(p).appended = committed
	m.mu.Unlock()
	return w.EventWriter.Assign(ctx, p, committed)
}

// Append checks that batches come without holes, and that memory is bounded.
func (w modelWriter) Append(ctx context.Context, b *ingest.Batch, acked func(int64)) error {
	p, first, next := b.Partition, b.First, b.Next
	err := w.EventWriter.Append(ctx, b, acked)
	queue := w.s.p.writer
	queue.mu.Lock()
	bytes := queue.bytes
	queue.mu.Unlock()
	w.s.p.m.mu.Lock()
	defer w.s.p.m.mu.Unlock()
	if v := w.s.view(p); err == nil {
		if first != v.appended {
			v.m.blame("%v: the writer was given %d to %d after %d", p, first, next, v.appended)
		}
		v.appended = next
		// A batch is taken whole when there is any room.
		if bytes > queue.cfg.QueueBytes+len(v.m.parts)*largestBatch {
			v.m.blame("%d bytes wait in the writer", bytes)
		}
	}
	return err
}
