package store

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/ClickHouse/ch-go"
)

// insertPrefix begins the query id of every insert of every daemon into the
// database.
func (c *Client) insertPrefix() string { return "keysentry-insert-" + c.cfg.Database + "-" }

// inserter sends blocks over one connection of the native protocol, one at a
// time. It belongs to one goroutine.
type inserter struct {
	cfg    Config
	client *Client
	conn   *ch.Client
	self   string // random part of our query ids
	seq    int
	addr   int // which address to try next
}

func newInserter(c *Client) *inserter {
	return &inserter{cfg: c.cfg, client: c, self: rand.Text()[:12]}
}

func (s *inserter) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// send inserts b as one block and waits for the acknowledgement. An error that
// wraps errNotSent left nothing at the server.
func (s *inserter) send(ctx context.Context, b *block) error {
	if err := s.connect(ctx); err != nil {
		return fmt.Errorf("%w: connect: %w", errNotSent, err)
	}
	in := b.input()
	s.seq++
	err := s.conn.Do(ctx, ch.Query{
		Body:    "INSERT INTO " + b.table + " " + in.Columns() + " VALUES",
		Input:   in,
		QueryID: s.client.insertPrefix() + s.self + "-" + strconv.Itoa(s.seq),
		Settings: []ch.Setting{
			{Key: "insert_deduplication_token", Value: b.token(), Important: true},
			{Key: "insert_deduplicate", Value: "1", Important: true},
			{Key: "async_insert", Value: "0", Important: true},
			// A sender that is paused or cut off in the middle of its block: a new owner
			// of the partitions waits until the server gives it up, which takes 300 s by
			// default, and a killed query does not look up from its socket. Measured, the
			// insert ends four times this after its sender fell silent: 12 s. An insert that
			// is given up too early is looked up and sent again.
			{Key: "receive_timeout", Value: "3"},
			{Key: "distributed_foreground_insert", Value: "1"},
			// Folding the block's own copies would cost a merge of every block; a
			// block of ours has none.
			{Key: "optimize_on_insert", Value: "0"},
			{Key: "max_partitions_per_insert_block", Value: "100"},
		},
	})
	if err != nil {
		s.close()
		return fmt.Errorf("insert into %s: %w", b.table, err)
	}
	return nil
}

// connect dials the addresses in turn until one answers.
func (s *inserter) connect(ctx context.Context) error {
	if s.conn != nil && !s.conn.IsClosed() {
		return nil
	}
	var errs []error
	for range s.cfg.Addrs {
		addr := s.cfg.Addrs[s.addr%len(s.cfg.Addrs)]
		conn, err := ch.Dial(ctx, ch.Options{
			Address:          addr,
			Database:         s.cfg.Database,
			User:             s.cfg.Username,
			Password:         s.client.password.Reveal(),
			TLS:              s.tlsFor(addr),
			ClientName:       "keysentry",
			Compression:      s.compression(addr),
			DialTimeout:      s.cfg.DialTimeout,
			HandshakeTimeout: s.cfg.DialTimeout,
			ReadTimeout:      s.cfg.Insert.Timeout,
		})
		if err == nil {
			s.conn = conn
			return nil
		}
		errs = append(errs, err)
		s.addr++
	}
	return errors.Join(errs...)
}

func (s *inserter) tlsFor(addr string) *tls.Config {
	if s.client.tls == nil || s.client.tls.ServerName != "" {
		return s.client.tls
	}
	host, _, _ := net.SplitHostPort(addr)
	c := s.client.tls.Clone()
	c.ServerName = host
	return c
}

func (s *inserter) compression(addr string) ch.Compression {
	switch s.cfg.Insert.Compression {
	case "none":
		return ch.CompressionDisabled
	case "lz4":
		return ch.CompressionLZ4
	}
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return ch.CompressionDisabled
	}
	return ch.CompressionLZ4
}

// stopGrace is how long an attempt in flight may go on when the writer stops.
const stopGrace = 3 * time.Second

// attemptContext bounds one attempt: by the timeout, and by stopGrace once ctx
// ends, so that an insert under way is not torn without need.
func attemptContext(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(stopGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-out.Done():
		}
	})
	return out, func() {
		stop()
		cancel()
	}
}
