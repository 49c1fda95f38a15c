-- Views for people, one per question. Each reads FINAL, so copies never count.
{{view "v_events"}} AS
SELECT
    * EXCEPT (source_ip, client_ip, present),
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source_ip,
    if(client_ip = toIPv6('::'), '', replaceOne(toString(client_ip), '::ffff:', '')) AS client_ip,
    toBool(CAST(type, 'String') IN ('auth_token.denied', 'session.denied', 'request.unauthorized', 'mtls.handshake_failed')) AS refused
FROM events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Events, each once, addresses as text (empty when absent); refused tells whether something was denied';

{{view "v_unauthorized"}} AS
SELECT
    ts, network, type, cause, cause_confidence, status, code, endpoint, method, service, host, user_id, key_id, session_id, cert_id,
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source_ip,
    user_agent, reason, request_id, origin, topic, partition, offset, idx
FROM events FINAL
WHERE type IN ('auth_token.denied', 'session.denied', 'request.unauthorized', 'mtls.handshake_failed')
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What was refused, to whom, and why: one row per refused request';

{{view "v_failure_rate"}} AS
SELECT
    network,
    toStartOfInterval(minute, INTERVAL 15 MINUTE) AS bucket,
    if(startsWith(type, 'auth_token.'), 'mint', 'redeem') AS stage,
    service,
    host,
    sum(events) AS attempts,
    sumIf(events, type IN ('auth_token.denied', 'session.denied') AND cause != 'user_banned' AND NOT startsWith(cause, 'session_')) AS failed,
    round(100 * failed / attempts, 3) AS failed_percent
FROM auth_minutely FINAL
WHERE type IN ('auth_token.issued', 'auth_token.denied', 'session.created', 'session.denied')
GROUP BY network, bucket, stage, service, host
HAVING attempts > 0
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Failed share of token mints and redemptions per 15 minutes, service and host; banned users and ended sessions are no failures. About a minute behind';

{{view "v_server_keys"}} AS
SELECT
    network,
    key_id,
    argMax(state, (at, rank)) AS last_state,
    minIf(at, state = 'created') AS created_at,
    minIf(at, state = 'active') AS activated_at,
    minIf(at, state = 'retired') AS retired_at,
    minIf(at, state = 'revoked') AS revoked_at,
    groupUniqArray(told_by) AS told_by
FROM
(
    SELECT network, key_id, toString(state) AS state, at, toString(told_by) AS told_by, indexOf(['created', 'active', 'retired', 'revoked'], state) AS rank
    FROM server_keys FINAL
    UNION ALL
    SELECT
        network, key_id,
        transform(toString(type), ['server_key.created', 'server_key.activated', 'server_key.revoked'], ['created', 'active', 'revoked'], '') AS state,
        ts AS at, concat('events:', topic) AS told_by, indexOf(['created', 'active', 'retired', 'revoked'], state) AS rank
    FROM events FINAL
    WHERE type IN ('server_key.created', 'server_key.activated', 'server_key.revoked') AND key_id != ''
)
GROUP BY network, key_id
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Every server key that was told of, with its latest state and its dates; 1970-01-01 means not told';

{{view "v_key_age"}} AS
SELECT
    keys.network AS network,
    keys.key_id AS key_id,
    keys.last_state AS state,
    keys.created_at AS created_at,
    keys.activated_at AS activated_at,
    if(keys.created_at = toDateTime64(0, 9, 'UTC'), NULL, dateDiff('day', keys.created_at, now64(9, 'UTC'))) AS age_days,
    used.first_used AS first_used,
    used.last_used AS last_used,
    used.mints AS mints
FROM v_server_keys AS keys
LEFT JOIN
(
    SELECT network, key_id, min(hour) AS first_used, max(hour) AS last_used, sum(events) AS mints
    FROM auth_hourly FINAL
    WHERE type = 'auth_token.issued' AND key_id != ''
    GROUP BY network, key_id
) AS used ON keys.network = used.network AND keys.key_id = used.key_id
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'How old each server key is and when it was last used to mint (to the hour); age_days is NULL when its creation was not told';

