package store

import (
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// TestRejectOfUnknownTimeStaysTheOnlyRow: a record whose append time was ahead of
// the reader's clock is in quarantine; when it is read again, and the clock has
// come up with it, it is not stored a second time as an event.
func TestRejectOfUnknownTimeStaysTheOnlyRow(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	first, stop := startWriter(t, c)
	assign(t, first, part0, 0)
	b := batch(part0, 0, 10)
	b.Rejects = []ingest.Reject{{Ref: b.Events[4].Ref, Reason: ingest.ReasonClock}}
	b.Events = append(append([]event.Event(nil), b.Events[:4]...), b.Events[5:]...)
	appendBatch(t, first, b, nil)
	flush(t, first)
	stop()

	second, _ := startWriter(t, c)
	assign(t, second, part0, 0)
	appendBatch(t, second, batch(part0, 0, 20), nil)
	flush(t, second)
	rows, _ := count(t, c)
	if n := rejects(t, c); rows != 19 || n != 1 {
		t.Errorf("%d events and %d in quarantine, want 19 and 1", rows, n)
	}
}

// TestEventOfUnknownTimeStaysTheOnlyRow: the same the other way round. A record is
// stored as an event; a reader whose clock is behind takes its append time for
// impossible when it reads it again.
func TestEventOfUnknownTimeStaysTheOnlyRow(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	first, stop := startWriter(t, c)
	assign(t, first, part0, 0)
	appendBatch(t, first, batch(part0, 0, 10), nil)
	flush(t, first)
	stop()

	second, _ := startWriter(t, c)
	assign(t, second, part0, 0)
	b := batch(part0, 0, 10)
	b.Rejects = []ingest.Reject{{Ref: b.Events[9].Ref, Reason: ingest.ReasonClock}}
	b.Events = b.Events[:9]
	appendBatch(t, second, b, nil)
	flush(t, second)
	rows, _ := count(t, c)
	if n := rejects(t, c); rows != 10 || n != 0 {
		t.Errorf("%d events and %d in quarantine, want 10 and none", rows, n)
	}
}
