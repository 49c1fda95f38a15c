-- Hosts whose clock is off, by their latest estimate.
-- seconds = 1: smallest offset to show
SELECT host, argMax(offset_seconds, (anchored, minute)) AS offset, argMax(error_seconds, (anchored, minute)) AS error,
    argMax(drift_seconds_per_hour, (anchored, minute)) AS drift, max(anchored) AS is_anchored, max(minute) AS as_of
FROM v_clock_offsets
WHERE minute >= now() - INTERVAL 1 HOUR
GROUP BY host
HAVING abs(offset) >= {seconds:Float64}
ORDER BY abs(offset) DESC, host
