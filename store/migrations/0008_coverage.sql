-- What is held of what was sent: by the numbers that hosts give their events, and
-- by the offsets of Kafka.
CREATE TABLE {{create "coverage"}}
(
    network     LowCardinality(String) COMMENT 'Tenant of the platform',
    minute      DateTime('UTC') COMMENT 'Minute of the effective time',
    host        LowCardinality(String) COMMENT 'Instance that numbers its events',
    boot        LowCardinality(String) COMMENT 'Process of the host; each numbers its events from 1',
    service     LowCardinality(String) COMMENT 'Service that speaks',
    expected    UInt64 COMMENT 'Numbers given since the last number of an earlier minute, up to the highest of this one; what is missing was sent between since and last_at',
    seen        UInt64 COMMENT 'Different numbers that are stored in this minute; more than expected when some came after higher ones',
    unknown     UInt64 COMMENT 'Numbers before the first one that is held of a process which may have begun before anything was; not part of expected',
    first_seq   UInt64 COMMENT 'Lowest number of the minute; 0 when no event has one',
    last_seq    UInt64 COMMENT 'Highest number of the minute',
    top_seq     UInt64 COMMENT 'Highest number up to and with this minute',
    since       DateTime64(9, 'UTC') COMMENT 'Last numbered event of an earlier minute; 1970-01-01 when this is the first',
    first_at    DateTime64(9, 'UTC') COMMENT 'First event of the minute',
    last_at     DateTime64(9, 'UTC') COMMENT 'Last event of the minute',
    heartbeats  UInt64 COMMENT 'Heartbeats of the minute',
    stopped     Bool COMMENT 'True when the process said that it ends',
    computed_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = {{engine "ReplacingMergeTree(computed_at)"}}
PARTITION BY toYYYYMM(minute)
ORDER BY (network, minute, host, boot)
TTL {{ttl "computed_at"}}
SETTINGS ttl_only_drop_parts = 1, {{dedup}}
COMMENT 'Events that hosts numbered and that are held, per closed minute; a minute that got late rows is computed again. Read it with FINAL, or through v_coverage';

{{distributed "coverage" "cityHash64(network, host)"}}

CREATE TABLE {{create "offset_gaps"}}
(
    topic     LowCardinality(String) COMMENT 'Kafka topic',
    partition Int32 COMMENT 'Kafka partition',
    first     Int64 COMMENT 'First offset of the range',
    last      Int64 COMMENT 'Last offset of the range',
    reason    LowCardinality(String) COMMENT 'empty: the offsets hold no event (transaction markers, aborted and compacted records). lost: retention removed them before they were stored. unreadable: their batch is damaged or too large',
    noted_at  DateTime('UTC') DEFAULT now() COMMENT 'When it was written'
)
ENGINE = {{engine "ReplacingMergeTree(noted_at)"}}
ORDER BY (topic, partition, first, last, reason)
TTL {{ttl "noted_at"}}
SETTINGS {{dedup}}
COMMENT 'Ranges of offsets that were read and of which nothing is stored, with the reason. Ranges may overlap after a replay; v_continuity counts each offset once';

{{distributed "offset_gaps" "cityHash64(topic, partition)"}}

{{view "v_coverage"}} AS
SELECT
    network, service, host, boot, minute,
    multiIf(seen < expected, 'partial', unknown > 0, 'began_before', 'complete') AS state,
    expected, seen, toUInt64(expected - least(seen, expected)) AS missing,
    if(expected = 0, 100, round(100 * least(seen, expected) / expected, 3)) AS held_percent,
    unknown, since, last_at
FROM coverage FINAL
WHERE top_seq > 0
UNION ALL
SELECT
    network, last_service AS service, host, boot, toStartOfMinute(now('UTC')) AS minute,
    if(newest_boot = boot, 'silent', 'restarted') AS state,
    toUInt64(0) AS expected, toUInt64(0) AS seen, toUInt64(0) AS missing, 0. AS held_percent, toUInt64(0) AS unknown,
    heard AS since, heard AS last_at
FROM
(
    SELECT
        network, host, boot, max(last_at) AS heard, argMax(service, minute) AS last_service, max(stopped) AS has_stopped, sum(heartbeats) AS beats,
        argMax(boot, heard) OVER (PARTITION BY network, host) AS newest_boot
    FROM coverage FINAL
    WHERE minute >= now('UTC') - INTERVAL 1 DAY
    GROUP BY network, host, boot
)
WHERE NOT has_stopped AND (newest_boot != boot OR beats > 0 AND heard < now64(9, 'UTC') - INTERVAL 5 MINUTE)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What is held of the events that hosts numbered, per process and minute. state: complete, partial (missing were sent between since and last_at), began_before (its first numbers are older than anything held), silent (nothing for five minutes from a host that sends heartbeats and did not stop), restarted (its last numbers are unknown, because it did not say that it ends)';

{{view "v_continuity"}} AS
WITH
    pieces AS
    (
        SELECT topic, partition, intDiv(offset, 65536) AS piece, bitmapToArray(groupBitmapState(toUInt32(offset % 65536))) AS places
        FROM
        (
            SELECT toString(topic) AS topic, partition, offset FROM events
            UNION ALL
            SELECT toString(topic) AS topic, partition, offset FROM quarantine
        )
        GROUP BY topic, partition, piece
    ),
    ranges AS
    (
        SELECT topic, partition, piece * 65536 + run[1] AS low, piece * 65536 + run[-1] AS high, 'stored' AS reason
        FROM pieces
        ARRAY JOIN arraySplit((place, step) -> step != 1, places, arrayDifference(places)) AS run
        UNION ALL
        SELECT toString(topic) AS topic, partition, first AS low, last AS high, toString(reason) AS reason FROM offset_gaps FINAL
    ),
    reaches AS
    (
        SELECT
            topic, partition, low, high, reason, reason IN ('lost', 'unreadable') AS gone,
            max(high) OVER before AS reach,
            maxIf(high, NOT gone) OVER before AS reach_unlost,
            count() OVER before AS n,
            countIf(NOT gone) OVER before AS n_unlost
        FROM ranges
        WINDOW before AS (PARTITION BY topic, partition ORDER BY low, high ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ),
    holes AS
    (
        SELECT
            *, n > 0 AND low > reach + 1 AS is_hole, if(is_hole, low - reach - 1, 0) AS hole,
            if(NOT gone AND n_unlost > 0 AND low > reach_unlost + 1, low - reach_unlost - 1, 0) AS hole_unlost
        FROM reaches
    )
SELECT
    topic, partition, min(low) AS from_offset, max(high) AS to_offset,
    to_offset - from_offset + 1 AS offsets,
    sumIf(high - low + 1, reason = 'stored') AS stored,
    if(countIf(NOT gone) = 0, 0, maxIf(high, NOT gone) - minIf(low, NOT gone) + 1 - sum(hole_unlost)) - stored AS empty,
    offsets - missing - stored - empty AS lost,
    sum(hole) AS missing,
    arrayMap(r -> concat(toString(r.1), '-', toString(r.2), ' ', r.3), arraySort(arrayConcat(
        groupArrayIf(1000)((reach + 1, low - 1, 'missing'), is_hole),
        groupArrayIf(1000)((low, high, reason), gone)))) AS gaps
FROM holes
GROUP BY topic, partition
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Whether the offsets of each partition are held without a gap: offsets = stored + empty + lost + missing. empty held no event, lost was removed by retention before it was stored or could not be read, missing has no reason and is a fault; gaps lists lost and missing ranges with the reason, first and last offset included';

{{alter "findings" "ADD COLUMN IF NOT EXISTS coverage Nullable(Float32) COMMENT 'Share of the numbered events of its time that were seen, 0 to 1; NULL when nobody numbers them'"}}

{{view "v_findings"}} AS
SELECT
    findings.* EXCEPT (last, count),
    if(episodes.finding_id = '', findings.last, greatest(findings.last, episodes.last)) AS last,
    if(episodes.finding_id = '', findings.count, greatest(findings.count, episodes.count)) AS count,
    episodes.closed AS closed
FROM findings FINAL
LEFT JOIN episodes FINAL ON findings.id = episodes.finding_id
COMMENT 'Findings with the latest state of their episode';
