-- Hosts whose clock is off, by their latest estimate.
-- seconds = 1: smallest offset to show
SELECT network, host, argMax(offset_seconds, minute) AS offset, argMax(error_seconds, minute) AS error, argMax(anchored, minute) AS is_anchored, max(minute) AS as_of
FROM v_clock_offsets
GROUP BY network, host
HAVING abs(offset) >= {seconds:Float64}
ORDER BY abs(offset) DESC, network, host
