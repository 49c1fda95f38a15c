-- Facts about keys and certificates outlive the events that told them, because
-- an old key is exactly the one to know about.
CREATE TABLE {{create "server_keys"}}
(
    network     LowCardinality(String) COMMENT 'Tenant of the platform',
    key_id      String COMMENT 'Fingerprint of the server key',
    state       LowCardinality(String) COMMENT 'created, active, retired or revoked',
    at          DateTime64(9, 'UTC') COMMENT 'When it reached the state',
    told_by     LowCardinality(String) COMMENT 'events:TOPIC, or journal for our own runs',
    actor       String COMMENT 'Administrator who did it',
    run_id      String COMMENT 'Playbook run that did it'
)
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY (network, key_id, state, at, told_by)
SETTINGS {{dedup}}
COMMENT 'Facts about server keys, kept without limit; v_server_keys folds them';

{{distributed "server_keys" "cityHash64(network, key_id)"}}

CREATE TABLE {{create "certificates"}}
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
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY (network, cert_id, state, at, told_by)
SETTINGS {{dedup}}
COMMENT 'Facts about client certificates, kept without limit; v_certificates folds them';

{{distributed "certificates" "cityHash64(network, cert_id)"}}
