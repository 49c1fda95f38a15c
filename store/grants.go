package store

import "strings"

// right is what a user may do on something.
type right struct {
	rights []string
	on     string
}

// analystRights are reading every table and view of the database.
func analystRights(database string) []right {
	return []right{{[]string{"SELECT", "SHOW TABLES", "SHOW COLUMNS"}, database + ".*"}}
}

// writerRights are what the daemon does: migrations, inserts, look-ups, and
// seeing its own inserts that run. On a cluster it asks every server.
func writerRights(database, cluster string) []right {
	out := []right{
		{[]string{"SELECT", "INSERT", "CREATE DATABASE", "CREATE TABLE", "CREATE VIEW", "DROP VIEW", "ALTER TABLE", "SHOW"}, database + ".*"},
		// CREATE OR REPLACE VIEW makes the new one under such a name and drops the old.
		{[]string{"DROP TABLE"}, database + "._tmp_replace_*"},
		{[]string{"SELECT"}, "system.processes"},
		{[]string{"SELECT"}, "system.disks"},
	}
	engine := []string{"TABLE ENGINE"}
	if cluster == "" {
		return append(out, right{engine, "AggregatingMergeTree"}, right{engine, "ReplacingMergeTree"})
	}
	return append(out, right{engine, "ReplicatedAggregatingMergeTree"}, right{engine, "ReplicatedReplacingMergeTree"}, right{engine, "Distributed"},
		right{[]string{"CLUSTER", "REMOTE"}, "*.*"})
}

// analystSettings bound the analysts' role: reading only, and never so much that
// a heavy question starves the daemon's inserts.
var analystSettings = [][2]string{
	{"readonly", "2"},
	{"max_execution_time", "60"},
	{"max_memory_usage", "4000000000"},
	{"do_not_merge_across_partitions_select_final", "1"},
}

// onClusters makes the servers of a cluster answer questions that join or look up
// in more than one table: the inner one is asked once, by the first server, and
// not by each shard for itself.
var onClusters = [2]string{"distributed_product_mode", "global"}

func statements(rights []right, on, to string) []string {
	out := make([]string, len(rights))
	for i, r := range rights {
		out[i] = "GRANT" + on + " " + strings.Join(r.rights, ", ") + " ON " + r.on + " TO " + to
	}
	return out
}

// Grants is the SQL that makes the analysts' role: reading every table and
// view of the database and nothing else. Give the role to people afterwards:
// GRANT keysentry_analyst TO someone.
func Grants(database, cluster string) []string {
	on := dialect{cluster: cluster}.onCluster()
	rights := analystRights(database)
	var settings []string
	for _, kv := range analystSettings {
		settings = append(settings, kv[0]+" = "+kv[1])
	}
	if cluster != "" {
		settings = append(settings, onClusters[0]+" = '"+onClusters[1]+"'")
	}
	return append([]string{"CREATE ROLE IF NOT EXISTS keysentry_analyst" + on + " SETTINGS " + strings.Join(settings, ", ")},
		statements(rights, on, "keysentry_analyst")...)
}

// WriterGrants is the SQL with what the daemon's own user needs.
func WriterGrants(database, user, cluster string) []string {
	return statements(writerRights(database, cluster), dialect{cluster: cluster}.onCluster(), user)
}
