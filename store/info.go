package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Info is what doctor tells about the server.
type Info struct {
	Version  string
	Timezone string
	Uptime   time.Duration
	User     string
	// Schema and WantSchema are the migration applied last, and the last known.
	Schema, WantSchema int
	Settings           map[string]string // those that matter to us
	Grants             []string          // of the user; empty when the server does not say
	FreeBytes          uint64            // on the disk with the least space
	// Problems are faults and doubts in words; empty is good.
	Problems []string
}

// minVersion is the oldest server that the schema is known to work with:
// settings inside views and named tuples need it.
const minVersion = 24

// Info asks the server about itself.
func (c *Client) Info(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var in Info
	var uptime uint32
	err := c.conn.QueryRow(ctx, "SELECT version(), timezone(), uptime(), currentUser()").Scan(&in.Version, &in.Timezone, &uptime, &in.User)
	if err != nil {
		return in, fmt.Errorf("ask the server: %w", explain(err))
	}
	in.Uptime = time.Duration(uptime) * time.Second
	var major int
	if _, err := fmt.Sscanf(in.Version, "%d.", &major); err != nil || major < minVersion {
		in.problem("version %s: at least %d.1 is needed", in.Version, minVersion)
	}
	in.Schema, in.WantSchema, err = c.SchemaVersion(ctx)
	switch {
	case err != nil:
		in.problem("schema: %v", err)
	case in.Schema != in.WantSchema:
		in.problem("schema: migration %d is applied, %d is current; run applies the rest", in.Schema, in.WantSchema)
	}
	c.infoSettings(ctx, &in)
	return in, nil
}

func (in *Info) problem(format string, args ...any) {
	in.Problems = append(in.Problems, fmt.Sprintf(format, args...))
}

// infoSettings reads what may be hidden from an ordinary user: what cannot be
// read is a problem to tell, no failure.
func (c *Client) infoSettings(ctx context.Context, in *Info) {
	in.Settings = map[string]string{}
	rows, err := c.conn.Query(ctx, "SELECT name, value FROM system.settings WHERE name IN ('async_insert', 'insert_deduplicate', 'readonly', 'max_memory_usage', 'max_execution_time')")
	if err != nil {
		in.problem("settings cannot be read: %v", err)
	} else {
		_ = eachPair(rows, func(k, v string) { in.Settings[k] = v })
	}
	if v := in.Settings["readonly"]; v != "" && v != "0" {
		in.problem("user %s is read-only (readonly = %s): the daemon must be able to write", in.User, v)
	}
	rows, err = c.conn.Query(ctx, "SHOW GRANTS")
	if err == nil {
		_ = each(rows, func(s string) { in.Grants = append(in.Grants, s) })
	}
	rows, err = c.conn.Query(ctx, "SELECT toString(min(free_space)), '' FROM system.disks")
	if err == nil {
		_ = eachPair(rows, func(k, _ string) { _, _ = fmt.Sscan(k, &in.FreeBytes) })
		if in.FreeBytes < 1<<30 {
			in.problem("the server's disk has %d MB left", in.FreeBytes>>20)
		}
	}
	if _, err := c.runningInserts(ctx, nil); err != nil {
		in.problem("system.processes cannot be read, so inserts of a former writer cannot be awaited: %v", err)
	}
}

func each(rows driver.Rows, f func(string)) error {
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return err
		}
		f(s)
	}
	return rows.Err()
}

func eachPair(rows driver.Rows, f func(k, v string)) error {
	defer rows.Close()
	for rows.Next() {
		var k, v string
		if err := rows.Scan(&k, &v); err != nil {
			return err
		}
		f(k, v)
	}
	return rows.Err()
}

// Grants is the SQL that makes the analysts' role: reading every table and
// view of the database and nothing else. Give the role to people afterwards:
// GRANT keysentry_analyst TO someone.
func Grants(database, cluster string) []string {
	on := dialect{cluster: cluster}.onCluster()
	return []string{
		"CREATE ROLE IF NOT EXISTS keysentry_analyst" + on + " SETTINGS readonly = 2, max_execution_time = 60, do_not_merge_across_partitions_select_final = 1",
		"GRANT" + on + " SELECT, SHOW TABLES, SHOW COLUMNS ON " + database + ".* TO keysentry_analyst",
	}
}

// WriterGrants is the SQL with what the daemon's own user needs.
func WriterGrants(database, user, cluster string) []string {
	on := dialect{cluster: cluster}.onCluster()
	rights := []string{"SELECT", "INSERT", "CREATE", "ALTER", "DROP VIEW", "SHOW"}
	out := []string{"GRANT" + on + " " + strings.Join(rights, ", ") + " ON " + database + ".* TO " + user}
	out = append(out, "GRANT"+on+" SELECT ON system.* TO "+user)
	if cluster != "" {
		out = append(out, "GRANT"+on+" CLUSTER, REMOTE ON *.* TO "+user)
	}
	return out
}
