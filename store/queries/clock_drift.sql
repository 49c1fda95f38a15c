-- How the clock of a host went, hour by hour.
-- host: the host
-- hours = 48: how far back
SELECT hour, topic, partition, round(offset_seconds, 3) AS offset, round(error_seconds, 3) AS error, round(drift_seconds_per_hour, 3) AS drift, round(change_seconds, 3) AS change, own_seconds, records
FROM v_clock_drift
WHERE host = {host:String} AND hour >= now() - toIntervalHour({hours:UInt32})
ORDER BY hour, topic, partition
