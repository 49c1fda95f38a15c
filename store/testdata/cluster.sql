CREATE TABLE IF NOT EXISTS events_local ON CLUSTER 'main'
(
    ts               DateTime64(9, 'UTC') COMMENT 'Effective time, which detection windows run on: the host''s time minus its estimated clock offset, clamped around observed_at' CODEC(Delta, LZ4),
    observed_at      DateTime64(9, 'UTC') COMMENT 'Append time of the broker; the producer''s time on topics marked observed: producer' CODEC(Delta, LZ4),
    time             DateTime64(9, 'UTC') COMMENT 'When it happened, by the clock of the host that reports it' CODEC(Delta, LZ4),
    sent_at          DateTime64(9, 'UTC') COMMENT 'When the host handed it to Kafka, by its own clock; 1970-01-01 when absent' CODEC(Delta, LZ4),
    type             LowCardinality(String) COMMENT 'What happened, for example auth_token.issued',
    origin           LowCardinality(String) COMMENT 'Who saw it: platform, gateway, backend, client, console or keysentry; set by the configuration of the topic',
    network          LowCardinality(String) COMMENT 'Tenant of the platform',
    region           LowCardinality(String) COMMENT 'Region of the platform',
    service          LowCardinality(String) COMMENT 'Service that speaks',
    host             LowCardinality(String) COMMENT 'Instance of the service',
    release          LowCardinality(String) COMMENT 'Version of the service''s code',
    boot             LowCardinality(String) COMMENT 'Random identity of one process start on the host',
    seq              UInt64 COMMENT 'Running number per host and boot; gaps measure coverage' CODEC(T64, LZ4),
    auth_mode        LowCardinality(String) COMMENT 'unsecure, secure or secure_mtls',
    user_id          String COMMENT 'User that the token is for',
    actor            String COMMENT 'Administrator who acted',
    actor_role       LowCardinality(String) COMMENT 'Role in which the administrator acted',
    key_id           String COMMENT 'Keyed fingerprint of the server key; never the key',
    token_id         String COMMENT 'Keyed fingerprint of the token',
    session_id       String COMMENT 'Keyed fingerprint of the session',
    device_id        String COMMENT 'Keyed fingerprint of the device',
    issued_at        DateTime64(9, 'UTC') COMMENT 'When the token was issued; 1970-01-01 when absent' CODEC(Delta, LZ4),
    expires_at       DateTime64(9, 'UTC') COMMENT 'When the token expires; 1970-01-01 when absent' CODEC(Delta, LZ4),
    endpoint         String COMMENT 'Path that was called, without its query',
    method           String COMMENT 'HTTP method',
    status           UInt16 COMMENT 'HTTP status of the answer; 0 when absent',
    code             LowCardinality(String) COMMENT 'The platform''s own error code',
    reason           String COMMENT 'Text that came with the answer',
    cause            LowCardinality(String) COMMENT 'Why the request was refused, decided by detection; empty for events that are no refusal',
    cause_confidence Float32 COMMENT 'Confidence of cause, 0 to 1',
    rediagnosed      Bool COMMENT 'True when cause was decided again on a re-read, without the state of the live decision',
    redacted         Bool COMMENT 'True when a field held something secret and was masked',
    cert_id          String COMMENT 'Fingerprint of the client certificate',
    cert_cn          String COMMENT 'Common name of the client certificate',
    cert_not_before  DateTime64(9, 'UTC') COMMENT 'Certificate valid from; 1970-01-01 when absent' CODEC(Delta, LZ4),
    cert_not_after   DateTime64(9, 'UTC') COMMENT 'Certificate valid until; 1970-01-01 when absent' CODEC(Delta, LZ4),
    tls_alert        LowCardinality(String) COMMENT 'TLS alert of a failed handshake',
    source_ip        IPv6 COMMENT 'Caller as the observer saw it; IPv4 as ::ffff:a.b.c.d, :: when absent',
    client_ip        IPv6 COMMENT 'The end user''s own address, on mints; IPv4 as ::ffff:a.b.c.d, :: when absent',
    user_agent       String COMMENT 'User agent of the caller',
    request_id       String COMMENT 'Request id that joins the observers of one request',
    clock_offset     Float64 COMMENT 'Clock offset in seconds that the host itself measured (heartbeats)',
    clock_error      Float64 COMMENT 'Error of clock_offset in seconds',
    id               String COMMENT 'The producer''s id of the event, or one derived from the coordinates',
    present          UInt64 COMMENT 'One bit per field that the record carried, in the order of the event contract; tells an empty value from an absent one',
    topic            LowCardinality(String) COMMENT 'Kafka topic',
    partition        Int32 COMMENT 'Kafka partition',
    offset           Int64 COMMENT 'Kafka offset' CODEC(Delta, LZ4),
    idx              Int32 COMMENT 'Place inside the message, for formats that carry several events in one',
    stored_at        DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse stored the row; retention and rollups count from here',
    INDEX by_user user_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_source source_ip TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_key key_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_offset offset TYPE minmax GRANULARITY 1,
    INDEX by_ts ts TYPE minmax GRANULARITY 1,
    INDEX by_stored stored_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree
PARTITION BY toDate(observed_at)
ORDER BY (network, type, observed_at, topic, partition, offset, idx)
TTL stored_at + toIntervalDay(400)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Audit events, each known by topic, partition, offset and idx. Empty text, 0 and 1970-01-01 mean absent. Read it with FINAL, or through v_events';

CREATE TABLE IF NOT EXISTS events ON CLUSTER 'main' AS events_local
ENGINE = Distributed('main', 'keysentry', 'events_local', cityHash64(topic, partition, offset));

CREATE TABLE IF NOT EXISTS quarantine_local ON CLUSTER 'main'
(
    topic       LowCardinality(String) COMMENT 'Kafka topic',
    partition   Int32 COMMENT 'Kafka partition',
    offset      Int64 COMMENT 'Kafka offset',
    idx         Int32 COMMENT 'Place inside the message',
    observed_at DateTime64(9, 'UTC') COMMENT 'Append time of the broker; 1970-01-01 when unknown',
    reason      LowCardinality(String) COMMENT 'Why it is no event, from a closed list',
    field       LowCardinality(String) COMMENT 'The field at fault, when one is',
    detail      String COMMENT 'What was wrong, redacted',
    excerpt     String COMMENT 'Head of the record, redacted',
    size        UInt64 COMMENT 'Bytes of the record''s value',
    stored_at   DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse stored the row'
)
ENGINE = ReplicatedReplacingMergeTree
PARTITION BY toDate(observed_at)
ORDER BY (topic, partition, offset, idx, observed_at)
TTL stored_at + toIntervalDay(400)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Records that could not be taken as events. Read it with FINAL, or through v_quarantine';

CREATE TABLE IF NOT EXISTS quarantine ON CLUSTER 'main' AS quarantine_local
ENGINE = Distributed('main', 'keysentry', 'quarantine_local', cityHash64(topic, partition, offset));

CREATE TABLE IF NOT EXISTS clock_offsets_local ON CLUSTER 'main'
(
    host           LowCardinality(String) COMMENT 'Host whose clock it is',
    topic          LowCardinality(String) COMMENT 'Kafka topic whose records the estimate rests on',
    partition      Int32 COMMENT 'Kafka partition of those records',
    minute         DateTime('UTC') COMMENT 'End of the last minute of observed_at that went in',
    offset_seconds Float64 COMMENT 'Host clock minus broker clock; positive is fast',
    error_seconds  Float64 COMMENT 'Half width of the estimate',
    drift_seconds_per_hour Float64 COMMENT 'Slope of the offset',
    anchored       Bool COMMENT 'True when a heartbeat''s own figure is behind it; otherwise slow may also be delay',
    confident      Bool COMMENT 'True when the offset corrects times and explains refusals',
    samples        UInt64 COMMENT 'Records behind the estimate',
    computed_at    DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = ReplicatedReplacingMergeTree(computed_at)
PARTITION BY toYYYYMM(minute)
ORDER BY (host, topic, partition, minute)
TTL minute + toIntervalDay(400)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Estimated clock offset per host, partition and minute';

CREATE TABLE IF NOT EXISTS clock_offsets ON CLUSTER 'main' AS clock_offsets_local
ENGINE = Distributed('main', 'keysentry', 'clock_offsets_local', cityHash64(host));

CREATE TABLE IF NOT EXISTS journal_local ON CLUSTER 'main'
(
    n      Int64 COMMENT 'Running number of the accepted record, from 1',
    epoch  Int64 COMMENT 'Offset of the took_over record of the leader that wrote it',
    time   DateTime64(9, 'UTC') COMMENT 'When it was written',
    kind   LowCardinality(String) COMMENT 'What the body is',
    body   String COMMENT 'The record''s body as JSON',
    prev   String COMMENT 'Hash of the record before',
    hash   String COMMENT 'Hash of this record',
    mac    String COMMENT 'HMAC of hash with the daemons'' key',
    offset Int64 COMMENT 'Offset in the journal''s topic'
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY n
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Mirror of the journal; read it with FINAL. Kept without limit';

CREATE TABLE IF NOT EXISTS journal ON CLUSTER 'main' AS journal_local
ENGINE = Distributed('main', 'keysentry', 'journal_local', cityHash64(n));

CREATE TABLE IF NOT EXISTS findings_local ON CLUSTER 'main'
(
    id               String COMMENT 'Identity: hash of rule, group and episode',
    n                Int64 COMMENT 'Journal record that carried it; version of the row',
    time             DateTime64(9, 'UTC') COMMENT 'When it was journaled',
    rule_id          LowCardinality(String) COMMENT 'Rule that fired',
    rule_title       LowCardinality(String) COMMENT 'Title of the rule',
    level            LowCardinality(String) COMMENT 'Sigma level of the rule',
    kind             LowCardinality(String) COMMENT 'Kind of incident it belongs to',
    severity         LowCardinality(String) COMMENT 'digest, ticket or page',
    shadow           Bool COMMENT 'True when it tells nobody',
    network          LowCardinality(String) COMMENT 'Tenant it is about',
    subject_field    LowCardinality(String) COMMENT 'Field that names the subject',
    subject_value    String COMMENT 'The subject',
    group_by         Map(LowCardinality(String), String) COMMENT 'The correlation''s group',
    first            DateTime64(9, 'UTC') COMMENT 'Effective time of the episode''s first event',
    last             DateTime64(9, 'UTC') COMMENT 'Effective time of the episode''s last event when it was journaled',
    fired            DateTime64(9, 'UTC') COMMENT 'Effective time at which it fired',
    count            UInt64 COMMENT 'Events that satisfied the rule when it was journaled',
    value            Float64 COMMENT 'What the condition compared',
    threshold        String COMMENT 'The condition in words',
    cause            LowCardinality(String) COMMENT 'Cause of the refusals, when one dominates',
    cause_confidence Float32 COMMENT 'Confidence of cause, 0 to 1',
    summary          String COMMENT 'One sentence',
    resolution       String COMMENT 'What a person should do',
    playbook         LowCardinality(String) COMMENT 'Playbook it proposes',
    tags             Array(LowCardinality(String)) COMMENT 'Tags of the rule',
    evidence         String COMMENT 'Evidence as JSON'
)
ENGINE = ReplicatedReplacingMergeTree(n)
ORDER BY id
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Findings as journaled; read it with FINAL, or through v_findings';

CREATE TABLE IF NOT EXISTS findings ON CLUSTER 'main' AS findings_local
ENGINE = Distributed('main', 'keysentry', 'findings_local', cityHash64(id));

CREATE TABLE IF NOT EXISTS episodes_local ON CLUSTER 'main'
(
    finding_id String COMMENT 'Finding whose episode goes on',
    n          Int64 COMMENT 'Journal record; version of the row',
    last       DateTime64(9, 'UTC') COMMENT 'Effective time of its last event so far',
    count      UInt64 COMMENT 'Events so far',
    closed     Bool COMMENT 'True when the episode has ended'
)
ENGINE = ReplicatedReplacingMergeTree(n)
ORDER BY finding_id
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Latest state of each finding''s episode';

CREATE TABLE IF NOT EXISTS episodes ON CLUSTER 'main' AS episodes_local
ENGINE = Distributed('main', 'keysentry', 'episodes_local', cityHash64(finding_id));

CREATE TABLE IF NOT EXISTS incidents_local ON CLUSTER 'main'
(
    incident_id String COMMENT 'Incident',
    n           Int64 COMMENT 'Journal record of the change',
    time        DateTime64(9, 'UTC') COMMENT 'When it changed',
    op          LowCardinality(String) COMMENT 'What changed: open, join, resolve, reopen, mitigate, note by the product; ack, close, silence and the like by a person',
    finding_id  String COMMENT 'Finding that opened or joined',
    person      LowCardinality(String) COMMENT 'Who did it; empty for the product itself',
    via         LowCardinality(String) COMMENT 'slack, cli or console',
    verdict     LowCardinality(String) COMMENT 'With close: true, false or benign',
    note        String COMMENT 'Reason or note',
    refused     String COMMENT 'Why a decision had no effect; empty when it had'
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY (incident_id, n)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Every change of every incident, in journal order; v_incidents folds it';

CREATE TABLE IF NOT EXISTS incidents ON CLUSTER 'main' AS incidents_local
ENGINE = Distributed('main', 'keysentry', 'incidents_local', cityHash64(incident_id));

CREATE TABLE IF NOT EXISTS playbook_steps_local ON CLUSTER 'main'
(
    run_id      String COMMENT 'Run of a playbook',
    n           Int64 COMMENT 'Journal record of the change',
    time        DateTime64(9, 'UTC') COMMENT 'When it changed',
    kind        LowCardinality(String) COMMENT 'planned, state, step or decision',
    playbook    LowCardinality(String) COMMENT 'With planned: the playbook',
    incident_id String COMMENT 'With planned: the incident it answers',
    network     LowCardinality(String) COMMENT 'With planned: the tenant',
    step_id     String COMMENT 'With step: the step',
    attempt     Int32 COMMENT 'With step: the attempt',
    state       LowCardinality(String) COMMENT 'State that the run or the step reached',
    error       String COMMENT 'What went wrong',
    note        String COMMENT 'Sentence for the incident''s thread'
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY (run_id, n)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Every change of every playbook run, in journal order';

CREATE TABLE IF NOT EXISTS playbook_steps ON CLUSTER 'main' AS playbook_steps_local
ENGINE = Distributed('main', 'keysentry', 'playbook_steps_local', cityHash64(run_id));

CREATE TABLE IF NOT EXISTS auth_minutely_local ON CLUSTER 'main'
(
    minute      DateTime('UTC') COMMENT 'Minute of the effective time',
    network     LowCardinality(String) COMMENT 'Tenant of the platform',
    type        LowCardinality(String) COMMENT 'Type of event',
    origin      LowCardinality(String) COMMENT 'Who saw it',
    service     LowCardinality(String) COMMENT 'Service that speaks',
    host        LowCardinality(String) COMMENT 'Instance of the service',
    key_id      String COMMENT 'Fingerprint of the server key',
    cause       LowCardinality(String) COMMENT 'Why it was refused; empty when it was not',
    events      UInt64 COMMENT 'Events',
    with_cert   UInt64 COMMENT 'Events that carried a client certificate',
    computed_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = ReplicatedReplacingMergeTree(computed_at)
PARTITION BY toYYYYMM(minute)
ORDER BY (network, minute, type, origin, service, host, key_id, cause)
TTL computed_at + toIntervalDay(400)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Events per closed minute; a minute that got late rows is computed again. Read it with FINAL';

CREATE TABLE IF NOT EXISTS auth_minutely ON CLUSTER 'main' AS auth_minutely_local
ENGINE = Distributed('main', 'keysentry', 'auth_minutely_local', cityHash64(network, minute));

CREATE TABLE IF NOT EXISTS auth_hourly_local ON CLUSTER 'main'
(
    hour        DateTime('UTC') COMMENT 'Hour of the effective time',
    network     LowCardinality(String) COMMENT 'Tenant of the platform',
    type        LowCardinality(String) COMMENT 'Type of event',
    origin      LowCardinality(String) COMMENT 'Who saw it',
    service     LowCardinality(String) COMMENT 'Service that speaks',
    host        LowCardinality(String) COMMENT 'Instance of the service',
    key_id      String COMMENT 'Fingerprint of the server key',
    cause       LowCardinality(String) COMMENT 'Why it was refused; empty when it was not',
    events      UInt64 COMMENT 'Events',
    with_cert   UInt64 COMMENT 'Events that carried a client certificate',
    computed_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = ReplicatedReplacingMergeTree(computed_at)
PARTITION BY toYear(hour)
ORDER BY (network, hour, type, origin, service, host, key_id, cause)
TTL computed_at + toIntervalDay(400)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Events per hour, the sum of auth_minutely. Read it with FINAL';

CREATE TABLE IF NOT EXISTS auth_hourly ON CLUSTER 'main' AS auth_hourly_local
ENGINE = Distributed('main', 'keysentry', 'auth_hourly_local', cityHash64(network, hour));

CREATE TABLE IF NOT EXISTS server_keys_local ON CLUSTER 'main'
(
    network     LowCardinality(String) COMMENT 'Tenant of the platform',
    key_id      String COMMENT 'Fingerprint of the server key',
    state       LowCardinality(String) COMMENT 'created, active, retired or revoked',
    at          DateTime64(9, 'UTC') COMMENT 'When it reached the state',
    told_by     LowCardinality(String) COMMENT 'events:TOPIC, or journal for our own runs',
    actor       String COMMENT 'Administrator who did it',
    run_id      String COMMENT 'Playbook run that did it'
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY (network, key_id, state, at, told_by)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Facts about server keys, kept without limit; v_server_keys folds them';

CREATE TABLE IF NOT EXISTS server_keys ON CLUSTER 'main' AS server_keys_local
ENGINE = Distributed('main', 'keysentry', 'server_keys_local', cityHash64(network, key_id));

CREATE TABLE IF NOT EXISTS certificates_local ON CLUSTER 'main'
(
    network     LowCardinality(String) COMMENT 'Tenant of the platform',
    cert_id     String COMMENT 'Fingerprint of the client certificate',
    state       LowCardinality(String) COMMENT 'requested, issued, active or disabled',
    at          DateTime64(9, 'UTC') COMMENT 'When it reached the state',
    told_by     LowCardinality(String) COMMENT 'events:TOPIC',
    cn          String COMMENT 'Common name',
    not_before  DateTime64(9, 'UTC') COMMENT 'Valid from; 1970-01-01 when unknown',
    not_after   DateTime64(9, 'UTC') COMMENT 'Valid until; 1970-01-01 when unknown',
    service     LowCardinality(String) COMMENT 'Service that the event named'
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY (network, cert_id, state, at, told_by)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Facts about client certificates, kept without limit; v_certificates folds them';

CREATE TABLE IF NOT EXISTS certificates ON CLUSTER 'main' AS certificates_local
ENGINE = Distributed('main', 'keysentry', 'certificates_local', cityHash64(network, cert_id));

CREATE OR REPLACE VIEW v_events ON CLUSTER 'main' AS
SELECT
    * EXCEPT (source_ip, client_ip, present),
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source_ip,
    if(client_ip = toIPv6('::'), '', replaceOne(toString(client_ip), '::ffff:', '')) AS client_ip,
    toBool(CAST(type, 'String') IN ('auth_token.denied', 'session.denied', 'request.unauthorized', 'mtls.handshake_failed')) AS refused
FROM events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Events, each once, addresses as text (empty when absent); refused tells whether something was denied';

CREATE OR REPLACE VIEW v_unauthorized ON CLUSTER 'main' AS
SELECT
    ts, network, type, cause, cause_confidence, status, code, endpoint, method, service, host, user_id, key_id, session_id, cert_id,
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source_ip,
    user_agent, reason, request_id, origin, topic, partition, offset, idx
FROM events FINAL
WHERE type IN ('auth_token.denied', 'session.denied', 'request.unauthorized', 'mtls.handshake_failed')
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What was refused, to whom, and why: one row per refused request';

CREATE OR REPLACE VIEW v_failure_rate ON CLUSTER 'main' AS
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

CREATE OR REPLACE VIEW v_server_keys ON CLUSTER 'main' AS
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

CREATE OR REPLACE VIEW v_key_age ON CLUSTER 'main' AS
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

CREATE OR REPLACE VIEW v_certificates ON CLUSTER 'main' AS
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

CREATE OR REPLACE VIEW v_cert_lead ON CLUSTER 'main' AS
SELECT
    network, cert_id, common_name, service_name, last_state AS state, valid_from, valid_until,
    if(valid_until = toDateTime64(0, 9, 'UTC'), NULL, dateDiff('day', now64(9, 'UTC'), valid_until)) AS lead_days
FROM v_certificates
WHERE last_state != 'disabled'
COMMENT 'Days until each certificate that is not disabled expires; NULL when its end was not told';

CREATE OR REPLACE VIEW v_mtls_coverage ON CLUSTER 'main' AS
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

CREATE OR REPLACE VIEW v_blast_radius ON CLUSTER 'main' AS
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

CREATE OR REPLACE VIEW v_entity_timeline ON CLUSTER 'main' AS
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

CREATE OR REPLACE VIEW v_quarantine ON CLUSTER 'main' AS
SELECT topic, partition, offset, idx, observed_at, reason, field, detail, excerpt, size, stored_at
FROM quarantine FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Records that are no events, with the reason';

CREATE OR REPLACE VIEW v_findings ON CLUSTER 'main' AS
SELECT
    findings.* EXCEPT (last, count),
    if(episodes.finding_id = '', findings.last, greatest(findings.last, episodes.last)) AS last,
    if(episodes.finding_id = '', findings.count, greatest(findings.count, episodes.count)) AS count,
    episodes.closed AS closed
FROM findings FINAL
LEFT JOIN episodes FINAL ON findings.id = episodes.finding_id
COMMENT 'Findings with the latest state of their episode';

CREATE OR REPLACE VIEW v_incidents ON CLUSTER 'main' AS
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

CREATE OR REPLACE VIEW v_playbook_runs ON CLUSTER 'main' AS
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

CREATE OR REPLACE VIEW v_coverage ON CLUSTER 'main' AS
SELECT network, host, boot, toStartOfHour(observed_at) AS hour,
    toUInt64(max(seq) - min(seq) + 1) AS expected_events,
    uniqExact(seq) AS received_events,
    round(100 * received_events / expected_events, 3) AS received_percent
FROM events FINAL
WHERE seq > 0 AND boot != ''
GROUP BY network, host, boot, hour
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Share of the events that a host numbered in an hour that really came; what is missing at the ends of an hour cannot be seen here';

CREATE OR REPLACE VIEW v_clock_offsets ON CLUSTER 'main' AS
SELECT host, topic, partition, minute, offset_seconds, error_seconds, drift_seconds_per_hour, anchored, confident, samples
FROM clock_offsets FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Clock offset per host, partition and minute';

CREATE OR REPLACE VIEW v_ingest ON CLUSTER 'main' AS
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

CREATE TABLE IF NOT EXISTS first_seen_local ON CLUSTER 'main'
(
    rule_id    LowCardinality(String) COMMENT 'Rule of type first_seen',
    rule_hash  LowCardinality(String) COMMENT 'Its content: an edited rule begins with a memory of its own',
    group_by   SimpleAggregateFunction(anyLast, Map(String, String)) COMMENT 'Group that the value was seen in',
    group_key  String COMMENT 'The same as JSON',
    value      String COMMENT 'Value of the field',
    first      SimpleAggregateFunction(min, DateTime64(9, 'UTC')) COMMENT 'When it was first seen',
    last       SimpleAggregateFunction(max, DateTime64(9, 'UTC')) COMMENT 'When it was last seen, to within a part of the lookback'
)
ENGINE = ReplicatedAggregatingMergeTree
ORDER BY (rule_id, rule_hash, group_key, value)
TTL last + toIntervalDay(400)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Values that rules of type first_seen know, per group; v_first_seen shows each once';

CREATE TABLE IF NOT EXISTS first_seen ON CLUSTER 'main' AS first_seen_local
ENGINE = Distributed('main', 'keysentry', 'first_seen_local', cityHash64(rule_id, group_key));

CREATE TABLE IF NOT EXISTS baselines_local ON CLUSTER 'main'
(
    rule_id   LowCardinality(String) COMMENT 'Rule of type rate_anomaly',
    rule_hash LowCardinality(String) COMMENT 'Its content: an edited rule begins with a season of its own',
    group_by  Map(String, String) COMMENT 'Group that is counted',
    group_key String COMMENT 'The same as JSON',
    minute    DateTime('UTC') COMMENT 'End of the last minute that went in',
    last      DateTime64(9, 'UTC') COMMENT 'Last event of the group',
    seen      Int64 COMMENT 'Minutes that went in',
    weekday   Array(Float64) COMMENT 'Fading events of each half hour of a weekday, and behind them its fading minutes',
    weekend   Array(Float64) COMMENT 'The same of Saturdays and Sundays',
    overall   Array(Float64) COMMENT 'Fading events and minutes of all half hours; then, per length of window, the two sums of its dispersion',
    recent    Array(Float64) COMMENT 'Counted, winsorised and expected events of the last minutes, oldest first'
)
ENGINE = ReplicatedReplacingMergeTree(minute)
ORDER BY (rule_id, rule_hash, group_key)
TTL minute + toIntervalDay(400)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Seasons of groups, for rules of type rate_anomaly; v_baselines shows what is usual when';

CREATE TABLE IF NOT EXISTS baselines ON CLUSTER 'main' AS baselines_local
ENGINE = Distributed('main', 'keysentry', 'baselines_local', cityHash64(rule_id, group_key));

CREATE TABLE IF NOT EXISTS rule_memory_local ON CLUSTER 'main'
(
    rule_id   LowCardinality(String) COMMENT 'Rule of type first_seen or rate_anomaly',
    rule_hash LowCardinality(String) COMMENT 'Its content',
    since     DateTime('UTC') COMMENT 'When all that the stored events told had been kept'
)
ENGINE = ReplicatedReplacingMergeTree(since)
ORDER BY (rule_id, rule_hash)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Rules whose memory is whole; of others it is read off the stored events again';

CREATE TABLE IF NOT EXISTS rule_memory ON CLUSTER 'main' AS rule_memory_local
ENGINE = Distributed('main', 'keysentry', 'rule_memory_local', cityHash64(rule_id));

CREATE OR REPLACE VIEW v_first_seen ON CLUSTER 'main' AS
SELECT rule_id, CAST(any(group_by), 'Map(String, String)') AS of_group, value, toDateTime64(min(first), 9, 'UTC') AS first_seen_at, toDateTime64(max(last), 9, 'UTC') AS last_seen_at
FROM first_seen
GROUP BY rule_id, group_key, value
COMMENT 'Values that rules of type first_seen know, with the time of the first and of the last';

CREATE OR REPLACE VIEW v_baselines ON CLUSTER 'main' AS
SELECT
    rule_id,
    group_by AS of_group,
    kind_of_day,
    formatDateTime(toDateTime(1800 * (half_hour - 1), 'UTC'), '%H:%i') AS from_utc,
    round(if(numbers[48 + half_hour] > 0, numbers[half_hour] / numbers[48 + half_hour], 0), 4) AS events_per_minute,
    round(numbers[48 + half_hour], 1) AS minutes_seen,
    minute AS as_of
FROM
(
    SELECT rule_id, group_by, minute, 'weekday' AS kind_of_day, weekday AS numbers FROM baselines FINAL
    UNION ALL
    SELECT rule_id, group_by, minute, 'weekend' AS kind_of_day, weekend AS numbers FROM baselines FINAL
)
ARRAY JOIN range(1, 49) AS half_hour
COMMENT 'Usual events per minute of each half hour, per group and kind of day';

CREATE TABLE IF NOT EXISTS coverage_local ON CLUSTER 'main'
(
    network     LowCardinality(String) COMMENT 'Tenant of the platform',
    minute      DateTime('UTC') COMMENT 'Minute of the effective time',
    host        LowCardinality(String) COMMENT 'Instance that numbers its events',
    boot        LowCardinality(String) COMMENT 'Process of the host; each numbers its events from 1',
    service     LowCardinality(String) COMMENT 'Service that speaks',
    expected    UInt64 COMMENT 'Numbers given since the last number of an earlier minute, up to the highest of this one; what is missing was sent between since and last_at',
    seen        UInt64 COMMENT 'Different numbers that are stored in this minute; more than expected when some came after higher ones',
    unknown     UInt64 COMMENT 'Numbers before the first one that is held of a process which may have begun before anything was; not part of expected',
    first_seq   UInt64 COMMENT 'Lowest number of the minute; 0 when no event has one',
    last_seq    UInt64 COMMENT 'Highest number of the minute',
    top_seq     UInt64 COMMENT 'Highest number up to and with this minute',
    since       DateTime64(9, 'UTC') COMMENT 'Last numbered event of an earlier minute; 1970-01-01 when this is the first',
    first_at    DateTime64(9, 'UTC') COMMENT 'First event of the minute',
    last_at     DateTime64(9, 'UTC') COMMENT 'Last event of the minute',
    heartbeats  UInt64 COMMENT 'Heartbeats of the minute',
    stopped     Bool COMMENT 'True when the process said that it ends',
    computed_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = ReplicatedReplacingMergeTree(computed_at)
PARTITION BY toYYYYMM(minute)
ORDER BY (network, minute, host, boot)
TTL computed_at + toIntervalDay(400)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Events that hosts numbered and that are held, per closed minute; a minute that got late rows is computed again. Read it with FINAL, or through v_coverage';

CREATE TABLE IF NOT EXISTS coverage ON CLUSTER 'main' AS coverage_local
ENGINE = Distributed('main', 'keysentry', 'coverage_local', cityHash64(network, host));

CREATE TABLE IF NOT EXISTS offset_gaps_local ON CLUSTER 'main'
(
    topic     LowCardinality(String) COMMENT 'Kafka topic',
    partition Int32 COMMENT 'Kafka partition',
    first     Int64 COMMENT 'First offset of the range',
    last      Int64 COMMENT 'Last offset of the range',
    reason    LowCardinality(String) COMMENT 'empty: the offsets hold no event (transaction markers, aborted and compacted records). lost: retention removed them before they were stored. unreadable: their batch is damaged or too large',
    noted_at  DateTime('UTC') DEFAULT now() COMMENT 'When it was written'
)
ENGINE = ReplicatedReplacingMergeTree(noted_at)
ORDER BY (topic, partition, first, last, reason)
TTL noted_at + toIntervalDay(400)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Ranges of offsets that were read and of which nothing is stored, with the reason. Ranges may overlap after a replay; v_continuity counts each offset once';

CREATE TABLE IF NOT EXISTS offset_gaps ON CLUSTER 'main' AS offset_gaps_local
ENGINE = Distributed('main', 'keysentry', 'offset_gaps_local', cityHash64(topic, partition));

CREATE OR REPLACE VIEW v_coverage ON CLUSTER 'main' AS
SELECT
    network, service, host, boot, minute,
    multiIf(seen < expected, 'partial', unknown > 0, 'began_before', 'complete') AS state,
    expected, seen, toUInt64(expected - least(seen, expected)) AS missing,
    if(expected = 0, 100, round(100 * least(seen, expected) / expected, 3)) AS held_percent,
    unknown, since, last_at
FROM coverage FINAL
WHERE top_seq > 0
UNION ALL
SELECT
    network, last_service AS service, host, boot, toStartOfMinute(now('UTC')) AS minute,
    if(newest_boot = boot, 'silent', 'restarted') AS state,
    toUInt64(0) AS expected, toUInt64(0) AS seen, toUInt64(0) AS missing, 0. AS held_percent, toUInt64(0) AS unknown,
    heard AS since, heard AS last_at
FROM
(
    SELECT
        network, host, boot, max(last_at) AS heard, argMax(service, minute) AS last_service, max(stopped) AS has_stopped, sum(heartbeats) AS beats,
        argMax(boot, heard) OVER (PARTITION BY network, host) AS newest_boot
    FROM coverage FINAL
    WHERE minute >= now('UTC') - INTERVAL 1 DAY
    GROUP BY network, host, boot
)
WHERE NOT has_stopped AND (newest_boot != boot OR beats > 0 AND heard < now64(9, 'UTC') - INTERVAL 5 MINUTE)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What is held of the events that hosts numbered, per process and minute. state: complete, partial (missing were sent between since and last_at), began_before (its first numbers are older than anything held), silent (nothing for five minutes from a host that sends heartbeats and did not stop), restarted (its last numbers are unknown, because it did not say that it ends)';

CREATE OR REPLACE VIEW v_continuity ON CLUSTER 'main' AS
WITH
    pieces AS
    (
        SELECT topic, partition, intDiv(offset, 65536) AS piece, bitmapToArray(groupBitmapState(toUInt32(offset % 65536))) AS places
        FROM
        (
            SELECT toString(topic) AS topic, partition, offset FROM events
            UNION ALL
            SELECT toString(topic) AS topic, partition, offset FROM quarantine
        )
        GROUP BY topic, partition, piece
    ),
    ranges AS
    (
        SELECT topic, partition, piece * 65536 + run[1] AS low, piece * 65536 + run[-1] AS high, 'stored' AS reason
        FROM pieces
        ARRAY JOIN arraySplit((place, step) -> step != 1, places, arrayDifference(places)) AS run
        UNION ALL
        SELECT toString(topic) AS topic, partition, first AS low, last AS high, toString(reason) AS reason FROM offset_gaps FINAL
    ),
    reaches AS
    (
        SELECT
            topic, partition, low, high, reason, reason IN ('lost', 'unreadable') AS gone,
            max(high) OVER before AS reach,
            maxIf(high, NOT gone) OVER before AS reach_unlost,
            count() OVER before AS n,
            countIf(NOT gone) OVER before AS n_unlost
        FROM ranges
        WINDOW before AS (PARTITION BY topic, partition ORDER BY low, high ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ),
    holes AS
    (
        SELECT
            *, n > 0 AND low > reach + 1 AS is_hole, if(is_hole, low - reach - 1, 0) AS hole,
            if(NOT gone AND n_unlost > 0 AND low > reach_unlost + 1, low - reach_unlost - 1, 0) AS hole_unlost
        FROM reaches
    )
SELECT
    topic, partition, min(low) AS from_offset, max(high) AS to_offset,
    to_offset - from_offset + 1 AS offsets,
    sumIf(high - low + 1, reason = 'stored') AS stored,
    if(countIf(NOT gone) = 0, 0, maxIf(high, NOT gone) - minIf(low, NOT gone) + 1 - sum(hole_unlost)) - stored AS empty,
    offsets - missing - stored - empty AS lost,
    sum(hole) AS missing,
    arrayMap(r -> concat(toString(r.1), '-', toString(r.2), ' ', r.3), arraySort(arrayConcat(
        groupArrayIf(1000)((reach + 1, low - 1, 'missing'), is_hole),
        groupArrayIf(1000)((low, high, reason), gone)))) AS gaps
FROM holes
GROUP BY topic, partition
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Whether the offsets of each partition are held without a gap: offsets = stored + empty + lost + missing. empty held no event, lost was removed by retention before it was stored or could not be read, missing has no reason and is a fault; gaps lists lost and missing ranges with the reason, first and last offset included';

ALTER TABLE findings_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS coverage Nullable(Float32) COMMENT 'Share of the numbered events of its time that were seen, 0 to 1; NULL when nobody numbers them';

ALTER TABLE findings ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS coverage Nullable(Float32) COMMENT 'Share of the numbered events of its time that were seen, 0 to 1; NULL when nobody numbers them';

CREATE OR REPLACE VIEW v_findings ON CLUSTER 'main' AS
SELECT
    findings.* EXCEPT (last, count),
    if(episodes.finding_id = '', findings.last, greatest(findings.last, episodes.last)) AS last,
    if(episodes.finding_id = '', findings.count, greatest(findings.count, episodes.count)) AS count,
    episodes.closed AS closed
FROM findings FINAL
LEFT JOIN episodes FINAL ON findings.id = episodes.finding_id
COMMENT 'Findings with the latest state of their episode';

CREATE TABLE IF NOT EXISTS rollup_rounds_local ON CLUSTER 'main'
(
    work     LowCardinality(String) COMMENT 'What was computed: rollups',
    began    DateTime64(3, 'UTC') COMMENT 'When the last complete round asked which minutes have new rows; the latest counts',
    ended_at DateTime('UTC') DEFAULT now() COMMENT 'When it had computed them all'
)
ENGINE = ReplicatedReplacingMergeTree(began)
ORDER BY (work)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'The last complete round of rollups; the next one looks at rows that were stored since it began. Read it with FINAL';

CREATE TABLE IF NOT EXISTS rollup_rounds ON CLUSTER 'main' AS rollup_rounds_local
ENGINE = Distributed('main', 'keysentry', 'rollup_rounds_local', cityHash64(work));

ALTER TABLE events_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS traits LowCardinality(String) COMMENT 'Facts that the registries knew when the event was judged: words of a closed list, sorted, one space between' AFTER cause_confidence;

ALTER TABLE events ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS traits LowCardinality(String) COMMENT 'Facts that the registries knew when the event was judged: words of a closed list, sorted, one space between' AFTER cause_confidence;

ALTER TABLE events_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS source_net String COMMENT 'Network of source_ip: AS64500 where the table of networks knew it, else its /24 or /48' AFTER client_ip;

ALTER TABLE events ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS source_net String COMMENT 'Network of source_ip: AS64500 where the table of networks knew it, else its /24 or /48' AFTER client_ip;

CREATE OR REPLACE VIEW v_events ON CLUSTER 'main' AS
SELECT
    * EXCEPT (source_ip, client_ip, present),
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source_ip,
    if(client_ip = toIPv6('::'), '', replaceOne(toString(client_ip), '::ffff:', '')) AS client_ip,
    toBool(CAST(type, 'String') IN ('auth_token.denied', 'session.denied', 'request.unauthorized', 'mtls.handshake_failed')) AS refused
FROM events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Events, each once, addresses as text (empty when absent); refused tells whether something was denied';

CREATE TABLE IF NOT EXISTS clock_minutely_local ON CLUSTER 'main'
(
    minute       DateTime('UTC') COMMENT 'Minute of observed_at',
    host         LowCardinality(String) COMMENT 'Host whose clock it is',
    topic        LowCardinality(String) COMMENT 'Kafka topic of the records',
    partition    Int32 COMMENT 'Kafka partition of the records',
    records      UInt64 COMMENT 'Records of the minute that have a host and a time',
    p95_seconds  Float64 COMMENT '95th percentile of the host''s time (sent_at, else time) minus the broker''s append time: delay only ever lowers it',
    min_seconds  Float64 COMMENT 'Smallest difference of the minute',
    max_seconds  Float64 COMMENT 'Largest difference of the minute',
    own_seconds  Nullable(Float64) COMMENT 'Offset that the host itself measured, of its last heartbeat in the minute',
    own_error    Nullable(Float64) COMMENT 'Error of own_seconds',
    computed_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = ReplicatedReplacingMergeTree(computed_at)
PARTITION BY toYYYYMM(minute)
ORDER BY (host, topic, partition, minute)
TTL computed_at + toIntervalDay(400)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Clock differences per host and closed minute, computed from events; a minute that got late rows is computed again. Read it with FINAL';

CREATE TABLE IF NOT EXISTS clock_minutely ON CLUSTER 'main' AS clock_minutely_local
ENGINE = Distributed('main', 'keysentry', 'clock_minutely_local', cityHash64(host));

CREATE TABLE IF NOT EXISTS clock_hourly_local ON CLUSTER 'main'
(
    hour           DateTime('UTC') COMMENT 'Hour of observed_at',
    host           LowCardinality(String) COMMENT 'Host whose clock it is',
    topic          LowCardinality(String) COMMENT 'Kafka topic of the records',
    partition      Int32 COMMENT 'Kafka partition of the records',
    minutes        UInt64 COMMENT 'Minutes that have records',
    records        UInt64 COMMENT 'Records of the hour',
    offset_seconds Float64 COMMENT 'Median of the minutes: positive is fast, negative is slow or delayed',
    error_seconds  Float64 COMMENT 'Twice the standard error of that median, at least 0.1',
    drift_seconds_per_hour Float64 COMMENT 'Slope of the minutes; 0 for fewer than four',
    own_seconds    Nullable(Float64) COMMENT 'Median offset that the host itself measured',
    computed_at    DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = ReplicatedReplacingMergeTree(computed_at)
PARTITION BY toYear(hour)
ORDER BY (host, topic, partition, hour)
TTL computed_at + toIntervalDay(400)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Clock offset and drift per host and hour, computed from clock_minutely. Read it with FINAL';

CREATE TABLE IF NOT EXISTS clock_hourly ON CLUSTER 'main' AS clock_hourly_local
ENGINE = Distributed('main', 'keysentry', 'clock_hourly_local', cityHash64(host));

CREATE OR REPLACE VIEW v_clock_offsets ON CLUSTER 'main' AS
SELECT host, topic, partition, minute, offset_seconds, error_seconds, drift_seconds_per_hour, anchored, confident, samples,
    multiIf(NOT anchored AND offset_seconds < 0, 'slow_or_delayed', offset_seconds > 0, 'fast', 'slow') AS reading
FROM clock_offsets FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Clock offset per host, partition and minute, as detection knew it; without an anchor only fast is provable';

CREATE OR REPLACE VIEW v_clock_drift ON CLUSTER 'main' AS
SELECT hour, host, topic, partition, offset_seconds, error_seconds, drift_seconds_per_hour, own_seconds, minutes, records,
    offset_seconds - lagInFrame(offset_seconds, 1, offset_seconds) OVER (PARTITION BY host, topic, partition ORDER BY hour ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS change_seconds
FROM clock_hourly FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Clock offset per host, partition and hour with its drift, and the change since the hour before: a jump is a clock that was set, or a delay that came or went';

ALTER TABLE events_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS cause_grounds LowCardinality(String) COMMENT 'What cause rests on: words of a closed list, in a fixed order, one space between; keysentry explain words them' AFTER cause_confidence;

ALTER TABLE events ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS cause_grounds LowCardinality(String) COMMENT 'What cause rests on: words of a closed list, in a fixed order, one space between; keysentry explain words them' AFTER cause_confidence;

CREATE OR REPLACE VIEW v_events ON CLUSTER 'main' AS
SELECT
    * EXCEPT (source_ip, client_ip, present),
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source_ip,
    if(client_ip = toIPv6('::'), '', replaceOne(toString(client_ip), '::ffff:', '')) AS client_ip,
    toBool(CAST(type, 'String') IN ('auth_token.denied', 'session.denied', 'request.unauthorized', 'mtls.handshake_failed')) AS refused
FROM events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Events, each once, addresses as text (empty when absent); refused tells whether something was denied';

