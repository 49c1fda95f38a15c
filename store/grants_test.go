package store

import (
	"os"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/secret"
)

// inFile are the statements of a users file, which name no user.
func inFile(rights []right) []string {
	out := statements(rights, "", "x")
	for i := range out {
		out[i] = strings.TrimSuffix(out[i], " TO x")
	}
	return out
}

// TestLeastRights: the daemon's user and an analyst, each with exactly the rights
// that the documented statements give.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	server, err := devstack.StartClickHouse(t.Context(), devstack.ClickHouseOptions{Dir: t.TempDir(), Users: []devstack.User{
		{Name: "writer", PasswordSHA256: sha(writerPassword), Grants: inFile(writerRights("keysentry", ""))},
		{Name: "analyst", PasswordSHA256: sha(analystPassword), Settings: analystSettings, Grants: inFile(analystRights("keysentry"))},
		{Name: "meagre", PasswordSHA256: sha(writerPassword), Grants: []string{"GRANT SELECT, SHOW ON keysentry.*", "GRANT SELECT ON system.processes"}},
	}})
	devstacktest.Check(t, err)
	t.Cleanup(server.Kill)
	as := func(user, password string) *Client {
		t.Helper()
		cfg := DefaultConfig()
		cfg.Addrs, cfg.Username = []string{server.Addr()}, user
		if password != "" {
			cfg.Password = secret.Ref{Env: "PW"}
		}
		cfg.Insert.MaxAge /= 10
		c, err := New(cfg, Deps{Getenv: func(string) string { return password }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	writer := as("writer", writerPassword)
	for range 2 { // the second time it only changes retention
		if _, err := writer.Migrate(t.Context()); err != nil {
			t.Fatal("the writer cannot migrate:", err)
		}
		writer.cfg.TTLDays = 30
	}
	w, _ := startWriter(t, writer)
	assign(t, w, part0, 0)
	appendBatch(t, w, withReject(batch(part0, 0, 1000), 501), nil)
	flush(t, w)
	if _, err := NewRoller(writer).Once(t.Context()); err != nil {
		t.Error("the writer cannot roll up:", err)
	}
	records := history(t)
	m := NewMirror(writer, replayOf(records))
	stop := startMirror(t, m)
	waitFor(t, func() bool { n, err := m.Mirrored(t.Context()); return err == nil && n == int64(len(records)) })
	stop()
	askEverything(t, writer, true)
	in, err := writer.Info(t.Context())
	if err != nil || len(in.Faults)+len(in.Problems) > 0 || in.Schema != in.WantSchema {
		t.Errorf("info of the writer: %v %v, %v", in.Faults, in.Problems, err)
	}
	root := as("default", "")
	for _, s := range []string{"CREATE DATABASE other", "CREATE TABLE other.secrets (n UInt8) ENGINE = MergeTree ORDER BY n"} {
		if err := root.conn.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	mayNot(t, writer, "CREATE DATABASE third", "SELECT * FROM other.secrets", "SELECT * FROM system.users", "DROP TABLE events", "DROP DATABASE keysentry", "TRUNCATE TABLE events")

	analyst := as("analyst", analystPassword)
	askEverything(t, analyst, true)
	mayNot(t, analyst, "INSERT INTO clock_offsets (host) VALUES ('x')", "DROP TABLE events", "ALTER TABLE events DELETE WHERE 1", "ALTER TABLE events MODIFY TTL stored_at + toIntervalDay(1)",
		"SELECT * FROM system.users", "SELECT * FROM system.processes", "SELECT * FROM other.secrets", "CREATE TABLE t (n UInt8) ENGINE = Memory", "SET readonly = 0",
		"SELECT * FROM file('/etc/passwd', 'LineAsString', 'l String')", "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString', 'l String')", "SYSTEM FLUSH LOGS", "KILL QUERY WHERE 1")
	limits, err := analyst.Query(t.Context(), "SELECT name, value FROM system.settings WHERE name IN ('readonly', 'max_memory_usage', 'max_execution_time') ORDER BY name", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := table(t, limits); len(got) != 3 || got[0][1] != "60" || got[1][1] != "4000000000" || got[2][1] != "2" {
		t.Errorf("limits of the analyst: %v", got)
	}
	if in, err := analyst.Info(t.Context()); err != nil || !strings.Contains(strings.Join(in.Faults, "; "), "read-only") {
		t.Errorf("info of the analyst: %v, %v; want a fault that it is read-only", in.Faults, err)
	}
	in, err = as("meagre", writerPassword).Info(t.Context())
	faults := strings.Join(in.Faults, "\n")
	for _, want := range []string{"GRANT INSERT ON keysentry.* TO meagre", "GRANT ALTER TABLE ON keysentry.* TO meagre", "GRANT SELECT ON system.disks TO meagre"} {
		if err != nil || !strings.Contains(faults, want) {
			t.Errorf("info of a user without rights: %v, %v; want %q", in.Faults, err, want)
		}
	}
	if strings.Contains(faults, "GRANT SELECT ON keysentry.*") {
		t.Errorf("a right that is there is missed: %s", faults)
	}
	if err := as("analyst", "wrong").Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "check username and password") {
		t.Errorf("wrong password: got %v, want advice", err)
	}
}

func mayNot(t *testing.T, c *Client, statements ...string) {
	t.Helper()
	for _, q := range statements {
		err := c.conn.Exec(t.Context(), q)
		if code, ok := serverCode(err); !ok || code != codeAccessDenied && code != codeReadonly {
			t.Errorf("user %s, %s: got %v, want a refusal", c.cfg.Username, q, err)
		}
	}
}

func TestGrantsAsSQL(t *testing.T) {
	t.Parallel()
	golden(t, "testdata/grants.sql", strings.Join([]string{
		strings.Join(WriterGrants("keysentry", "keysentry", ""), ";\n"),
		strings.Join(Grants("keysentry", ""), ";\n"),
		strings.Join(WriterGrants("keysentry", "keysentry", "main"), ";\n"),
		strings.Join(Grants("keysentry", "main"), ";\n"),
	}, ";\n\n")+";\n")
	docs := ""
	for _, page := range []string{"run-in-production.md", "analysts.md"} {
		b, err := os.ReadFile("../docs/howto/" + page)
		if err != nil {
			t.Fatal(err)
		}
		docs += string(b)
	}
	for _, s := range append(WriterGrants("keysentry", "keysentry", ""), Grants("keysentry", "")...) {
		if !strings.Contains(docs, s+";") {
			t.Errorf("the guides lack %q", s)
		}
	}
	c := newClient(t)
	for _, s := range append(Grants("keysentry", "main"), WriterGrants("keysentry", "keysentry", "main")...) {
		if err := c.conn.Exec(t.Context(), "EXPLAIN AST "+s); err != nil {
			t.Errorf("%s: the server cannot parse it: %v", s, err)
		}
	}
}
