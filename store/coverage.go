package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
)

// The table coverage holds, per process of a host and minute, how many of the
// numbers that the process gave its events are stored. With top(m) the highest
// number in minute m or before it, minute m is expected to hold top(m) - top(m-1)
// numbers. A number that is missing therefore counts in the minute of the next
// one that came, and one that comes behind a higher one makes seen larger than
// expected in its own minute: over any range, expected less seen is what is
// missing. Only the highest number before a range is needed to compute it.

// linesOf lists the processes that have rows in the minutes, and tells whether
// what is known of one of them may lie further back than the hour before: it has
// no row there, or it has its first number now.
const linesOf = `
SELECT groupArray(line), max(line GLOBAL NOT IN (
    SELECT cityHash64(toString(network), toString(host), toString(boot)) FROM coverage
    WHERE minute >= {begin:DateTime('UTC')} - INTERVAL 1 HOUR AND minute < {begin:DateTime('UTC')})
    OR numbered AND line GLOBAL NOT IN (
    SELECT cityHash64(toString(network), toString(host), toString(boot)) FROM coverage
    WHERE minute >= {begin:DateTime('UTC')} - INTERVAL 1 HOUR AND minute < {begin:DateTime('UTC')} AND top_seq > 0))
FROM
(
    SELECT cityHash64(toString(network), toString(host), toString(boot)) AS line, max(seq) > 0 AS numbered
    FROM events
    WHERE toUnixTimestamp(toStartOfMinute(ts)) IN ({minutes:Array(UInt32)})
        AND observed_at BETWEEN {first:DateTime64(9, 'UTC')} AND {last:DateTime64(9, 'UTC')} AND host != '' AND boot != ''
    GROUP BY line
)`

// rollCoverage computes the minutes of the processes from their events, and what
// follows from them in later minutes from the table itself. Rows that would not
// change are not written.
//
// Of each process and minute it takes what the events say (2), else what the table
// says (1); one row before all (0) holds what earlier minutes say. known_from is
// when the first row of the network was: only a process that is new asks for it,
// and then everything before is read.
const rollCoverage = `
INSERT INTO coverage (network, minute, host, boot, service, expected, seen, unknown, first_seq, last_seq, top_seq, since, first_at, last_at, heartbeats, stopped)
SELECT network, minute, host, boot, service, now_is.1, seen, now_is.2, first_seq, last_seq, now_is.3, now_is.4, first_at, last_at, heartbeats, stopped
FROM
(
    SELECT
        *,
        multiIf(last_seq = 0, toUInt64(0), prior = 0 AND known_from > minute - INTERVAL 10 MINUTE, first_seq - 1, prior) AS base,
        (
            toUInt64(if(last_seq > base, last_seq - base, 0)),
            toUInt64(if(prior = 0 AND base > 0, base, 0)),
            greatest(prior, last_seq),
            before_at
        ) AS now_is,
        cityHash64(seen, first_seq, last_seq, first_at, last_at, heartbeats, stopped, now_is.1, now_is.2, now_is.3, now_is.4) AS is
    FROM
    (
        SELECT
            *,
            max(last_seq) OVER before AS prior,
            maxIf(last_at, last_seq > 0) OVER before AS before_at,
            min(known) OVER (PARTITION BY network) AS known_from
        FROM
        (
            SELECT
                network, host, boot, minute, max(part.1) AS origin,
                argMax(part, part.1) AS newest,
                newest.2 AS service, newest.3 AS seen, newest.4 AS first_seq, newest.5 AS last_seq, newest.6 AS first_at, newest.7 AS last_at,
                newest.8 AS heartbeats, newest.9 AS stopped,
                min(known) AS known,
                max(was) AS was
            FROM
            (
                SELECT
                    toString(network) AS network, toString(host) AS host, toString(boot) AS boot, toStartOfMinute(ts) AS minute,
                    (2, toString(any(events.service)), uniqExactIf(seq, seq > 0), minIf(seq, seq > 0), max(seq), min(ts), max(ts),
                        countIf(type = 'heartbeat'), toBool(countIf(type = 'host.stopped') > 0)) AS part,
                    minute AS known, toUInt64(0) AS was
                FROM events FINAL
                WHERE toUnixTimestamp(toStartOfMinute(ts)) IN ({minutes:Array(UInt32)})
                    AND observed_at BETWEEN {first:DateTime64(9, 'UTC')} AND {last:DateTime64(9, 'UTC')} AND host != '' AND boot != ''
                GROUP BY network, host, boot, minute
                UNION ALL
                SELECT
                    toString(network) AS network, toString(host) AS host, toString(boot) AS boot, minute,
                    (1, toString(service), seen, first_seq, last_seq, first_at, last_at, heartbeats, stopped) AS part,
                    minute AS known,
                    cityHash64(seen, first_seq, last_seq, first_at, last_at, heartbeats, stopped, expected, unknown, top_seq, since) AS was
                FROM coverage FINAL
                WHERE minute >= {begin:DateTime('UTC')} AND cityHash64(toString(network), toString(host), toString(boot)) IN ({lines:Array(UInt64)})
                UNION ALL
                SELECT
                    toString(network) AS network, toString(host) AS host, toString(boot) AS boot, max(coverage.minute) AS minute,
                    (0, '', toUInt64(0), toUInt64(0), max(top_seq), min(coverage.first_at), max(if(coverage.last_seq > 0, coverage.last_at, coverage.since)), toUInt64(0), false) AS part,
                    min(coverage.minute) AS known, toUInt64(0) AS was
                FROM coverage FINAL
                WHERE coverage.minute >= {back:DateTime('UTC')} AND coverage.minute < {begin:DateTime('UTC')}
                GROUP BY network, host, boot
            )
            GROUP BY network, host, boot, minute
        )
        WINDOW before AS (PARTITION BY network, host, boot ORDER BY minute ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
)
WHERE origin > 0 AND is != was
SETTINGS do_not_merge_across_partitions_select_final = 1`

