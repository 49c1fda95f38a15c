-- Since when rollups have to look for new rows. The rollups themselves cannot tell:
-- a round that ended early has computed some days and not the others.
CREATE TABLE {{create "rollup_rounds"}}
(
    work     LowCardinality(String) COMMENT 'What was computed: rollups',
    began    DateTime64(3, 'UTC') COMMENT 'When the last complete round asked which minutes have new rows; the latest counts',
    ended_at DateTime('UTC') DEFAULT now() COMMENT 'When it had computed them all'
)
ENGINE = {{engine "ReplacingMergeTree(began)"}}
ORDER BY (work)
SETTINGS {{dedup}}
COMMENT 'The last complete round of rollups; the next one looks at rows that were stored since it began. Read it with FINAL';

{{distributed "rollup_rounds" "cityHash64(work)"}}
