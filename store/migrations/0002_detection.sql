-- What detection knows of clocks.
CREATE TABLE {{create "clock_offsets"}}
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
ENGINE = {{engine "ReplacingMergeTree(computed_at)"}}
PARTITION BY toYYYYMM(minute)
ORDER BY (host, topic, partition, minute)
TTL {{ttl "minute"}}
SETTINGS {{dedup}}
COMMENT 'Estimated clock offset per host, partition and minute';

{{distributed "clock_offsets" "cityHash64(host)"}}
