-- Why records were put into quarantine, per topic.
-- hours = 24: how far back
SELECT topic, reason, field, count() AS records, min(observed_at) AS first, max(observed_at) AS last, any(detail) AS example
FROM v_quarantine
WHERE stored_at >= now('UTC') - toIntervalHour({hours:UInt32})
GROUP BY topic, reason, field
ORDER BY records DESC, topic, reason, field
