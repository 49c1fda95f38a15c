GRANT SELECT, INSERT, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER TABLE, SHOW ON keysentry.* TO keysentry;
GRANT DROP TABLE ON keysentry._tmp_replace_* TO keysentry;
GRANT SELECT ON system.processes TO keysentry;
GRANT SELECT ON system.disks TO keysentry;
GRANT TABLE ENGINE ON AggregatingMergeTree TO keysentry;
GRANT TABLE ENGINE ON ReplacingMergeTree TO keysentry;

CREATE ROLE IF NOT EXISTS keysentry_analyst SETTINGS readonly = 2, max_execution_time = 60, max_memory_usage = 4000000000, do_not_merge_across_partitions_select_final = 1;
GRANT SELECT, SHOW TABLES, SHOW COLUMNS ON keysentry.* TO keysentry_analyst;

GRANT ON CLUSTER 'main' SELECT, INSERT, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER TABLE, SHOW ON keysentry.* TO keysentry;
GRANT ON CLUSTER 'main' DROP TABLE ON keysentry._tmp_replace_* TO keysentry;
GRANT ON CLUSTER 'main' SELECT ON system.processes TO keysentry;
GRANT ON CLUSTER 'main' SELECT ON system.disks TO keysentry;
GRANT ON CLUSTER 'main' TABLE ENGINE ON ReplicatedAggregatingMergeTree TO keysentry;
GRANT ON CLUSTER 'main' TABLE ENGINE ON ReplicatedReplacingMergeTree TO keysentry;
GRANT ON CLUSTER 'main' TABLE ENGINE ON Distributed TO keysentry;
GRANT ON CLUSTER 'main' CLUSTER, REMOTE ON *.* TO keysentry;

CREATE ROLE IF NOT EXISTS keysentry_analyst ON CLUSTER 'main' SETTINGS readonly = 2, max_execution_time = 60, max_memory_usage = 4000000000, do_not_merge_across_partitions_select_final = 1, distributed_product_mode = 'global';
GRANT ON CLUSTER 'main' SELECT, SHOW TABLES, SHOW COLUMNS ON keysentry.* TO keysentry_analyst;
