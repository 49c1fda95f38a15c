package store

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// TestClocksAreComputedFromStoredEvents: three hours of a host that gains 6 s an hour
// from 40 s on and of one that is right. A second round
// changes nothing.
func TestClocksAreComputedFromStoredEvents(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	rng := rand.New(rand.NewPCG(4, 2))
	begin := event.At(time.Now().Add(-5 * time.Hour).Truncate(time.Hour))
	b := &ingest.Batch{Partition: part0}
	add := func(host string, at event.Instant, ahead float64) *event.Event {
		e := mint(event.Ref{Topic: part0.Topic, Offset: int64(len(b.Events))})
		e.ObservedAt = at
		e.TS, e.Time = at, at.Add(time.Duration((ahead-0.3*rng.Float64())*1e9))
		e.SentAt = 0
		e.Present &^= event.FieldSet(0).Set(event.FieldSentAt)
		e.SetString(event.FieldHost, host)
		b.Events = append(b.Events, e)
		return &b.Events[len(b.Events)-1]
	}
	for i := range 3 * 180 {
		at := begin.Add(time.Duration(i) * 20 * time.Second)
		add("fast", at, 40+6*float64(i)/180)
		own := add("right", at, 0)
		if i%30 == 0 {
			own.Type, own.ClockOffset, own.ClockError = event.TypeHeartbeat, 0.02, 0.01
			own.Present = own.Present.Set(event.FieldClockOffset).Set(event.FieldClockError)
		}
	}
	b.Next = int64(len(b.Events))
	appendBatch(t, w, b, nil)
	flush(t, w)
	r := NewRoller(c)
	for range 2 {
		if _, err := r.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := c.conn.Query(t.Context(), `SELECT toString(host), offset_seconds, error_seconds, drift_seconds_per_hour, own_seconds, minutes, records, change_seconds FROM v_clock_drift ORDER BY host, hour`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var host string
		var off, margin, drift, change float64
		var own *float64
		var minutes, records uint64
		if err := rows.Scan(&host, &off, &margin, &drift, &own, &minutes, &records, &change); err != nil {
			t.Fatal(err)
		}
		hour := float64(n % 3)
		n++
		want, slope := 0.0, 0.0
		if host == "fast" {
			want, slope = 40+6*hour+3, 6
		}
		if math.Abs(off-want) > 0.4 || math.Abs(drift-slope) > 0.5 || margin > 2 || minutes != 60 || records != 180 {
			t.Errorf("%s, hour %v: %v +- %v drifting %v of %d minutes and %d records, want %v drifting %v", host, hour, off, margin, drift, minutes, records, want, slope)
		}
		if host == "right" && (own == nil || *own != 0.02) || host == "fast" && own != nil {
			t.Errorf("%s: its own figure is %v", host, own)
		}
		if hour > 0 && math.Abs(change-slope) > 0.5 || hour == 0 && change != 0 {
			t.Errorf("%s, hour %v: changed by %v", host, hour, change)
		}
	}
	if n != 6 {
		t.Errorf("%d rows, want 3 hours of 2 hosts", n)
	}
}
