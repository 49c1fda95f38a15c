package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Roller keeps coverage, auth_minutely, auth_hourly and the clock tables true: it recomputes every closed
// minute that got rows since the last run, from events FINAL, and the hours
// that those minutes belong to. It also copies lifecycle events into the
// registries server_keys and certificates, which outlive them. Every statement
// may repeat without harm. Times are the server's.
type Roller struct {
	cfg     RollupConfig
	client  *Client
	minutes prometheus.Counter
	seconds prometheus.Histogram
	failed  prometheus.Counter
}

// NewRoller prepares a roller on c's server.
func NewRoller(c *Client) *Roller {
	return &Roller{
		cfg:     c.cfg.Rollup,
		client:  c,
		minutes: c.met.Counter("store", "rollup_minutes_total", "Minutes that were computed or computed again."),
		seconds: c.met.Seconds("store", "rollup_seconds", "Time of one round of rollups."),
		failed:  c.met.Counter("store", "rollup_failures_total", "Rounds of rollups that failed; the next one makes up for them."),
	}
}

// Run rolls up every cfg.Every until ctx ends. A failed round is logged,
// counted and made up for by the next.
func (r *Roller) Run(ctx context.Context) error {
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	for {
		if _, err := r.Once(ctx); err != nil && ctx.Err() == nil {
			r.failed.Inc()
			r.client.log.Warn("rollups not updated, the next round makes up for it", "part", "store.roller", "error", explain(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// overlap is how far a round looks back behind the begin of the last complete
// one: rows of minutes that were not closed then, and inserts that were slow to
// appear.
const overlap = 10 * time.Minute

// Once does one round and says how many minutes it computed.
func (r *Roller) Once(ctx context.Context) (minutes int, err error) {
	start := time.Now()
	var errs []error
	if err := r.registries(ctx); err != nil {
		errs = append(errs, err)
	}
	began, since, err := r.round(ctx)
	if err != nil {
		return 0, errors.Join(append(errs, err)...)
	}
	days, err := r.dirty(ctx, since)
	if err != nil {
		return 0, errors.Join(append(errs, err)...)
	}
	for _, d := range days {
		if err := r.day(ctx, d); err != nil {
			return minutes, errors.Join(append(errs, err)...)
		}
		minutes += len(d.minutes)
		r.minutes.Add(float64(len(d.minutes)))
	}
	if err := r.clocks(ctx, since); err != nil {
		return minutes, errors.Join(append(errs, err)...)
	}
	// Last of all: had the round ended before, the next has to look as far back.
	if err := r.client.conn.Exec(ctx, "INSERT INTO rollup_rounds (work, began) VALUES ('rollups', fromUnixTimestamp64Milli(?, 'UTC'))", began.UnixMilli()); err != nil {
		return minutes, errors.Join(append(errs, fmt.Errorf("note the round: %w", err))...)
	}
	r.seconds.Observe(time.Since(start).Seconds())
	return minutes, errors.Join(errs...)
}

// round says when this round begins, by the server's clock, and since when rows
// are not certain to be in the rollups: all of them before the first round.
func (r *Roller) round(ctx context.Context) (began, since time.Time, err error) {
	err = r.client.conn.QueryRow(ctx, "SELECT now64(3, 'UTC'), max(began) FROM rollup_rounds WHERE work = 'rollups'").Scan(&began, &since)
	if err != nil {
		return began, since, fmt.Errorf("read when the last round of rollups was: %w", err)
	}
	if since.Unix() > 0 {
		since = since.Add(-overlap)
	}
	return began, since, nil
}

// dirtyDay is the closed minutes of one day that got rows.
type dirtyDay struct {
	first, last time.Time // observed_at of the rows that can belong to them
	minutes     []uint32  // seconds since 1970
}

// dirty lists the minutes to compute: those of rows stored since then.
func (r *Roller) dirty(ctx context.Context, since time.Time) ([]dirtyDay, error) {
	rows, err := r.client.conn.Query(ctx, `
		SELECT min(observed_at), max(observed_at), groupUniqArray(toUnixTimestamp(toStartOfMinute(ts)))
		FROM events
		WHERE stored_at >= ? AND ts < toStartOfMinute(now64(9, 'UTC') - toIntervalMillisecond(?))
		GROUP BY toDate(ts) ORDER BY toDate(ts)`, since, r.cfg.Lag.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("find minutes with new rows: %w", err)
	}
	defer rows.Close()
	var out []dirtyDay
	for rows.Next() {
		var d dirtyDay
		if err := rows.Scan(&d.first, &d.last, &d.minutes); err != nil {
			return nil, fmt.Errorf("find minutes with new rows: %w", err)
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// A group that a minute had and has no more (its only row was replaced by one
// with another cause) gets a row of zeros, since rows of a rollup are replaced
// and never removed.
const rollMinutes = `
INSERT INTO auth_minutely (minute, network, type, origin, service, host, key_id, cause, events, with_cert)
SELECT minute, network, type, origin, service, host, key_id, cause, sum(n), sum(certs) FROM
(
    SELECT toStartOfMinute(ts) AS minute, network, type, origin, service, host, key_id, cause, count() AS n, countIf(cert_id != '') AS certs
    FROM events FINAL
    WHERE toUnixTimestamp(toStartOfMinute(ts)) IN ({minutes:Array(UInt32)})
        AND observed_at BETWEEN {first:DateTime64(9, 'UTC')} AND {last:DateTime64(9, 'UTC')}
    GROUP BY ALL
    UNION ALL
    SELECT minute, network, type, origin, service, host, key_id, cause, 0 AS n, 0 AS certs
    FROM auth_minutely FINAL
    WHERE toUnixTimestamp(minute) IN ({minutes:Array(UInt32)})
)
GROUP BY ALL`

const rollHours = `
INSERT INTO auth_hourly (hour, network, type, origin, service, host, key_id, cause, events, with_cert)
SELECT toStartOfHour(minute) AS hour, network, type, origin, service, host, key_id, cause, sum(events), sum(with_cert)
FROM auth_minutely FINAL
WHERE toUnixTimestamp(toStartOfHour(minute)) IN (SELECT arrayJoin(arrayDistinct(arrayMap(m -> intDiv(m, 3600) * 3600, {minutes:Array(UInt32)}))))
GROUP BY ALL`

// lateness bounds how far ts may lie from observed_at: DESIGN clamps it there
// for live topics, and for others the two are equal.
const lateness = 24*time.Hour + time.Minute

func (r *Roller) day(ctx context.Context, d dirtyDay) error {
	first, last := d.first, d.last
	if t := time.Unix(int64(slices.Min(d.minutes)), 0).Add(-time.Minute); t.Before(first) {
		first = t
	}
	if t := time.Unix(int64(slices.Max(d.minutes)), 0).Add(lateness); t.After(last) {
		last = t
	}
	params := clickhouse.Parameters{
		"minutes": arrayParam(d.minutes),
		"first":   first.UTC().Format("2006-01-02 15:04:05.000000000"),
		"last":    last.UTC().Format("2006-01-02 15:04:05.000000000"),
	}
	if err := r.coverage(ctx, d, maps.Clone(params)); err != nil {
		return err
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(params))
	if err := r.client.conn.Exec(ctx, rollMinutes); err != nil {
		return fmt.Errorf("compute minutes of %s: %w", d.first.Format(time.DateOnly), err)
	}
	if err := r.client.conn.Exec(ctx, rollHours); err != nil {
		return fmt.Errorf("compute hours of %s: %w", d.first.Format(time.DateOnly), err)
	}
	return nil
}

// registries copies what lifecycle events tell into the tables that have no
// retention. Rows that are there already fold away.
func (r *Roller) registries(ctx context.Context) error {
	var errs []error
	for _, s := range []string{keepServerKeys, keepCertificates} {
		if err := r.client.conn.Exec(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("keep lifecycle facts: %w", err))
		}
	}
	return errors.Join(errs...)
}

const keepServerKeys = `
INSERT INTO server_keys (network, key_id, state, at, told_by, actor)
SELECT network, key_id, transform(toString(type), ['server_key.created', 'server_key.activated', 'server_key.revoked'], ['created', 'active', 'revoked'], '') AS state,
    ts, concat('events:', topic) AS told_by, actor
FROM events FINAL
WHERE type IN ('server_key.created', 'server_key.activated', 'server_key.revoked') AND key_id != ''
    AND (network, key_id, state, ts, told_by) NOT IN (SELECT network, key_id, state, at, told_by FROM server_keys)`

const keepCertificates = `
INSERT INTO certificates (network, cert_id, state, at, told_by, cn, not_before, not_after, service)
SELECT network, cert_id, transform(toString(type), ['certificate.requested', 'certificate.issued', 'certificate.activated', 'certificate.disabled'], ['requested', 'issued', 'active', 'disabled'], '') AS state,
    ts, concat('events:', topic) AS told_by, cert_cn, cert_not_before, cert_not_after, service
FROM events FINAL
WHERE type IN ('certificate.requested', 'certificate.issued', 'certificate.activated', 'certificate.disabled') AND cert_id != ''
    AND (network, cert_id, state, ts, told_by) NOT IN (SELECT network, cert_id, state, at, told_by FROM certificates)`
