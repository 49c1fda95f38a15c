-- What fired lately.
-- hours = 24: how far back
SELECT fired, severity, kind, rule_title, network, subject_field, subject_value, count, cause, summary, id
FROM v_findings
WHERE fired >= now64(9, 'UTC') - toIntervalHour({hours:UInt32})
ORDER BY fired DESC, id
LIMIT 1000
