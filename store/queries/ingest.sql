-- What is stored per partition of Kafka; a difference between the counts is a fault. Gaps in the offsets: query coverage.
SELECT *, events + quarantined = distinct_records AS exactly_once FROM v_ingest ORDER BY topic, partition
