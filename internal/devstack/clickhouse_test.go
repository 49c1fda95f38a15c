package devstack

import (
	"context"
	"errors"
	"os"
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