{{view "v_certificates"}} AS
SELECT
    network,
    cert_id,
    argMax(state, (at, rank)) AS last_state,
    argMaxIf(cn, at, cn != '') AS common_name,
    argMaxIf(service, at, service != '') AS service_name,
    maxIf(not_before, not_before != toDateTime64(0, 9, 'UTC')) AS valid_from,
    maxIf(not_after, not_after != toDateTime64(0, 9, 'UTC')) AS valid_until,
    minIf(at, state = 'active') AS activated_at,
    maxIf(at, state = 'disabled') AS disabled_at,
    groupUniqArray(told_by) AS told_by
FROM
(
    SELECT network, cert_id, toString(state) AS state, at, toString(told_by) AS told_by, cn, not_before, not_after, toString(service) AS service,
        indexOf(['requested', 'issued', 'active', 'disabled'], state) AS rank
    FROM certificates FINAL
    UNION ALL
    SELECT
        network, cert_id,
        transform(toString(type), ['certificate.requested', 'certificate.issued', 'certificate.activated', 'certificate.disabled'], ['requested', 'issued', 'active', 'disabled'], '') AS state,
        ts AS at, concat('events:', topic) AS told_by, cert_cn AS cn, cert_not_before AS not_before, cert_not_after AS not_after, toString(service) AS service,
        indexOf(['requested', 'issued', 'active', 'disabled'], state) AS rank
    FROM events FINAL
    WHERE type IN ('certificate.requested', 'certificate.issued', 'certificate.activated', 'certificate.disabled') AND cert_id != ''
)
GROUP BY network, cert_id
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Every client certificate that was told of, with its latest state and its dates; 1970-01-01 means not told';

{{view "v_cert_lead"}} AS
SELECT
    network, cert_id, common_name, service_name, last_state AS state, valid_from, valid_until,
    if(valid_until = toDateTime64(0, 9, 'UTC'), NULL, dateDiff('day', now64(9, 'UTC'), valid_until)) AS lead_days
FROM v_certificates
WHERE last_state != 'disabled'
COMMENT 'Days until each certificate that is not disabled expires; NULL when its end was not told';

{{view "v_mtls_coverage"}} AS
SELECT
    network,
    toDate(hour) AS day,
    service,
    sum(events) AS mints,
    sum(with_cert) AS mints_with_cert,
    round(100 * mints_with_cert / mints, 3) AS covered_percent
FROM auth_hourly FINAL
WHERE type = 'auth_token.issued'
GROUP BY network, day, service
HAVING mints > 0
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Share of token mints that carried a client certificate, per day and service';

{{view "v_blast_radius"}} AS
SELECT
    network,
    key_id,
    countIf(type = 'auth_token.issued') AS mints,
    countIf(type = 'auth_token.denied') AS denied,
    uniqExactIf(user_id, user_id != '') AS users,
    uniqExactIf(token_id, token_id != '') AS tokens,
    uniqExactIf(host, host != '') AS hosts,
    uniqExactIf(source_ip, source_ip != toIPv6('::')) AS sources,
    min(ts) AS first_seen,
    max(ts) AS last_seen
FROM events FINAL
WHERE key_id != ''
GROUP BY network, key_id
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What each server key has touched: users, tokens, hosts and sources. For a window or one key use: keysentry query blast_radius';

{{view "v_entity_timeline"}} AS
SELECT
    entity.1 AS entity_field,
    entity.2 AS entity_value,
    ts, type, network, service, host, cause, status, endpoint, user_id, key_id, session_id, cert_id,
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source_ip,
    reason, topic, partition, offset, idx
