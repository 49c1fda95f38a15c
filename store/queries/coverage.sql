-- What is held of what was sent: offsets per partition, then numbered events per network and host, the incomplete first.
-- hours = 24: how far back hosts are looked at; partitions are looked at whole
SELECT what, name, from_at, to_at, expected, held, expected - held AS not_held, state, detail
FROM
(
    SELECT
        1 AS part, 'partition' AS what, concat(topic, '/', toString(partition)) AS name, toString(from_offset) AS from_at, toString(to_offset) AS to_at,
        offsets - empty AS expected, stored AS held,
        multiIf(missing > 0, 'missing', lost > 0, 'lost', 'complete') AS state,
        concat(arrayStringConcat(arraySlice(gaps, 1, 5), ', '), if(length(gaps) > 5, concat(' and ', toString(length(gaps) - 5), ' more'), '')) AS detail
    FROM v_continuity
    UNION ALL
    SELECT
        2 AS part, 'host' AS what, concat(network, '/', host) AS name, toString(min(from_minute)) AS from_at, toString(toDateTime(max(to_time), 'UTC')) AS to_at,
        toInt64(sum(line_expected)) AS expected, toInt64(sum(line_held)) AS held,
        multiIf(held < expected, 'partial', has(flatten(groupArray(states)), 'silent'), 'silent', has(flatten(groupArray(states)), 'restarted'), 'restarted', sum(line_unknown) > 0, 'began_before', 'complete') AS state,
        concat(toString(count()), if(count() = 1, ' process', ' processes'), if(sum(line_unknown) > 0, concat(', ', toString(sum(line_unknown)), ' events before anything was held'), ''),
            if(has(flatten(groupArray(states)), 'restarted'), ', ended without saying so', '')) AS detail
    FROM
    (
        SELECT network, host, boot, min(v.minute) AS from_minute, max(v.last_at) AS to_time, sum(expected) AS line_expected, least(sum(seen), sum(expected)) AS line_held,
            sum(unknown) AS line_unknown, groupUniqArray(state) AS states
        FROM v_coverage AS v
        WHERE v.minute >= now('UTC') - toIntervalHour({hours:UInt32})
        GROUP BY network, host, boot
    )
    GROUP BY network, host
)
ORDER BY part, state = 'complete', not_held DESC, name
