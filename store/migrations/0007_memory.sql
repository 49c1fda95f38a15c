-- What rules know for longer than their windows last: values seen before, and
-- how many events are usual at this time of the day.
CREATE TABLE {{create "first_seen"}}
(
    rule_id    LowCardinality(String) COMMENT 'Rule of type first_seen',
    rule_hash  LowCardinality(String) COMMENT 'Its content: an edited rule begins with a memory of its own',
    group_by   SimpleAggregateFunction(anyLast, Map(String, String)) COMMENT 'Group that the value was seen in',
    group_key  String COMMENT 'The same as JSON',
    value      String COMMENT 'Value of the field',
    first      SimpleAggregateFunction(min, DateTime64(9, 'UTC')) COMMENT 'When it was first seen',
    last       SimpleAggregateFunction(max, DateTime64(9, 'UTC')) COMMENT 'When it was last seen, to within a part of the lookback'
)
ENGINE = {{engine "AggregatingMergeTree"}}
ORDER BY (rule_id, rule_hash, group_key, value)
TTL {{ttl "last"}}
SETTINGS {{dedup}}
COMMENT 'Values that rules of type first_seen know, per group; v_first_seen shows each once';

{{distributed "first_seen" "cityHash64(rule_id, group_key)"}}

CREATE TABLE {{create "baselines"}}
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
ENGINE = {{engine "ReplacingMergeTree(minute)"}}
ORDER BY (rule_id, rule_hash, group_key)
TTL {{ttl "minute"}}
SETTINGS {{dedup}}
COMMENT 'Seasons of groups, for rules of type rate_anomaly; v_baselines shows what is usual when';

{{distributed "baselines" "cityHash64(rule_id, group_key)"}}

CREATE TABLE {{create "rule_memory"}}
(
    rule_id   LowCardinality(String) COMMENT 'Rule of type first_seen or rate_anomaly',
    rule_hash LowCardinality(String) COMMENT 'Its content',
    since     DateTime('UTC') COMMENT 'When all that the stored events told had been kept'
)
ENGINE = {{engine "ReplacingMergeTree(since)"}}
ORDER BY (rule_id, rule_hash)
SETTINGS {{dedup}}
COMMENT 'Rules whose memory is whole; of others it is read off the stored events again';

{{distributed "rule_memory" "cityHash64(rule_id)"}}

{{view "v_first_seen"}} AS
SELECT rule_id, CAST(any(group_by), 'Map(String, String)') AS of_group, value, toDateTime64(min(first), 9, 'UTC') AS first_seen_at, toDateTime64(max(last), 9, 'UTC') AS last_seen_at
FROM first_seen
GROUP BY rule_id, group_key, value
COMMENT 'Values that rules of type first_seen know, with the time of the first and of the last';

{{view "v_baselines"}} AS
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
