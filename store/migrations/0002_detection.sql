-- What detection writes beside the events.
CREATE TABLE {{create "matches"}}
(
    rule_id     LowCardinality(String) COMMENT 'Rule that matched',
    ts          DateTime64(9, 'UTC') COMMENT 'Effective time of the event',
    network     LowCardinality(String) COMMENT 'Tenant of the platform',
    topic       LowCardinality(String) COMMENT 'Kafka topic of the event',
    partition   Int32 COMMENT 'Kafka partition of the event',
    offset      Int64 COMMENT 'Kafka offset of the event',
    idx         Int32 COMMENT 'Place inside the message',
    observed_at DateTime64(9, 'UTC') COMMENT 'Append time of the event',
    stored_at   DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse stored the row'
)
ENGINE = {{engine "ReplacingMergeTree"}}
PARTITION BY toYYYYMM(observed_at)
ORDER BY (rule_id, observed_at, topic, partition, offset, idx)
TTL {{ttl "stored_at"}}
SETTINGS ttl_only_drop_parts = 1, {{dedup}}
COMMENT 'One row per event that satisfied a detection rule';

{{distributed "matches" "cityHash64(topic, partition, offset)"}}

CREATE TABLE {{create "clock_offsets"}}
(
    host           LowCardinality(String) COMMENT 'Host whose clock it is',
    network        LowCardinality(String) COMMENT 'Tenant of the platform',
    minute         DateTime('UTC') COMMENT 'Minute of observed_at that the estimate closes',
    offset_seconds Float64 COMMENT 'Host clock minus broker clock; positive is fast',
    error_seconds  Float64 COMMENT 'Half width of the estimate',
    drift_seconds_per_hour Float64 COMMENT 'Slope of the offset',
    anchored       Bool COMMENT 'True when a heartbeat''s own figure confirms it; otherwise slow may also be delay',
    samples        UInt32 COMMENT 'Events behind the estimate',
    computed_at    DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = {{engine "ReplacingMergeTree(computed_at)"}}
PARTITION BY toYYYYMM(minute)
ORDER BY (network, host, minute)
TTL {{ttl "minute"}}
SETTINGS {{dedup}}
COMMENT 'Estimated clock offset per host and minute';

{{distributed "clock_offsets" "cityHash64(network, host)"}}

CREATE TABLE {{create "coverage"}}
(
    network     LowCardinality(String) COMMENT 'Tenant of the platform',
    host        LowCardinality(String) COMMENT 'Host that numbers its events',
    boot        LowCardinality(String) COMMENT 'Process start that the numbers belong to',
    minute      DateTime('UTC') COMMENT 'Minute of observed_at',
    expected    UInt64 COMMENT 'Events that the running numbers say there were',
    received    UInt64 COMMENT 'Events that arrived',
    computed_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = {{engine "ReplacingMergeTree(computed_at)"}}
PARTITION BY toYYYYMM(minute)
ORDER BY (network, host, boot, minute)
TTL {{ttl "minute"}}
SETTINGS {{dedup}}
COMMENT 'How much of the expected data each minute really holds';

{{distributed "coverage" "cityHash64(network, host)"}}

CREATE TABLE {{create "first_seen"}}
(
    rule_id     LowCardinality(String) COMMENT 'Rule that keeps the set',
    group_key   String COMMENT 'Values of the rule''s group-by fields, as a JSON array',
    value       String COMMENT 'Value that was seen',
    first       DateTime64(9, 'UTC') COMMENT 'Effective time of its first sighting',
    last        DateTime64(9, 'UTC') COMMENT 'Effective time of its latest sighting',
    updated_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Version of the row; the latest counts'
)
ENGINE = {{engine "ReplacingMergeTree(updated_at)"}}
ORDER BY (rule_id, group_key, value)
SETTINGS {{dedup}}
COMMENT 'Values that a first_seen rule has met, so that a restart does not take them for new';

{{distributed "first_seen" "cityHash64(rule_id, group_key, value)"}}
