package store

import (
	"context"
	"fmt"

	"github.com/keysentry/keysentry/event"
)

// ClockOffset is one estimate of one host's clock.
type ClockOffset struct {
	Host      string
	Partition event.Partition // whose records it rests on
	Minute    event.Instant   // end of the last minute that went in
	// Offset and Error are seconds, Drift seconds per hour.
	Offset, Error, Drift float64
	Anchored, Confident  bool
	Samples              uint64
}

// WriteClockOffsets keeps estimates; one that is written again is replaced.
func (c *Client) WriteClockOffsets(ctx context.Context, rows []ClockOffset) error {
	if len(rows) == 0 {
		return nil
	}
	b, err := c.conn.PrepareBatch(ctx, "INSERT INTO clock_offsets (host, topic, partition, minute, offset_seconds, error_seconds, drift_seconds_per_hour, anchored, confident, samples)")
	if err != nil {
		return fmt.Errorf("insert clock offsets: %w", explain(err))
	}
	defer b.Close()
	for _, r := range rows {
		if err := b.Append(r.Host, r.Partition.Topic, r.Partition.ID, r.Minute.Time(), r.Offset, r.Error, r.Drift, r.Anchored, r.Confident, r.Samples); err != nil {
			return fmt.Errorf("insert clock offsets: %w", err)
		}
	}
	if err := b.Send(); err != nil {
		return fmt.Errorf("insert clock offsets: %w", explain(err))
	}
	return nil
}
