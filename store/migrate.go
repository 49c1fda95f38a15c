package store

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strconv"
	"strings"
	"text/template"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one numbered file. Its checksum is of the file, not of what the
// templates make of it, so that a changed ttl_days is no edit.
type migration struct {
	number   int
	name     string
	text     string
	checksum string
}

// loadMigrations reads the files of dir in fsys, in order; no two have a number.
func loadMigrations(fsys fs.FS) ([]migration, error) {
	names, err := fs.Glob(fsys, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	out := make([]migration, 0, len(names))
	for _, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".sql")
		digits, _, _ := strings.Cut(base, "_")
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 || len(out) > 0 && n <= out[len(out)-1].number {
			return nil, fmt.Errorf("migration %s: its number must be above the one before", name)
		}
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		out = append(out, migration{number: n, name: base, text: string(b), checksum: hex.EncodeToString(sum[:])})
	}
	return out, nil
}

// dialect turns the neutral text of a migration into the statements of one
// server or of a cluster.
type dialect struct {
	cluster  string
	database string
	ttlDays  int
}

// statements renders m. On a cluster each table becomes a local one with a
// replicated engine and a Distributed one in front of it; on one server the
// second disappears.
func (d dialect) statements(m migration) ([]string, error) {
	t, err := template.New(m.name).Funcs(template.FuncMap{
		"create":      d.create,
		"engine":      d.engine,
		"dedup":       d.dedup,
		"ttl":         d.ttl,
		"distributed": d.distributed,
		"view":        d.view,
		"alter":       d.alter,
	}).Parse(m.text)
	if err != nil {
		return nil, fmt.Errorf("migration %s: %w", m.name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, nil); err != nil {
		return nil, fmt.Errorf("migration %s: %w", m.name, err)
	}
	var out []string
	for part := range strings.SplitSeq(b.String(), ";\n") {
		if s := stripComments(part); s != "" {
			out = append(out, s)
		}
	}
	return out, nil
}

func stripComments(s string) string {
	var lines []string
	for l := range strings.SplitSeq(s, "\n") {
		if !strings.HasPrefix(l, "--") {
			lines = append(lines, l)
		}
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

func (d dialect) onCluster() string {
	if d.cluster == "" {
		return ""
	}
	return " ON CLUSTER '" + d.cluster + "'"
}

// local is the table that holds the rows of name on each server.
func (d dialect) local(name string) string {
	if d.cluster == "" {
		return name
	}
	return name + "_local"
}

func (d dialect) create(name string) string {
	return "IF NOT EXISTS " + d.local(name) + d.onCluster()
}

func (d dialect) engine(name string) string {
	if d.cluster == "" {
		return name
	}
	return "Replicated" + name
}

// dedup sets how many past inserts the server remembers by their token.
func (d dialect) dedup() string {
	if d.cluster == "" {
		return "non_replicated_deduplication_window = 1000"
	}
	return "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800"
}

func (d dialect) ttl(column string) string {
	return column + " + toIntervalDay(" + strconv.Itoa(d.ttlDays) + ")"
}

func (d dialect) distributed(name, shardBy string) string {
	if d.cluster == "" {
		return ""
	}
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s%s AS %s\nENGINE = Distributed('%s', '%s', '%s', %s);\n",
		name, d.onCluster(), d.local(name), d.cluster, d.database, d.local(name), shardBy)
}

func (d dialect) view(name string) string { return "CREATE OR REPLACE VIEW " + name + d.onCluster() }

// alter changes a table, and on a cluster what stands in front of it too.
func (d dialect) alter(name, change string) string {
	out := "ALTER TABLE " + d.local(name) + d.onCluster() + " " + change + ";\n"
	if d.cluster != "" {
		out += "ALTER TABLE " + name + d.onCluster() + " " + change + ";\n"
	}
	return out
}

// Migrate creates the database and applies the migrations that it lacks, in
// order. It returns the names of those it applied. A migration that was edited
// after it had been applied is an error, and nothing is applied then. Two
// daemons that migrate at once do no harm: every statement may repeat.
func (c *Client) Migrate(ctx context.Context) ([]string, error) {
	all, err := loadMigrations(migrationFiles)
	if err != nil {
		return nil, err
	}
	return c.migrate(ctx, all)
}

const createMigrations = `CREATE TABLE {{create "migrations"}}
(
    number     UInt32 COMMENT 'Number of the migration',
    name       String COMMENT 'Its file',
    checksum   String COMMENT 'SHA-256 of the file when it was applied',
    applied_at DateTime('UTC') DEFAULT now() COMMENT 'When it was applied'
)
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY number
SETTINGS {{dedup}}
COMMENT 'Migrations of the schema that were applied';

{{distributed "migrations" "number"}}`

func (c *Client) migrate(ctx context.Context, all []migration) ([]string, error) {
	d := dialect{cluster: c.cfg.Cluster, database: c.cfg.Database, ttlDays: c.cfg.TTLDays}
	if err := c.createDatabase(ctx, d); err != nil {
		return nil, err
	}
	first, err := d.statements(migration{name: "migrations", text: createMigrations})
	if err != nil {
		return nil, err
	}
	if err := c.execAll(ctx, "migrations", first); err != nil {
		return nil, err
	}
	done, err := c.appliedMigrations(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkHistory(all, done); err != nil {
		return nil, err
	}
	var applied []string
	for _, m := range all {
		if _, ok := done[m.number]; ok {
			continue
		}
		stmts, err := d.statements(m)
		if err != nil {
			return applied, err
		}
		if err := c.execAll(ctx, m.name, stmts); err != nil {
			return applied, err
		}
		err = c.conn.Exec(ctx, "INSERT INTO migrations (number, name, checksum) VALUES (?, ?, ?)", uint32(m.number), m.name, m.checksum)
		if err != nil {
			return applied, fmt.Errorf("record migration %s: %w", m.name, explain(err))
		}
		c.log.Info("migration applied", "migration", m.name)
		applied = append(applied, m.name)
	}
	return applied, c.applyTTL(ctx, d)
}

func (c *Client) createDatabase(ctx context.Context, d dialect) error {
	conn, err := clickhouse.Open(c.options("default"))
	if err != nil {
		return fmt.Errorf("prepare connection: %w", err)
	}
	defer conn.Close()
	if err := conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+d.database+d.onCluster()); err != nil {
		return fmt.Errorf("create database %s: %w", d.database, explain(err))
	}
	return nil
}

func (c *Client) execAll(ctx context.Context, name string, stmts []string) error {
	for i, s := range stmts {
		if err := c.conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("migration %s, statement %d: %w", name, i+1, explain(err))
		}
	}
	return nil
}

func (c *Client) appliedMigrations(ctx context.Context) (map[int]migration, error) {
	rows, err := c.conn.Query(ctx, "SELECT number, name, checksum FROM migrations FINAL ORDER BY number")
	if err != nil {
		return nil, fmt.Errorf("read applied migrations: %w", explain(err))
	}
	return scanMigrations(rows)
}

func scanMigrations(rows driver.Rows) (map[int]migration, error) {
	defer rows.Close()
	out := map[int]migration{}
	for rows.Next() {
		var n uint32
		var m migration
		if err := rows.Scan(&n, &m.name, &m.checksum); err != nil {
			return nil, fmt.Errorf("read applied migrations: %w", err)
		}
		m.number = int(n)
		out[m.number] = m
	}
	return out, rows.Err()
}

// checkHistory compares what was applied with what this program holds.
func checkHistory(all []migration, done map[int]migration) error {
	var errs []error
	known := map[int]bool{}
	for _, m := range all {
		known[m.number] = true
		if was, ok := done[m.number]; ok && was.checksum != m.checksum {
			errs = append(errs, fmt.Errorf("migration %s was edited after it had been applied (applied %.12s, now %.12s): restore the file and put the change into a new migration",
				m.name, was.checksum, m.checksum))
		}
	}
	for n, was := range done {
		if !known[n] {
			errs = append(errs, fmt.Errorf("the database has migration %s, which this version does not know: run the newer version of keysentry", was.name))
		}
	}
	return errors.Join(errs...)
}

// applyTTL makes the tables keep rows as long as the configuration says now.
// Rows that are there already follow when their parts are merged.
func (c *Client) applyTTL(ctx context.Context, d dialect) error {
	rows, err := c.conn.Query(ctx, `SELECT name, extract(engine_full, 'TTL (\w+) \+ toIntervalDay\(\d+\)'), extract(engine_full, 'toIntervalDay\((\d+)\)')
		FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND engine_full LIKE '%toIntervalDay(%'`)
	if err != nil {
		return fmt.Errorf("read retention: %w", explain(err))
	}
	defer rows.Close()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"materialize_ttl_after_modify": 0}))
	for rows.Next() {
		var table, column, days string
		if err := rows.Scan(&table, &column, &days); err != nil {
			return fmt.Errorf("read retention: %w", err)
		}
		if days == strconv.Itoa(d.ttlDays) {
			continue
		}
		if err := c.conn.Exec(ctx, "ALTER TABLE "+table+d.onCluster()+" MODIFY TTL "+d.ttl(column)); err != nil {
			return fmt.Errorf("change retention of %s: %w", table, explain(err))
		}
		c.log.Info("retention changed", "table", table, "days", d.ttlDays, "was", days)
	}
	return rows.Err()
}

// SchemaVersion is the number of the last migration that was applied, and of
// the last that this program holds.
func (c *Client) SchemaVersion(ctx context.Context) (have, want int, err error) {
	all, err := loadMigrations(migrationFiles)
	if err != nil {
		return 0, 0, err
	}
	if len(all) > 0 {
		want = all[len(all)-1].number
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	done, err := c.appliedMigrations(ctx)
	if err != nil {
		return 0, want, err
	}
	for n := range done {
		have = max(have, n)
	}
	return have, want, checkHistory(all, done)
}
