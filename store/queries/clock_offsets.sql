-- Hosts whose clock is off, by their latest estimate, and in how many hours it reaches the leeway.
-- seconds = 1: smallest offset to show
-- leeway = 60: seconds that the platform tolerates in a token (detect.token_leeway)
SELECT host, argMax(offset_seconds, (anchored, minute)) AS offset, argMax(error_seconds, (anchored, minute)) AS error,
    argMax(drift_seconds_per_hour, (anchored, minute)) AS drift, argMax(reading, (anchored, minute)) AS clock, max(confident) AS is_confident, max(anchored) AS is_anchored,
    multiIf(clock = 'slow_or_delayed', NULL, abs(offset) >= {leeway:Float64}, 0, offset * drift <= 0 OR abs(drift) < 0.05, NULL, round(({leeway:Float64} - abs(offset)) / abs(drift), 1)) AS hours_to_leeway,
    max(minute) AS as_of
FROM v_clock_offsets
WHERE minute >= now() - INTERVAL 1 HOUR
GROUP BY host
HAVING abs(offset) >= {seconds:Float64}
ORDER BY abs(offset) DESC, host
