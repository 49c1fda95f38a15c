package kafkawire

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// connections are those that are open, so that they can be given up when the other
// side takes requests and answers none: the library only ever gives up idle ones.
type connections struct {
	mu   sync.Mutex
	open map[*connection]struct{}
}

type connection struct {
	net.Conn
	of *connections
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// dial opens a connection and notes it.
func (s *connections) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &connection{conn, s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*connection]struct{}{}
	}
	s.open[c] = struct{}{}
	return c, nil
}

// closeAll closes what is open now and returns how many that were.
func (s *connections) closeAll() int {
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close()
	}
	return len(open)
}

// Reconnect gives up every connection, those in use too: their requests fail, and
// are tried again on new ones by whoever retries. It returns how many there were.
func (c *Client) Reconnect() int {
	c.transport.CloseIdleConnections() // the pool, with what it knows of the brokers
	return c.conns.closeAll()
}

// reachWithin bounds the attempt to reach one broker.
const reachWithin = 2 * time.Second

// Reachable reports whether any of the configured brokers takes a connection; it
// asks nothing there.
func (c *Client) Reachable(ctx context.Context) error {
	var last error
	for _, b := range c.cfg.Brokers {
		bounded, cancel := context.WithTimeout(ctx, reachWithin)
		conn, err := (&net.Dialer{}).DialContext(bounded, "tcp", b)
		cancel()
		if err == nil {
			return conn.Close()
		}
		last = err
	}
	return fmt.Errorf("no broker can be reached: %w", last)
}
