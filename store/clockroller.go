package store

import (
	"context"
	"fmt"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/keysentry/keysentry/event"
)

// A record whose time is its append time is an import: it says nothing of a clock.
const rollClockMinutes = `
INSERT INTO clock_minutely (minute, host, topic, partition, records, p95_seconds, min_seconds, max_seconds, own_seconds, own_error)
SELECT toStartOfMinute(observed_at) AS minute, host, topic, partition, count(), quantileExactHigh(0.95)(diff), min(diff), max(diff),
    argMaxIf(toNullable(clock_offset), observed_at, beat), argMaxIf(toNullable(clock_error), observed_at, beat)
FROM
(
    SELECT observed_at, host, topic, partition, clock_offset, clock_error, type = 'heartbeat' AND bitTest(present, {has_offset:UInt8}) AS beat,
        (toUnixTimestamp64Nano(if(toUnixTimestamp64Nano(sent_at) > 0, sent_at, time)) - toUnixTimestamp64Nano(observed_at)) / 1e9 AS diff
    FROM events FINAL
    WHERE toUnixTimestamp(toStartOfMinute(observed_at)) IN ({minutes:Array(UInt32)})
        AND observed_at BETWEEN {first:DateTime64(9, 'UTC')} AND {last:DateTime64(9, 'UTC')} AND host != '' AND time != observed_at
)
GROUP BY minute, host, topic, partition`

const rollClockHours = `
INSERT INTO clock_hourly (hour, host, topic, partition, minutes, records, offset_seconds, error_seconds, drift_seconds_per_hour, own_seconds)
SELECT hour, host, topic, partition, length(points), total, middle,
    greatest(0.1, 2 * 1.4826 * 1.2533 * arrayReduce('quantileExact(0.5)', arrayMap(p -> abs(p.2 - middle), points)) / sqrt(length(points))),
    if(length(points) < 4, 0, 60 * arrayReduce('simpleLinearRegression', arrayMap(p -> p.1, points), arrayMap(p -> p.2, points)).1), own
FROM
(
    SELECT toStartOfHour(minute) AS hour, host, topic, partition, groupArray(tuple(toFloat64(dateDiff('minute', toStartOfHour(minute), minute)), p95_seconds)) AS points,
        sum(records) AS total, quantileExact(0.5)(p95_seconds) AS middle, quantileExact(0.5)(own_seconds) AS own
    FROM clock_minutely FINAL
    WHERE toUnixTimestamp(toStartOfHour(minute)) IN (SELECT arrayJoin(arrayDistinct(arrayMap(m -> intDiv(m, 3600) * 3600, {minutes:Array(UInt32)}))))
    GROUP BY hour, host, topic, partition
)`

// clocks computes the clock differences of the closed minutes of observed_at that got
// rows since then, and the hours that they belong to.
func (r *Roller) clocks(ctx context.Context, since time.Time) error {
	rows, err := r.client.conn.Query(ctx, `
		SELECT min(observed_at), max(observed_at), groupUniqArray(toUnixTimestamp(toStartOfMinute(observed_at)))
		FROM events
		WHERE stored_at >= ? AND host != '' AND observed_at < toStartOfMinute(now64(9, 'UTC') - toIntervalMillisecond(?))
		GROUP BY toDate(observed_at) ORDER BY toDate(observed_at)`, since, r.cfg.Lag.Milliseconds())
	if err != nil {
		return fmt.Errorf("find minutes with new rows: %w", err)
	}
	var days []dirtyDay
	for rows.Next() {
		var d dirtyDay
		if err := rows.Scan(&d.first, &d.last, &d.minutes); err != nil {
			return fmt.Errorf("find minutes with new rows: %w", err)
		}
		days = append(days, d)
	}
	if err := rows.Close(); err != nil {
		return fmt.Errorf("find minutes with new rows: %w", err)
	}
	for _, d := range days {
		if err := r.clockDay(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (r *Roller) clockDay(ctx context.Context, d dirtyDay) error {
	const layout = "2006-01-02 15:04:05.000000000"
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{
		"minutes": arrayParam(d.minutes), "has_offset": fmt.Sprint(uint8(event.FieldClockOffset)),
		// Whole minutes, whatever rows of them are new.
		"first": d.first.UTC().Truncate(time.Minute).Format(layout),
		"last":  d.last.UTC().Truncate(time.Minute).Add(time.Minute - time.Nanosecond).Format(layout),
	}))
	if err := r.client.conn.Exec(ctx, rollClockMinutes); err != nil {
		return fmt.Errorf("compute clocks of %s: %w", d.first.Format(time.DateOnly), err)
	}
	if err := r.client.conn.Exec(ctx, rollClockHours); err != nil {
		return fmt.Errorf("compute hours of clocks of %s: %w", d.first.Format(time.DateOnly), err)
	}
	return nil
}
