-- Rollups are recomputed per closed minute from events FINAL and replaced as a
-- whole; no materialized view feeds them, because a retried insert would count twice.
CREATE TABLE {{create "auth_minutely"}}
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
ENGINE = {{engine "ReplacingMergeTree(computed_at)"}}
PARTITION BY toYYYYMM(minute)
ORDER BY (network, minute, type, origin, service, host, key_id, cause)
TTL {{ttl "computed_at"}}
SETTINGS ttl_only_drop_parts = 1, {{dedup}}
COMMENT 'Events per closed minute; a minute that got late rows is computed again. Read it with FINAL';

{{distributed "auth_minutely" "cityHash64(network, minute)"}}

CREATE TABLE {{create "auth_hourly"}}
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
ENGINE = {{engine "ReplacingMergeTree(computed_at)"}}
PARTITION BY toYear(hour)
ORDER BY (network, hour, type, origin, service, host, key_id, cause)
TTL {{ttl "computed_at"}}
SETTINGS ttl_only_drop_parts = 1, {{dedup}}
COMMENT 'Events per hour, the sum of auth_minutely. Read it with FINAL';

{{distributed "auth_hourly" "cityHash64(network, hour)"}}
