package store

import (
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// BenchmarkAppend is the client's own work: events into columns.
func BenchmarkAppend(b *testing.B) {
	events := batch(part0, 0, 10_000).Events
	blk := newEventBlock()
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		if blk.rows >= 100_000 {
			blk.reset()
		}
		for i := range events {
			blk.append(&events[i])
		}
		rows += len(events)
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkInsert stores through the writer into the embedded server.
// server_us/row is the server's own time per row, merges included.
func BenchmarkInsert(b *testing.B) {
	c := newClient(b)
	w, _ := startWriter(b, c)
	assign(b, w, part0, 0)
	const perBatch = 5_000
	pages := make([][]event.Event, 100_000/perBatch) // enough that no text repeats within a compressed block
	for i := range pages {
		pages[i] = batch(part0, int64(i*perBatch), int64((i+1)*perBatch)).Events
	}
	var told acks
	next := int64(0)
	before := serverMicros(b, c)
	for b.Loop() {
		for _, events := range pages {
			shift(events, next)
			bt := &ingest.Batch{Partition: part0, First: next, Next: next + perBatch, Events: events}
			next += perBatch
			appendBatch(b, w, bt, told.tell)
		}
	}
	flush(b, w)
	b.StopTimer()
	elapsed := b.Elapsed().Seconds()
	b.ReportMetric(float64(next)/elapsed, "rows/s")
	b.ReportMetric((serverMicros(b, c)-before)/float64(next), "server_us/row")
	var bytes uint64
	if err := c.conn.QueryRow(b.Context(), "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase() AND table = 'events'").Scan(&bytes); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(bytes)/float64(next), "disk_bytes/row")
	if rows, distinct := count(b, c); rows != uint64(next) || distinct != rows {
		b.Fatalf("rows %d, distinct %d, want %d", rows, distinct, next)
	}
}

// shift moves events, which were made for the offsets from 0, to first.
func shift(events []event.Event, first int64) {
	for i := range events {
		d := first + int64(i) - events[i].Ref.Offset
		events[i].Ref.Offset += d
		for _, t := range []*event.Instant{&events[i].Time, &events[i].SentAt, &events[i].ObservedAt, &events[i].TS, &events[i].IssuedAt, &events[i].ExpiresAt} {
			*t += event.Instant(d * 1_000_000)
		}
	}
}

// serverMicros is the processor time the server has used so far.
func serverMicros(b testing.TB, c *Client) float64 {
	b.Helper()
	var us float64
	err := c.conn.QueryRow(b.Context(), "SELECT toFloat64(sum(value)) FROM system.events WHERE event IN ('UserTimeMicroseconds', 'SystemTimeMicroseconds')").Scan(&us)
	if err != nil {
		b.Fatal(err)
	}
	return us
}
