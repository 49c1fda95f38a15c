-- What one server key touched since its first hostile event: by host and source, and whether those are ours.
-- since = : from when; default: the first event of the findings about the key
-- hours = 24: how far back when there is no such finding
-- key_id: fingerprint of the key
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
SELECT
    network, host, replaceOne(toString(source_ip), '::ffff:', '') AS source, max(outside) AS outside_the_inventory,
    count() AS mints, uniqExact(user_id) AS users, uniqExactIf(token_id, token_id != '') AS tokens,
    uniqExactIf(token_id, token_id IN (SELECT token_id FROM opened)) AS tokens_redeemed,
    min(ts) AS first, max(ts) AS last, any(hostile_from) AS since_when
FROM minted
GROUP BY network, host, source_ip
ORDER BY outside_the_inventory DESC, mints DESC, network, host, source
LIMIT 1000
