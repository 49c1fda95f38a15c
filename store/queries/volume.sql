-- Events per hour, network and type.
-- hours = 24: how far back
SELECT hour, network, type, sum(events) AS events
FROM auth_hourly FINAL
WHERE hour >= now('UTC') - toIntervalHour({hours:UInt32})
GROUP BY hour, network, type
ORDER BY hour, network, type
