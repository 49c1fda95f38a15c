package store

import (
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

func TestClockOffsetsReplaceAndAnswer(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	minute := event.At(time.Now().Add(-5 * time.Minute).Truncate(time.Minute))
	row := func(host string, part int32, offset float64, anchored bool) ClockOffset {
		return ClockOffset{Host: host, Partition: event.Partition{Topic: "t", ID: part}, Minute: minute, Offset: offset, Error: 0.1, Drift: 0.5,
			Anchored: anchored, Confident: true, Samples: 40}
	}
	rows := []ClockOffset{row("fast", 0, 95, false), row("fast", 1, 94, true), row("good", 0, 0.2, false)}
	for range 2 { // a second writing replaces
		if err := c.WriteClockOffsets(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
	var n uint64
	if err := c.conn.QueryRow(t.Context(), "SELECT count() FROM v_clock_offsets").Scan(&n); err != nil || n != 3 {
		t.Fatalf("got %d rows, %v, want 3", n, err)
	}
	got, err := c.Named(t.Context(), "clock_offsets", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Close() }()
	var hosts []string
	for got.Next() {
		v, err := got.Values()
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, Text(v[0])+" "+Text(v[1]))
	}
	if err := got.Err(); err != nil {
		t.Fatal(err)
	}
	if len(hosts) != 1 || hosts[0] != "fast 94" {
		t.Errorf("got %v, want the fast host by its anchored estimate", hosts)
	}
}

func TestCoverageCountsTheGaps(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	at := time.Now().Add(-time.Hour).Truncate(time.Hour).Add(time.Minute)
	var events []event.Event
	for i, seq := range []uint64{10, 11, 12, 15} {
		e := event.Event{Type: event.TypeHeartbeat, Ref: event.Ref{Topic: "t", Offset: int64(i)}, Seq: seq}
		e.SetString(event.FieldNetwork, "n")
		e.SetString(event.FieldHost, "h")
		e.SetString(event.FieldBoot, "b")
		e.Present = e.Present.Set(event.FieldSeq)
		e.ObservedAt, e.TS, e.Time = event.At(at), event.At(at), event.At(at)
		events = append(events, e)
	}
	w, stop := startWriter(t, c)
	defer stop()
	p := event.Partition{Topic: "t"}
	assign(t, w, p, 0)
	appendBatch(t, w, &ingest.Batch{Partition: p, First: 0, Next: 4, Events: events}, nil)
	flush(t, w)
	var expected, received uint64
	var percent float64
	if err := c.conn.QueryRow(t.Context(), "SELECT expected_events, received_events, received_percent FROM v_coverage").Scan(&expected, &received, &percent); err != nil {
		t.Fatal(err)
	}
	if expected != 6 || received != 4 || percent != 66.667 {
		t.Errorf("got %d of %d, %v %%, want 4 of 6, 66.667 %%", received, expected, percent)
	}
}
