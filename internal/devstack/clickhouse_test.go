package devstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// startClickHouse starts a server for one test, or skips the test when the
// machine cannot have one; on CI that is a failure.
func startClickHouse(t *testing.T, o ClickHouseOptions) *ClickHouse {
	t.Helper()
	c, err := StartClickHouse(t.Context(), o)
	if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return c
}

func connect(t *testing.T, addr string, auth clickhouse.Auth) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{addr}, Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestClickHouseServesNativeProtocol(t *testing.T) {
	t.Parallel()
	began := time.Now()
	c := startClickHouse(t, ClickHouseOptions{})
	t.Logf("ready after %v, engine %s, pid %d", time.Since(began), c.Engine(), c.Pid())
	conn := connect(t, c.Addr(), clickhouse.Auth{})
	ctx := t.Context()
	if err := conn.Exec(ctx, "CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Exec(ctx, "INSERT INTO t SELECT number FROM numbers(1000)"); err != nil {
		t.Fatal(err)
	}
	var n uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM t").Scan(&n); err != nil || n != 1000 {
		t.Fatalf("count = %d, %v; want 1000", n, err)
	}
}

func TestClickHouseSurvivesRestart(t *testing.T) {
	t.Parallel()
	o := ClickHouseOptions{Dir: t.TempDir()}
	c := startClickHouse(t, o)
	ctx := t.Context()
	for _, sql := range []string{
		"CREATE DATABASE d",
		"CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n",
		"INSERT INTO d.t SELECT number FROM numbers(1000)",
	} {
		if err := connect(t, c.Addr(), clickhouse.Auth{}).Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	o.TCPPort, o.HTTPPort = c.TCPPort(), c.HTTPPort()
	for _, end := range []struct {
		name string
		do   func()
	}{
		{"stop", func() {
			if err := c.Stop(ctx); err != nil {
				t.Error(err)
			}
		}},
		{"kill", func() { c.Kill() }},
	} {
		end.do()
		began := time.Now()
		again := startClickHouse(t, o)
		t.Logf("after %s: ready after %v", end.name, time.Since(began))
		if again.Addr() != c.Addr() || again.Pid() == c.Pid() {
			t.Errorf("after %s: address %s pid %d, was %s pid %d", end.name, again.Addr(), again.Pid(), c.Addr(), c.Pid())
		}
		var n uint64
		if err := connect(t, again.Addr(), clickhouse.Auth{}).QueryRow(ctx, "SELECT count() FROM d.t").Scan(&n); err != nil || n != 1000 {
			t.Fatalf("after %s: count = %d, %v; want 1000", end.name, n, err)
		}
		c = again
	}
}

func TestClickHouseUsers(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("look & see"))
	c := startClickHouse(t, ClickHouseOptions{Users: []User{{
		Name: "analyst", PasswordSHA256: hex.EncodeToString(sum[:]), ReadOnly: true,
		Grants: []string{"GRANT SELECT ON d.*"},
	}, {
		Name: "writer", Grants: []string{"GRANT INSERT, SELECT ON d.t"},
	}}})
	ctx := t.Context()
	admin := connect(t, c.Addr(), clickhouse.Auth{})
	for _, sql := range []string{
		"CREATE DATABASE d",
		"CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n",
		"CREATE TABLE default.hidden (n UInt64) ENGINE = MergeTree ORDER BY n",
	} {
		if err := admin.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	const accessDenied, wrongPassword, readOnly = 497, 516, 164
	analyst := clickhouse.Auth{Username: "analyst", Password: "look & see"}
	for _, tc := range []struct {
		name string
		auth clickhouse.Auth
		sql  string
		want int32 // the server's error code, 0 for none
	}{
		{"analyst reads", analyst, "SELECT count() FROM d.t", 0},
		{"analyst may not insert", analyst, "INSERT INTO d.t VALUES (1)", accessDenied},
		{"analyst may not drop", analyst, "DROP TABLE d.t", accessDenied},
		{"analyst sees only what is granted", analyst, "SELECT count() FROM default.hidden", accessDenied},
		{"wrong password", clickhouse.Auth{Username: "analyst", Password: "x"}, "SELECT 1", wrongPassword},
		{"unknown user", clickhouse.Auth{Username: "nobody"}, "SELECT 1", wrongPassword},
		{"writer inserts", clickhouse.Auth{Username: "writer"}, "INSERT INTO d.t VALUES (1)", 0},
		{"writer may not drop", clickhouse.Auth{Username: "writer"}, "DROP TABLE d.t", accessDenied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := connect(t, c.Addr(), tc.auth).Exec(ctx, tc.sql)
			var ex *clickhouse.Exception
			switch {
			case err == nil && tc.want != 0:
				t.Fatalf("%s went through; want code %d", tc.sql, tc.want)
			case err == nil:
			case !errors.As(err, &ex):
				t.Fatal(err)
			case ex.Code != tc.want && !(tc.want == accessDenied && ex.Code == readOnly):
				t.Errorf("code %d (%v), want %d", ex.Code, err, tc.want)
			}
		})
	}
}

