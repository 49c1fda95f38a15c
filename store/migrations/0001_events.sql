-- Events: one row per audit record, known by its coordinates in Kafka.
CREATE TABLE {{create "events"}}
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
ENGINE = {{engine "ReplacingMergeTree"}}
PARTITION BY toDate(observed_at)
ORDER BY (network, type, observed_at, topic, partition, offset, idx)
TTL {{ttl "stored_at"}}
SETTINGS ttl_only_drop_parts = 1, {{dedup}}
COMMENT 'Audit events, each known by topic, partition, offset and idx. Empty text, 0 and 1970-01-01 mean absent. Read it with FINAL, or through v_events';

{{distributed "events" "cityHash64(topic, partition, offset)"}}

-- Quarantine: records that are not events, with the reason.
CREATE TABLE {{create "quarantine"}}
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
ENGINE = {{engine "ReplacingMergeTree"}}
PARTITION BY toDate(observed_at)
ORDER BY (topic, partition, offset, idx, observed_at)
TTL {{ttl "stored_at"}}
SETTINGS ttl_only_drop_parts = 1, {{dedup}}
COMMENT 'Records that could not be taken as events. Read it with FINAL, or through v_quarantine';

{{distributed "quarantine" "cityHash64(topic, partition, offset)"}}
