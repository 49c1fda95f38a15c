package store

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// infoSettings reads what may be hidden from an ordinary user: what cannot be
// read is a problem to tell, no failure.
func (c *Client) infoSettings(ctx context.Context, in *Info) {
	in.Settings = map[string]string{}
	rows, err := c.conn.Query(ctx, `SELECT name, value FROM system.settings WHERE name IN ('async_insert', 'insert_deduplicate', 'readonly',
		'max_memory_usage', 'max_partitions_per_insert_block')`)
	if err != nil {
		in.problem("settings cannot be read: %v", err)
		return
	}
	if err := eachPair(rows, func(k, v string) { in.Settings[k] = v }); err != nil {
		in.problem("settings cannot be read: %v", err)
	}
	if v := in.Settings["readonly"]; v != "" && v != "0" {
		in.fault("user %s is read-only (readonly = %s): the daemon must be able to write; give the user a profile without readonly", in.User, v)
	}
	if in.Settings["insert_deduplicate"] == "0" {
		in.problem("insert_deduplicate = 0 in the profile of user %s: a repeated insert is then told apart by look-ups alone; set it to 1", in.User)
	}
	if n, err := strconv.Atoi(in.Settings["max_partitions_per_insert_block"]); err == nil && n > 0 && n < maxDays {
		in.problem("max_partitions_per_insert_block = %d in the profile of user %s: an insert may span %d days; raise it to %d", n, in.User, maxDays, maxDays)
	}
}

// maxClockDifference is how far the server's clock may be off before retention
// and rollups, which count from it, mislead.
const maxClockDifference = 30 * time.Second

// infoServer looks at disk, clock, cluster and at what runs.
func (c *Client) infoServer(ctx context.Context, in *Info) {
	rows, err := c.conn.Query(ctx, "SELECT toString(min(free_space)), '' FROM system.disks")
	if err == nil {
		_ = eachPair(rows, func(k, _ string) { _, _ = fmt.Sscan(k, &in.FreeBytes) })
		if in.FreeBytes < 1<<30 {
			in.problem("the server's disk has %d MB left: free space or lower ttl_days (%d now)", in.FreeBytes>>20, c.cfg.TTLDays)
		}
	}
	var now time.Time
	if err := c.conn.QueryRow(ctx, "SELECT now64(3, 'UTC')").Scan(&now); err == nil {
		if off := time.Since(now).Round(time.Second); off.Abs() > maxClockDifference {
			in.problem("the server's clock differs from this machine's by %v: set both by NTP, since retention and rollups count from the server's", off)
		}
	}
	if c.cfg.Cluster != "" {
		var shards uint64
		err := c.conn.QueryRow(ctx, "SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = ?", c.cfg.Cluster).Scan(&shards)
		if err == nil && shards == 0 {
			in.fault("the server knows no cluster %q (store.cluster): SELECT DISTINCT cluster FROM system.clusters lists those it knows", c.cfg.Cluster)
		}
	}
	if _, err := c.runningInserts(ctx, nil); err != nil {
		in.fault("system.processes cannot be read, so inserts of a former writer cannot be awaited: %v", err)
	}
}

// infoGrants asks for every right that the daemon needs, and names the statement
// that gives what is missing. Servers before 24.11 do not know the question.
func (c *Client) infoGrants(ctx context.Context, in *Info) error {
	rows, err := c.conn.Query(ctx, "SHOW GRANTS")
	if err == nil {
		_ = each(rows, func(s string) { in.Grants = append(in.Grants, s) })
	}
	for _, g := range writerRights(c.cfg.Database, c.cfg.Cluster) {
		for _, right := range g.rights {
			var may uint8
			err := c.conn.QueryRow(ctx, "CHECK GRANT "+right+" ON "+g.on).Scan(&may)
			code, answered := serverCode(err)
			switch {
			case answered && code == codeSyntax:
				return nil
			case err != nil:
				return fmt.Errorf("check grants: %w", explain(err))
			case may == 0:
				in.fault("user %s lacks a right; run as an administrator: GRANT %s ON %s TO %s", in.User, right, g.on, in.User)
			}
		}
	}
	return nil
}
