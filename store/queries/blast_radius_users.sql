-- The users that one server key was used for from outside the inventory since its first hostile event, with their sessions.
-- since = : from when; default: the first event of the findings about the key
-- hours = 24: how far back when there is no such finding
-- key_id: fingerprint of the key
-- rows = 10000: how many users at most
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
    network, user_id, count() AS mints, uniqExactIf(minted.token_id, minted.token_id != '') AS tokens,
    arraySlice(arraySort(arrayDistinct(arrayFlatten(groupArray(sessions.ids)))), 1, 20) AS session_ids,
    sum(sessions.n) AS sessions_opened,
    arraySlice(arraySort(groupUniqArray(replaceOne(toString(minted.source_ip), '::ffff:', ''))), 1, 20) AS sources,
    min(minted.ts) AS first, max(minted.ts) AS last
FROM minted
LEFT JOIN (SELECT network, token_id, groupUniqArray(session_id) AS ids, uniqExact(session_id) AS n FROM opened GROUP BY network, token_id) AS sessions
    ON minted.network = sessions.network AND minted.token_id = sessions.token_id
WHERE outside
GROUP BY network, user_id
ORDER BY sessions_opened DESC, mints DESC, network, user_id
LIMIT {rows:UInt32}
