-- What posture checks found, run by run, so that a target can be charted over time.
CREATE TABLE {{create "posture_results"}}
(
    check_name    LowCardinality(String) COMMENT 'Check, as in the configuration: key_age',
    due           DateTime64(9, 'UTC') COMMENT 'When the run was due',
    network       LowCardinality(String) COMMENT 'Tenant that is judged; empty for the row of the whole run and for what belongs to no tenant',
    subject_field LowCardinality(String) COMMENT 'Field that names the subject; empty for the row of the whole run',
    subject_value String COMMENT 'What is judged',
    stage         LowCardinality(String) COMMENT 'Threshold that was crossed; empty when none was',
    status        LowCardinality(String) COMMENT 'pass, unknown, warn or fail',
    severity      LowCardinality(String) COMMENT 'digest, ticket or page; empty unless a threshold was crossed',
    value         String COMMENT 'What was measured, for people',
    summary       String COMMENT 'One sentence',
    query         String COMMENT 'SQL that shows the events behind it',
    n             Int64 COMMENT 'Journal record of the run; version of the row',
    stored_at     DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse stored the row; retention counts from here'
)
ENGINE = {{engine "ReplacingMergeTree(n)"}}
ORDER BY (check_name, due, network, subject_field, subject_value, stage)
TTL {{ttl "stored_at"}}
SETTINGS {{dedup}}
COMMENT 'Results of posture checks, one row per run and subject and one per run; read it with FINAL, or through v_posture';

{{distributed "posture_results" "cityHash64(check_name)"}}

{{view "v_posture"}} AS
SELECT
    due, check_name, network, subject_field, subject_value, status, severity, stage, value, summary, query,
    toBool(CAST(subject_field, 'String') = '') AS whole_run,
    toBool(due = max(due) OVER (PARTITION BY check_name)) AS newest
FROM posture_results FINAL
COMMENT 'Every run of every posture check: whole_run marks the verdict on the run, newest the last run of each check. For the scorecard of now: WHERE newest AND whole_run';
