-- What one server key touched in a window, and the sessions that came of it.
-- key_id: fingerprint of the key
-- hours = 24: how far back
WITH minted AS
(
    SELECT network, host, user_id, token_id, source_ip, ts
    FROM events FINAL
    WHERE key_id = {key_id:String} AND type = 'auth_token.issued' AND ts >= now64(9, 'UTC') - toIntervalHour({hours:UInt32})
)
SELECT
    network, host, replaceOne(toString(source_ip), '::ffff:', '') AS source,
    count() AS mints, uniqExact(user_id) AS users,
    uniqExactIf(token_id, token_id != '' AND token_id IN
    (
        SELECT token_id FROM events FINAL
        WHERE type = 'session.created' AND ts >= now64(9, 'UTC') - toIntervalHour({hours:UInt32})
    )) AS tokens_redeemed,
    min(ts) AS first, max(ts) AS last
FROM minted
GROUP BY network, host, source_ip
ORDER BY mints DESC, network, host, source
LIMIT 1000
