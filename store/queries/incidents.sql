-- Incidents and where they stand.
-- days = 30: how far back
SELECT * FROM v_incidents WHERE changed_at >= now64(9, 'UTC') - toIntervalDay({days:UInt32}) ORDER BY changed_at DESC, incident_id
