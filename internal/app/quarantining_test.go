package app

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// taker is a writer that takes everything.
type taker struct {
	ingest.EventWriter
	taken int
}

func (w *taker) Append(context.Context, *ingest.Batch, func(int64)) error {
	w.taken++
	return nil
}

func rejectsOf(n int) []ingest.Reject {
	out := make([]ingest.Reject, n)
	for i := range out {
		out[i] = ingest.Reject{Ref: event.Ref{Topic: "auth.events", Offset: int64(i)}, Reason: ingest.ReasonBadJSON, Excerpt: "{"}
	}
	return out
}

// TestFloodOfRejects: a flood of broken records must not hold storage back: fifty
// thousand of them took minutes when each was a request of its own.
func TestFloodOfRejects(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	topic := devstacktest.CreateTopic(t, broker, 1, nil)
	a := keeper(t, broker, topic)
	a.cfg.Kafka.Topics.Quarantine = topic
	w := &taker{}
	q := &quarantining{EventWriter: w, produce: a.produceRejects, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const n = 50_000
	if err := q.Append(ctx, &ingest.Batch{Rejects: rejectsOf(n)}, nil); err != nil || w.taken != 1 {
		t.Fatalf("%v, the writer got %d batches", err, w.taken)
	}
	if _, end, err := a.kafka.Bounds(ctx, event.Partition{Topic: topic}); err != nil || end != n {
		t.Errorf("the topic ends at %d (%v), want %d", end, err, n)
	}
}

// TestRejectsComeBeforeStorage: the store gets a batch only once the topic has its
// rejects.
func TestRejectsComeBeforeStorage(t *testing.T) {
	t.Parallel()
	w, calls := &taker{}, 0
	q := &quarantining{EventWriter: w, log: slog.New(slog.DiscardHandler), produce: func(context.Context, []ingest.Reject) error {
		if calls++; calls < 3 {
			return errors.New("no broker")
		}
		return nil
	}}
	if err := q.Append(t.Context(), &ingest.Batch{Rejects: rejectsOf(2)}, nil); err != nil || calls != 3 || w.taken != 1 {
		t.Errorf("%v after %d attempts, the writer got %d batches", err, calls, w.taken)
	}
	q.produce = func(context.Context, []ingest.Reject) error { return errors.New("no broker") }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := q.Append(ctx, &ingest.Batch{Rejects: rejectsOf(1)}, nil); !errors.Is(err, context.DeadlineExceeded) || w.taken != 1 {
		t.Errorf("got %v, the writer got %d batches, want none without its reject", err, w.taken-1)
	}
	if err := q.Append(ctx, &ingest.Batch{}, nil); err != nil || w.taken != 2 {
		t.Errorf("without rejects: %v", err)
	}
}
