-- What was done with one server key from outside the inventory since its first hostile event, in order of time.
-- since = : from when; default: the first event of the findings about the key
-- hours = 24: how far back when there is no such finding
-- key_id: fingerprint of the key
-- rows = 1000: how many rows at most
WITH
    (
        SELECT coalesce(parseDateTime64BestEffortOrNull({since:String}, 9, 'UTC'), nullIf(min(first), toDateTime64(0, 9, 'UTC')), now64(9, 'UTC') - toIntervalHour({hours:UInt32}))
        FROM findings FINAL
        WHERE subject_field = 'key_id' AND subject_value = {key_id:String} AND kind IN ('key_compromise', 'secret_leak') AND NOT shadow
    ) AS hostile_from,
    ours AS
    (
        SELECT network, host, source_ip
        FROM events FINAL
        WHERE type = 'auth_token.issued' AND ts < hostile_from AND ts >= hostile_from - toIntervalDay(30)
            AND network IN (SELECT DISTINCT network FROM events WHERE key_id = {key_id:String})
        GROUP BY network, host, source_ip
        HAVING max(ts) - min(ts) >= 86400
    ),
    minted AS
    (
        SELECT network, host, source_ip, user_id, token_id, client_ip, ts, topic, partition, offset, idx,
            (network, host, source_ip) NOT IN (SELECT network, host, source_ip FROM ours) AS outside
        FROM events FINAL
        WHERE key_id = {key_id:String} AND type = 'auth_token.issued' AND ts >= hostile_from
    ),
    opened AS
    (
        SELECT network, token_id, session_id, user_id, host, source_ip, ts, topic, partition, offset, idx
        FROM events FINAL
        WHERE type = 'session.created' AND ts >= hostile_from AND token_id != '' AND token_id IN (SELECT token_id FROM minted)
    )
SELECT ts, what, network, host, source, user_id, token_id, session_id, topic, partition, offset, idx
FROM
(
    SELECT ts, 'token minted' AS what, network, host, replaceOne(toString(source_ip), '::ffff:', '') AS source, user_id, token_id, '' AS session_id, topic, partition, offset, idx
    FROM minted WHERE outside
    UNION ALL
    SELECT ts, 'session opened' AS what, network, host, replaceOne(toString(source_ip), '::ffff:', '') AS source, user_id, token_id, session_id, topic, partition, offset, idx
    FROM opened WHERE token_id IN (SELECT token_id FROM minted WHERE outside)
    UNION ALL
    SELECT first AS ts, concat('finding: ', rule_title) AS what, network, '' AS host, '' AS source, '' AS user_id, '' AS token_id, '' AS session_id, '' AS topic, toInt32(0) AS partition, toInt64(0) AS offset, toInt32(0) AS idx
    FROM findings FINAL
    WHERE subject_field = 'key_id' AND subject_value = {key_id:String} AND first >= hostile_from AND NOT shadow
)
ORDER BY ts, what, topic, partition, offset, idx
LIMIT {rows:UInt32}
