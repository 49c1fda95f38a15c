package store

import (
	"net"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// twoShards is a client on the first of two servers that are the shards of one
// cluster. Embedded servers have no keeper, which ON CLUSTER and replicas need, so
// each statement of the migrations runs on each server without them; tables,
// Distributed tables and views are those of a real cluster.
func twoShards(t *testing.T) (c *Client, shards [2]*Client) {
	t.Helper()
	var ports [2]int
	var addrs []string
	var listeners []net.Listener
	for i := range ports {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, free)
		ports[i], addrs = free.Addr().(*net.TCPAddr).Port, append(addrs, free.Addr().String())
	}
	all, err := loadMigrations(migrationFiles)
	if err != nil {
		t.Fatal(err)
	}
	all = append([]migration{{name: "migrations", text: createMigrations}}, all...)
	for i, port := range ports {
		_ = listeners[i].Close()
		server, err := devstack.StartClickHouse(t.Context(), devstack.ClickHouseOptions{Dir: t.TempDir(), TCPPort: port, RemoteServers: map[string][]string{"main": addrs}})
		devstacktest.Check(t, err)
		t.Cleanup(server.Kill)
		cfg := DefaultConfig()
		cfg.Addrs = []string{server.Addr()}
		if shards[i], err = New(cfg, Deps{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = shards[i].Close() })
		d := dialect{cluster: "main", database: cfg.Database, ttlDays: cfg.TTLDays}
		if err := shards[i].createDatabase(t.Context(), dialect{database: cfg.Database}); err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			stmts, err := d.statements(m)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range stmts {
				s = strings.NewReplacer(" ON CLUSTER 'main'", "", "ENGINE = Replicated", "ENGINE = ").Replace(s)
				if err := shards[i].conn.Exec(t.Context(), s); err != nil {
					t.Fatalf("shard %d, %s: %v\n%s", i+1, m.name, err, s)
				}
			}
		}
	}
	cfg := DefaultConfig()
	cfg.Addrs, cfg.Cluster = addrs[:1], "main"
	cfg.Insert.MaxAge = DefaultConfig().Insert.MaxAge / 10
	if c, err = New(cfg, Deps{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, shards
}

// TestTwoShards: the writer spreads events over the shards, stores none twice when
// they come again after a takeover, and rollups, registries, views and queries
// see all of them from one server.
func TestTwoShards(t *testing.T) {
	t.Parallel()
	c, shards := twoShards(t)
	const n = 2000
	w, stop := startWriter(t, c)
	assign(t, w, part0, 0)
	appendBatch(t, w, withReject(batch(part0, 0, n), 7), nil)
	flush(t, w)
	stop()
	var rows [2]uint64
	for i, shard := range shards {
		if err := shard.conn.QueryRow(t.Context(), "SELECT count() FROM events_local").Scan(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	// The shard of a row is a hash of its place, which splits them nearly evenly.
	if rows[0] < n/3 || rows[1] < n/3 || rows[0]+rows[1] != n-1 {
		t.Errorf("the shards hold %v events, want about half of %d each", rows, n-1)
	}

	// A new member that knows nothing of the committed offset reads all again.
	again, _ := startWriter(t, c)
	assign(t, again, part0, 0)
	appendBatch(t, again, withReject(batch(part0, 0, n+500), 7), nil)
	flush(t, again)
	if all, distinct := count(t, c); all != n+499 || distinct != n+499 {
		t.Errorf("%d rows, %d distinct; want %d", all, distinct, n+499)
	}
	if avoided := value(t, again.met.duplicates); avoided != n {
		t.Errorf("%v rows were left out, want %d", avoided, n)
	}
	got, err := c.Count(t.Context(), part0.Topic)
	if err != nil || got.Final != n+499 || got.View != n+499 || got.Quarantine != 1 {
		t.Errorf("counted %+v, %v", got, err)
	}
	roller := NewRoller(c)
	for range 2 {
		if _, err := roller.Once(t.Context()); err != nil {
			t.Fatal("roller:", err)
		}
	}
	if m, h, truth := rolled(t, c); m != truth || h != truth || truth != n+499 {
		t.Errorf("%d events, %d in the minutely rollup, %d in the hourly", truth, m, h)
	}
	askEverything(t, c, true)
	in, err := c.Info(t.Context())
	if err != nil || len(in.Faults) > 0 {
		t.Errorf("info: %v, %v", in.Faults, err)
	}
}
