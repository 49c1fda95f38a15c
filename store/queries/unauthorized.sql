-- What was refused lately, by cause, network and host.
-- hours = 24: how far back
SELECT cause, network, service, host, count() AS refused, uniqExact(user_id) AS users, uniqExact(source_ip) AS sources, min(ts) AS first, max(ts) AS last
FROM v_unauthorized
WHERE ts >= now64(9, 'UTC') - toIntervalHour({hours:UInt32})
GROUP BY cause, network, service, host
ORDER BY refused DESC, cause, network, service, host
LIMIT 1000