// coverage computes the coverage of the minutes of one day; it needs the
// parameters of their rows.
func (r *Roller) coverage(ctx context.Context, d dirtyDay, params clickhouse.Parameters) error {
	begin := time.Unix(int64(slices.Min(d.minutes)), 0).UTC()
	params["begin"] = begin.Format(time.DateTime)
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(params))
	var lines []uint64
	var strangers bool
	if err := r.client.conn.QueryRow(ctx, linesOf).Scan(&lines, &strangers); err != nil {
		return fmt.Errorf("find the hosts that numbered events: %w", err)
	}
	if len(lines) == 0 {
		return nil
	}
	back := begin.Add(-time.Hour)
	if strangers { // their last number, if there is one, lies anywhere
		back = time.Unix(0, 0).UTC()
	}
	params["back"] = back.Format(time.DateTime)
	params["lines"] = arrayParam(lines)
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(params))
	if err := r.client.conn.Exec(ctx, rollCoverage); err != nil {
		return fmt.Errorf("compute coverage of %s: %w", begin.Format(time.DateOnly), err)
	}
	return nil
}

// NetworkCoverage is what is stored of the events that the hosts of a network
// numbered.
type NetworkCoverage struct {
	Network        string
	Expected, Held uint64
	// Silent hosts sent heartbeats, did not stop, and are not heard of any more.
	Silent []string
}

// Coverage is what is stored of what was sent since a moment: numbered events per
// network, and the ranges of offsets that were lost or could not be read and that
// were found out since, as text, at most 100.
func (c *Client) Coverage(ctx context.Context, since time.Time) (networks []NetworkCoverage, lost []string, err error) {
	rows, err := c.conn.Query(ctx, `
		SELECT network, sum(line_expected), sum(line_held), arraySort(groupUniqArrayIf(host, is_silent)) FROM
		(
			SELECT toString(network) AS network, toString(host) AS host, sum(expected) AS line_expected, least(sum(seen), sum(expected)) AS line_held, max(state = 'silent') AS is_silent
			FROM v_coverage WHERE minute >= ? GROUP BY network, host, boot
		)
		GROUP BY network ORDER BY network`, since.UTC())
	if err != nil {
		return nil, nil, fmt.Errorf("read coverage: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var n NetworkCoverage
		if err := rows.Scan(&n.Network, &n.Expected, &n.Held, &n.Silent); err != nil {
			return nil, nil, fmt.Errorf("read coverage: %w", err)
		}
		networks = append(networks, n)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("read coverage: %w", err)
	}
	err = c.conn.QueryRow(ctx, `
		SELECT groupArray(text) FROM
		(
			SELECT concat(topic, '/', toString(partition), ' ', toString(first), '-', toString(last), ' ', reason) AS text
			FROM offset_gaps FINAL WHERE reason != 'empty' AND noted_at >= ? ORDER BY topic, partition, first LIMIT 100
		)`, since.UTC()).Scan(&lost)
	if err != nil {
		return nil, nil, fmt.Errorf("read lost offsets: %w", explain(err))
	}
	return networks, lost, nil
}
