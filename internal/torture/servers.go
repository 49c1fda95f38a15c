package torture

import (
	"context"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/internal/stage"
)

// strikeBroker stops Kafka and starts it again; the daemon has to live through it.
func strikeBroker(ctx context.Context, t *trial) (float64, error) {
	if err := t.stage.StopBroker(ctx); err != nil {
		return 0, fmt.Errorf("stop the broker: %w", err)
	}
	// What was read before is still to be stored (store.insert.max_age).
	if err := stage.Pause(ctx, time.Second); err != nil {
		return 0, err
	}
	if err := t.insertsOver(ctx); err != nil {
		return 0, err
	}
	base, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	t.feed()
	if err := t.stage.StartBroker(ctx); err != nil {
		return 0, err
	}
	return t.firstInsert(ctx, time.Now(), base) // its own start is not the daemon's
}

// outage is how long ClickHouse is away in clickhouse-down: longer than the
// daemon waits before detection goes on alone (ingest.detach_after).
const outage = 5 * time.Second

// strikeClickHouse kills ClickHouse and starts it again on the same data and
// ports after an outage.
func strikeClickHouse(ctx context.Context, t *trial) (float64, error) {
	before, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	t.stage.KillClickHouse()
	t.feed()
	if err := stage.Pause(ctx, outage); err != nil {
		return 0, err
	}
	after, err := t.clickHouseBack(ctx, before)
	if err != nil {
		return 0, err
	}
	return t.firstInsert(ctx, time.Now(), after)
}

// clickHouseBack starts a killed ClickHouse and returns how many rows it has,
// which must not be fewer than it had shown.
func (t *trial) clickHouseBack(ctx context.Context, before uint64) (uint64, error) {
	if err := t.stage.StartClickHouse(ctx); err != nil {
		return 0, err
	}
	after, err := t.rows(ctx)
	if err == nil && after < before {
		err = fmt.Errorf("ClickHouse itself lost %d rows in the crash", before-after)
	}
	return after, err
}
