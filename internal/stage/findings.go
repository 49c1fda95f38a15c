package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
)

// TailFindings reads the journal's partition from an offset on until ctx ends, and
// gives every finding to take with the time at which it was seen. It trusts the
// records: nobody else writes on a stage.
func TailFindings(ctx context.Context, c *kafka.Client, p event.Partition, from int64, take func(finding.Finding, time.Time)) error {
	for ctx.Err() == nil {
		f, err := c.Fetch(ctx, p, from)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read the journal: %w", err)
		}
		seen := time.Now()
		for _, r := range f.Records {
			rec, err := journal.Decode(r.Value)
			if err != nil || rec.Kind != journal.KindFinding {
				continue
			}
			var found finding.Finding
			if err := json.Unmarshal(rec.Body, &found); err != nil {
				return fmt.Errorf("read a finding: %w", err)
			}
			take(found, seen)
		}
		from = f.Next
	}
	return nil
}