func TestClickHouseShards(t *testing.T) {
	t.Parallel()
	other := startClickHouse(t, ClickHouseOptions{})
	ports, err := freePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	c := startClickHouse(t, ClickHouseOptions{
		TCPPort: ports[0], HTTPPort: ports[1],
		RemoteServers: map[string][]string{"two": {hostPort(ports[0]), other.Addr()}},
	})
	ctx := t.Context()
	for _, addr := range []string{c.Addr(), other.Addr()} {
		if err := connect(t, addr, clickhouse.Auth{}).Exec(ctx, "CREATE TABLE default.t (n UInt64) ENGINE = MergeTree ORDER BY n"); err != nil {
			t.Fatal(err)
		}
	}
	conn := connect(t, c.Addr(), clickhouse.Auth{})
	for _, sql := range []string{
		"CREATE TABLE default.d AS default.t ENGINE = Distributed(two, default, t, n)",
		"INSERT INTO default.d SELECT number FROM numbers(100) SETTINGS distributed_foreground_insert = 1",
	} {
		if err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	for table, want := range map[string]uint64{"default.d": 100, "default.t": 50} {
		var n uint64
		if err := conn.QueryRow(ctx, "SELECT count() FROM "+table).Scan(&n); err != nil || n != want {
			t.Errorf("%s: %d rows, %v; want %d", table, n, err, want)
		}
	}
}

func TestClickHouseRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", hostPort(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	port := taken.Addr().(*net.TCPAddr).Port
	for _, tc := range []struct {
		name string
		o    ClickHouseOptions
		want string
	}{
		{"bad user name", ClickHouseOptions{Users: []User{{Name: "a b"}}}, `user "a b"`},
		{"user default", ClickHouseOptions{Users: []User{{Name: "default"}}}, `user "default"`},
		{"bad cluster name", ClickHouseOptions{RemoteServers: map[string][]string{"<x>": nil}}, `cluster "<x>"`},
		{"bad shard address", ClickHouseOptions{RemoteServers: map[string][]string{"c": {"nowhere"}}}, "missing port"},
		{"broken grant", ClickHouseOptions{Users: []User{{Name: "u", Grants: []string{"GRANT NONSENSE"}}}}, "none of the grants"},
		{"port taken", ClickHouseOptions{TCPPort: port}, "is taken"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := StartClickHouse(t.Context(), tc.o)
			if err == nil {
				c.Kill()
				t.Fatal("it started")
			}
			if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
				t.Skip(err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want %q in it", err, tc.want)
			}
		})
	}
}

// clickhouse-local ends when a connection's first packet is refused; ours must
// not, and must still stop.
func TestClickHouseOutlivesRefusedClients(t *testing.T) {
	t.Parallel()
	c := startClickHouse(t, ClickHouseOptions{})
	ctx := t.Context()
	for name, auth := range map[string]clickhouse.Auth{
		"unknown user":     {Username: "nobody"},
		"unknown database": {Database: "nowhere"},
	} {
		if err := connect(t, c.Addr(), auth).Ping(ctx); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
	stray, err := net.Dial("tcp", c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stray.Write([]byte("\x99 this is no hello"))
	_ = stray.Close()
	for range 20 {
		if err := connect(t, c.Addr(), clickhouse.Auth{}).Ping(ctx); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
	t.Logf("stopped in %v", time.Since(began))
}
