-- Clocks of hosts as the stored records show them, and what a cause rests on.
CREATE TABLE {{create "clock_minutely"}}
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
ENGINE = {{engine "ReplacingMergeTree(computed_at)"}}
PARTITION BY toYYYYMM(minute)
ORDER BY (host, topic, partition, minute)
TTL {{ttl "computed_at"}}
SETTINGS ttl_only_drop_parts = 1, {{dedup}}
COMMENT 'Clock differences per host and closed minute, computed from events; a minute that got late rows is computed again. Read it with FINAL';

{{distributed "clock_minutely" "cityHash64(host)"}}

CREATE TABLE {{create "clock_hourly"}}
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
ENGINE = {{engine "ReplacingMergeTree(computed_at)"}}
PARTITION BY toYear(hour)
ORDER BY (host, topic, partition, hour)
TTL {{ttl "computed_at"}}
SETTINGS ttl_only_drop_parts = 1, {{dedup}}
COMMENT 'Clock offset and drift per host and hour, computed from clock_minutely. Read it with FINAL';

{{distributed "clock_hourly" "cityHash64(host)"}}

-- For a person who looks at clocks: now, and over weeks.
{{view "v_clock_offsets"}} AS
SELECT host, topic, partition, minute, offset_seconds, error_seconds, drift_seconds_per_hour, anchored, confident, samples,
    multiIf(NOT anchored AND offset_seconds < 0, 'slow_or_delayed', offset_seconds > 0, 'fast', 'slow') AS reading
FROM clock_offsets FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Clock offset per host, partition and minute, as detection knew it; without an anchor only fast is provable';

{{view "v_clock_drift"}} AS
SELECT hour, host, topic, partition, offset_seconds, error_seconds, drift_seconds_per_hour, own_seconds, minutes, records,
    offset_seconds - lagInFrame(offset_seconds, 1, offset_seconds) OVER (PARTITION BY host, topic, partition ORDER BY hour ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS change_seconds
FROM clock_hourly FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Clock offset per host, partition and hour with its drift, and the change since the hour before: a jump is a clock that was set, or a delay that came or went';

{{alter "events" "ADD COLUMN IF NOT EXISTS cause_grounds LowCardinality(String) COMMENT 'What cause rests on: words of a closed list, in a fixed order, one space between; keysentry explain words them' AFTER cause_confidence"}}

-- The view lists the columns that there were when it was made.
{{view "v_events"}} AS
SELECT
    * EXCEPT (source_ip, client_ip, present),
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source_ip,
    if(client_ip = toIPv6('::'), '', replaceOne(toString(client_ip), '::ffff:', '')) AS client_ip,
    toBool(CAST(type, 'String') IN ('auth_token.denied', 'session.denied', 'request.unauthorized', 'mtls.handshake_failed')) AS refused
FROM events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Events, each once, addresses as text (empty when absent); refused tells whether something was denied';
