package store

import (
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/internal/secret"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*Config)
		want   []string // beginnings of the errors
	}{
		{"default", func(*Config) {}, nil},
		{"no address", func(c *Config) { c.Addrs = nil }, []string{"addrs: "}},
		{"address without port", func(c *Config) { c.Addrs = []string{"a:1", "b"} }, []string{"addrs[1]: "}},
		{"database is SQL", func(c *Config) { c.Database = "x; DROP TABLE y" }, []string{"database: "}},
		{"cluster is SQL", func(c *Config) { c.Cluster = "x'" }, []string{"cluster: "}},
		{"no user", func(c *Config) { c.Username = "" }, []string{"username: "}},
		{"two passwords", func(c *Config) { c.Password = secret.Ref{File: "a", Env: "B"} }, []string{"password: "}},
		{"retention beyond what DateTime holds", func(c *Config) { c.TTLDays = 36_500 }, []string{"ttl_days: "}},
		{"no retention", func(c *Config) { c.TTLDays = 0 }, []string{"ttl_days: "}},
		{"tls fields without tls", func(c *Config) { c.TLS.CAFile = "ca" }, []string{"tls.enabled: "}},
		{"half a key pair", func(c *Config) { c.TLS = TLSConfig{Enabled: true, CertFile: "c"} }, []string{"tls: "}},
		{"small queue", func(c *Config) { c.Insert.QueueBytes = 1 }, []string{"insert.queue_bytes: "}},
		{"unknown compression", func(c *Config) { c.Insert.Compression = "zip" }, []string{"insert.compression: "}},
		{"all at once", func(c *Config) { *c = Config{} }, []string{"addrs: ", "database: ", "username: ", "ttl_days: ", "dial_timeout: ",
			"insert.max_rows: ", "insert.max_bytes: ", "insert.max_age: ", "insert.timeout: ", "insert.compression: ", "rollup.every: "}},
		{"hasty rollup", func(c *Config) { c.Rollup.Every = time.Millisecond }, []string{"rollup.every: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			tt.change(&cfg)
			got := cfg.Validate()
			if len(got) != len(tt.want) {
				t.Fatalf("got %v, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i].Error(), tt.want[i]) {
					t.Errorf("error %d is %q, want it to begin with %q", i, got[i], tt.want[i])
				}
			}
		})
	}
}

func TestNewDoesNotConnect(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Addrs = []string{"127.0.0.1:1"}
	c, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "check that ClickHouse is running") {
		t.Errorf("got %v, want advice", err)
	}
	cfg.Password.Env = "KEYSENTRY_TEST_UNSET"
	if _, err := New(cfg, Deps{Getenv: func(string) string { return "" }}); err == nil {
		t.Error("an empty password variable was accepted")
	}
}
