package store

import (
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
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
