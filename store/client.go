package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

// Deps is what the package needs from outside.
type Deps struct {
	Log     *slog.Logger
	Metrics *metrics.Registry   // nil: counted, but read by nobody
	Getenv  func(string) string // for a password in the environment; nil: os.Getenv
}

// Client talks to ClickHouse: migrations, queries and everything that is not
// the insert of events. It is safe for concurrent use. Close it last.
type Client struct {
	cfg      Config
	log      *slog.Logger
	met      *metrics.Registry
	password secret.Value
	tls      *tls.Config
	conn     driver.Conn
}

// New prepares a client; it reads the password and the TLS files but does not
// connect.
func New(cfg Config, d Deps) (*Client, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Getenv == nil {
		d.Getenv = os.Getenv
	}
	pw, err := cfg.Password.Resolve(d.Getenv)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	tc, err := cfg.TLS.load()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	c := &Client{cfg: cfg, log: d.Log, met: metrics.OrNew(d.Metrics), password: pw, tls: tc}
	// The database may not exist before Migrate; the connection therefore names
	// none and every statement is qualified by the session's USE in Migrate, or
	// by the option below afterwards.
	c.conn, err = clickhouse.Open(c.options(cfg.Database))
	if err != nil {
		return nil, fmt.Errorf("prepare connection: %w", err)
	}
	return c, nil
}

func (c *Client) options(database string) *clickhouse.Options {
	settings := clickhouse.Settings{"do_not_merge_across_partitions_select_final": 1}
	if c.cfg.Cluster != "" {
		settings[onClusters[0]] = onClusters[1]
		// An INSERT SELECT goes through one server: run by each shard for itself, a
		// rollup would group a part of the rows, and leave the result where it was read.
		// An insert is acknowledged when its shards have the rows, not when the first
		// server has queued them.
		settings["distributed_foreground_insert"] = 1
		settings["parallel_distributed_insert_select"] = 0
	}
	return &clickhouse.Options{
		Addr:        c.cfg.Addrs,
		Auth:        clickhouse.Auth{Database: database, Username: c.cfg.Username, Password: c.password.Reveal()},
		TLS:         c.tls,
		DialTimeout: c.cfg.DialTimeout,
		ClientInfo:  clickhouse.ClientInfo{Products: []struct{ Name, Version string }{{Name: "keysentry"}}},
		Settings:    settings,
	}
}

// Close ends the connections.
func (c *Client) Close() error { return c.conn.Close() }

// Ping says whether the server answers and lets us in.
func (c *Client) Ping(ctx context.Context) error {
	if err := c.conn.Ping(ctx); err != nil {
		return fmt.Errorf("ping clickhouse: %w", explain(err))
	}
	return nil
}

func (t TLSConfig) load() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load client certificate: %w", err)
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out, nil
}
