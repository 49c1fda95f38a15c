package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// store feeds the writer until run ends, and then what is queued, until drain
// ends. It reads the partition itself while detection is ahead.
func (t *partition) store(run, drain context.Context) error {
	select {
	case <-run.Done():
		return nil
	case <-t.ready:
	}
	if err := t.assignWriter(run); err != nil {
		return unlessDone(run, err)
	}
	for {
		task, ok := t.h.next()
		reading := t.h.reading()
		t.detached.Set(gauge(reading))
		if !reading {
			t.join = joiner{}
		}
		var err error
		switch {
		case ok && task.batch != nil:
			if err = t.append(drain, task.batch); err == nil {
				t.h.done(task.batch.Next, true)
			}
		case run.Err() != nil:
			return t.awaitAcks(drain)
		case ok:
			err = t.catchUp(run, drain, task)
		default:
			select {
			case <-run.Done():
			case <-t.h.wake:
			}
		}
		if err != nil {
			return unlessDone(run, err)
		}
	}
}

func gauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// assignWriter tells the writer about the partition, as often as it takes.
func (t *partition) assignWriter(ctx context.Context) error {
	if t.assigned {
		return nil
	}
	err := t.retry(ctx, "reading what is stored already", &t.storeAt, func() error {
		return t.p.Writer.Assign(ctx, t.id, t.committed)
	})
	t.assigned = err == nil
	return err
}

// append hands one batch to the writer; on success it is the writer's.
func (t *partition) append(ctx context.Context, b *Batch) error {
	return t.p.Writer.Append(ctx, b, t.ack)
}

// ack is called by the writer when everything below next is durable.
func (t *partition) ack(next int64) {
	for {
		old := t.acked.Load()
		if next <= old || t.acked.CompareAndSwap(old, next) {
			signal(t.h.wake)
			return
		}
	}
}

// awaitAcks waits until everything handed over is durable.
func (t *partition) awaitAcks(drain context.Context) error {
	for t.acked.Load() < t.h.position() {
		select {
		case <-drain.Done():
			return nil
		case <-t.h.wake:
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// catchUp reads one piece of [pos, catchTo) again and hands it over, with the
// causes that detection decided live (verdicts.go).
func (t *partition) catchUp(run, drain context.Context, task task) error {
	f, err := t.fetchAs(run, task.pos, &t.storeAt)
	if gone := (*OffsetGone)(nil); errors.As(err, &gone) {
		return t.skipStored(drain, task, gone)
	}
	if err != nil {
		return err
	}
	if f.Next == task.pos {
		return nil
	}
	f.clip(task.catchTo)
	b, err := t.p.Decoder.Decode(t.id, f, task.pos, t.storeClock.Load(), event.At(t.p.Now()))
	if err != nil {
		return err
	}
	if err := t.settle(run, b); err != nil {
		b.Release()
		return err
	}
	t.p.m.reread.Add(float64(len(b.Events)))
	next := b.Next
	if err := t.append(run, b); err != nil {
		b.Release()
		return err
	}
	t.h.done(next, false)
	return nil
}

// skipStored moves storage past offsets that retention removed and says which. It
// goes no further than the task: what lies behind may wait in the queue, read
// before retention came.
func (t *partition) skipStored(ctx context.Context, task task, gone *OffsetGone) error {
	if gone.LogStart <= task.pos {
		return t.recreated(task.pos, gone)
	}
	to := min(gone.LogStart, task.catchTo)
	t.p.m.lost.WithLabelValues(t.id.Topic, readerStore).Add(float64(to - task.pos))
	t.log.Error("retention removed records before they were stored", "from", task.pos, "to", to-1)
	found := []finding.Finding{gapFinding(t.id, task.pos, to, readerStore, event.At(t.p.Now()))}
	// Only what is durable may be passed: once the batch is appended the offset may
	// be committed, and nobody would read here again and notice.
	if err := t.p.Sink.Journal(ctx, found); err != nil {
		return err
	}
	b := &Batch{Partition: t.id, First: task.pos, Next: to, Lost: true}
	if err := t.append(ctx, b); err != nil {
		return err
	}
	t.h.done(to, false)
	return nil
}
