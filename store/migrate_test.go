package store

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files and generated pages")

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs; run with -update when that is meant (-want +got):\n%s", file, diff)
	}
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	c := bareClient(t)
	first, err := c.Migrate(t.Context())
	if err != nil || len(first) == 0 {
		t.Fatal(first, err)
	}
	again, err := c.Migrate(t.Context())
	if err != nil || len(again) != 0 {
		t.Fatalf("applied %v again, error %v", again, err)
	}
	have, want, err := c.SchemaVersion(t.Context())
	if err != nil || have != want || have < len(first) {
		t.Errorf("schema version %d of %d, error %v", have, want, err)
	}
}

func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(all []migration) []migration
		want string
	}{
		{"an edited file", func(all []migration) []migration { all[0].checksum = strings.Repeat("0", 64); return all }, "was edited after it had been applied"},
		{"a database of a newer version", func(all []migration) []migration { return all[:len(all)-1] }, "run the newer version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t)
			all, err := loadMigrations(migrationFiles)
			if err != nil {
				t.Fatal(err)
			}
			all = append(tt.edit(all), migration{})[:len(tt.edit(all))]
			if _, err := c.migrate(t.Context(), all); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestMigrationNumbersRise(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{"no number": {"a.sql"}, "twice": {"0001_a.sql", "0001_b.sql"}, "zero": {"0000_a.sql"}} {
		fsys := fstest.MapFS{}
		for _, f := range files {
			fsys["migrations/"+f] = &fstest.MapFile{Data: []byte("SELECT 1;\n")}
		}
		if _, err := loadMigrations(fsys); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRetentionFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.cfg.TTLDays = 30
	if _, err := c.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var with30, other uint64
	err := c.conn.QueryRow(t.Context(), `SELECT countIf(engine_full LIKE '%toIntervalDay(30)%'), countIf(engine_full LIKE '%toIntervalDay(400)%')
		FROM system.tables WHERE database = currentDatabase()`).Scan(&with30, &other)
	if err != nil || with30 != 12 || other != 0 {
		t.Errorf("%d tables keep 30 days, %d keep 400, error %v; want 12 and 0", with30, other, err)
	}
}

// TestClusterStatements checks the replicated schema as text, and by the
// server's own parser.
func TestClusterStatements(t *testing.T) {
	t.Parallel()
	all, err := loadMigrations(migrationFiles)
	if err != nil {
		t.Fatal(err)
	}
	d := dialect{cluster: "main", database: "keysentry", ttlDays: 400}
	c := newClient(t)
	var text strings.Builder
	for _, m := range all {
		stmts, err := d.statements(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range stmts {
			text.WriteString(s + ";\n\n")
			if err := c.conn.Exec(t.Context(), "EXPLAIN AST "+s); err != nil {
				t.Errorf("%s: the server cannot parse it: %v", m.name, err)
			}
			if !strings.Contains(s, "ON CLUSTER 'main'") {
				t.Errorf("%s: not ON CLUSTER: %.60s", m.name, s)
			}
		}
	}
	golden(t, "testdata/cluster.sql", text.String())
}

// TestEverythingIsCommented asks the server which columns and tables lack a
// comment, and writes the reference page from the same answer.
func TestEverythingIsCommented(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	var page strings.Builder
	page.WriteString("# Schema\n\nGenerated from the migrations by `go test ./store -run TestEverythingIsCommented -update`; do not edit.\n")
	tables, err := c.Query(t.Context(), `SELECT name, comment, engine = 'View' AS is_view, sorting_key, partition_key, extract(engine_full, 'TTL (.*?) SETTINGS')
		FROM system.tables WHERE database = currentDatabase() ORDER BY is_view, name`, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	section := ""
	for tables.Next() {
		v, err := tables.Values()
		if err != nil {
			t.Fatal(err)
		}
		name, comment := Text(v[0]), Text(v[1])
		if comment == "" {
			t.Errorf("%s has no comment", name)
		}
		view := Text(v[2]) == "1"
		if s := map[bool]string{false: "Tables", true: "Views"}[view]; s != section {
			section = s
			page.WriteString("\n## " + s + "\n")
		}
		page.WriteString("\n### " + name + "\n\n" + comment + ".\n")
		if !view {
			page.WriteString("\nSorted by `" + Text(v[3]) + "`")
			if p := Text(v[4]); p != "" {
				page.WriteString(", partitioned by `" + p + "`")
			}
			if ttl := Text(v[5]); ttl != "" {
				page.WriteString(", kept until `" + ttl + "` (`ttl_days`)")
			}
			page.WriteString(".\n")
		}
		page.WriteString(columnTable(t, c, name, view))
	}
	golden(t, "../docs/reference/schema.md", page.String())
}

func columnTable(t *testing.T, c *Client, table string, view bool) string {
	t.Helper()
	rows, err := c.Query(t.Context(), "SELECT name, type, comment FROM system.columns WHERE database = currentDatabase() AND table = {table:String} ORDER BY position",
		map[string]string{"table": table})
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out strings.Builder
	if view {
		out.WriteString("\n| column | type |\n|---|---|\n")
	} else {
		out.WriteString("\n| column | type | meaning |\n|---|---|---|\n")
	}
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("| `" + Text(v[0]) + "` | `" + Text(v[1]) + "` |")
		if !view {
			if Text(v[2]) == "" {
				t.Errorf("%s.%s has no comment", table, Text(v[0]))
			}
			out.WriteString(" " + Text(v[2]) + " |")
		}
		out.WriteString("\n")
	}
	return out.String()
}