FROM events FINAL
ARRAY JOIN arrayFilter(pair -> pair.2 NOT IN ('', '::'), [
    ('user_id', user_id), ('key_id', key_id), ('token_id', token_id), ('session_id', session_id), ('device_id', device_id),
    ('host', toString(host)), ('cert_id', cert_id), ('actor', actor), ('request_id', request_id),
    ('source_ip', replaceOne(toString(source_ip), '::ffff:', ''))]) AS entity
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Everything that names one user, key, token, session, device, host, certificate, administrator, request or address. Bound it by ts; keysentry query entity_timeline uses the indexes';

{{view "v_quarantine"}} AS
SELECT topic, partition, offset, idx, observed_at, reason, field, detail, excerpt, size, stored_at
FROM quarantine FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Records that are no events, with the reason';

{{view "v_findings"}} AS
SELECT
    findings.* EXCEPT (last, count),
    if(episodes.finding_id = '', findings.last, greatest(findings.last, episodes.last)) AS last,
    if(episodes.finding_id = '', findings.count, greatest(findings.count, episodes.count)) AS count,
    episodes.closed AS closed
FROM findings FINAL
LEFT JOIN episodes FINAL ON findings.id = episodes.finding_id
COMMENT 'Findings with the latest state of their episode';

{{view "v_incidents"}} AS
SELECT
    incident_id,
    minIf(time, op = 'open') AS opened_at,
    minIf(time, op = 'ack') AS acknowledged_at,
    max(time) AS changed_at,
    argMaxIf(op, n, op IN ('open', 'ack', 'mitigate', 'resolve', 'reopen', 'close')) AS last_op,
    uniqExactIf(finding_id, finding_id != '') AS findings,
    argMaxIf(person, n, person != '') AS last_person,
    argMaxIf(verdict, n, verdict != '') AS last_verdict
FROM incidents FINAL
WHERE refused = ''
GROUP BY incident_id
COMMENT 'Incidents with their last change; 1970-01-01 means it has not happened';

{{view "v_playbook_runs"}} AS
SELECT
    run_id,
    anyIf(playbook, kind = 'planned') AS playbook,
    anyIf(incident_id, kind = 'planned') AS incident_id,
    anyIf(network, kind = 'planned') AS network,
    min(time) AS planned_at,
    max(time) AS changed_at,
    argMaxIf(state, n, kind = 'state') AS last_state,
    countIf(kind = 'step' AND state = 'done') AS steps_done,
    argMaxIf(step_id, n, kind = 'step') AS last_step,
    argMaxIf(error, n, error != '') AS last_error
FROM playbook_steps FINAL
GROUP BY run_id
COMMENT 'Runs of playbooks with their last state';

{{view "v_coverage"}} AS
SELECT network, host, boot, toStartOfHour(observed_at) AS hour,
    toUInt64(max(seq) - min(seq) + 1) AS expected_events,
    uniqExact(seq) AS received_events,
    round(100 * received_events / expected_events, 3) AS received_percent
FROM events FINAL
WHERE seq > 0 AND boot != ''
GROUP BY network, host, boot, hour
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Share of the events that a host numbered in an hour that really came; what is missing at the ends of an hour cannot be seen here';

{{view "v_clock_offsets"}} AS
SELECT host, topic, partition, minute, offset_seconds, error_seconds, drift_seconds_per_hour, anchored, confident, samples
FROM clock_offsets FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Clock offset per host, partition and minute';

{{view "v_ingest"}} AS
SELECT
    topic,
    partition,
    sum(is_event) AS events,
    sum(is_reject) AS quarantined,
    uniqExact(offset, idx) AS distinct_records,
    min(offset) AS first_offset,
    max(offset) AS last_offset,
    max(observed_at) AS last_observed_at,
    max(stored_at) AS last_stored_at
FROM
(
    SELECT topic, partition, offset, idx, observed_at, stored_at, 1 AS is_event, 0 AS is_reject FROM events FINAL
    UNION ALL
    SELECT topic, partition, offset, idx, observed_at, stored_at, 0 AS is_event, 1 AS is_reject FROM quarantine FINAL
)
GROUP BY topic, partition
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What was stored per partition of Kafka; events + quarantined = distinct_records when nothing is stored twice';
