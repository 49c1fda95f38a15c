-- Failed share of token mints and redemptions, per 15 minutes and network.
-- hours = 24: how far back
SELECT bucket, network, stage, sum(attempts) AS attempts, sum(failed) AS failed, round(100 * sum(v.failed) / sum(v.attempts), 3) AS failed_percent
FROM v_failure_rate AS v
WHERE bucket >= now('UTC') - toIntervalHour({hours:UInt32})
GROUP BY bucket, network, stage
ORDER BY bucket, network, stage
