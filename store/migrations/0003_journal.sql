-- Mirrors of the journal. The journal in Kafka is the truth; these are for reading.
CREATE TABLE {{create "journal"}}
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
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY n
SETTINGS {{dedup}}
COMMENT 'Mirror of the journal; read it with FINAL. Kept without limit';

{{distributed "journal" "cityHash64(n)"}}

CREATE TABLE {{create "findings"}}
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
ENGINE = {{engine "ReplacingMergeTree(n)"}}
ORDER BY id
SETTINGS {{dedup}}
COMMENT 'Findings as journaled; read it with FINAL, or through v_findings';

{{distributed "findings" "cityHash64(id)"}}

CREATE TABLE {{create "episodes"}}
(
    finding_id String COMMENT 'Finding whose episode goes on',
    n          Int64 COMMENT 'Journal record; version of the row',
    last       DateTime64(9, 'UTC') COMMENT 'Effective time of its last event so far',
    count      UInt64 COMMENT 'Events so far',
    closed     Bool COMMENT 'True when the episode has ended'
)
ENGINE = {{engine "ReplacingMergeTree(n)"}}
ORDER BY finding_id
SETTINGS {{dedup}}
COMMENT 'Latest state of each finding''s episode';

{{distributed "episodes" "cityHash64(finding_id)"}}

CREATE TABLE {{create "incidents"}}
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
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY (incident_id, n)
SETTINGS {{dedup}}
COMMENT 'Every change of every incident, in journal order; v_incidents folds it';

{{distributed "incidents" "cityHash64(incident_id)"}}

CREATE TABLE {{create "playbook_steps"}}
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
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY (run_id, n)
SETTINGS {{dedup}}
COMMENT 'Every change of every playbook run, in journal order';

{{distributed "playbook_steps" "cityHash64(run_id)"}}
