package kafkawire

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// swallower takes connections and what comes on them, and answers nothing.
func swallower(t *testing.T) (addr string, taken chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	taken = make(chan struct{}, 64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taken <- struct{}{}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String(), taken
}

// TestReconnectEndsWhatHangs: requests on connections that nobody answers end at
// once, and the next ones are made on others.
func TestReconnectEndsWhatHangs(t *testing.T) {
	t.Parallel()
	addr, taken := swallower(t)
	cfg := DefaultConfig()
	cfg.Brokers, cfg.RequestTimeout = []string{addr}, time.Minute
	c, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := c.Reconnect(); n != 0 {
		t.Errorf("%d connections of a client that made none", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 2 {
		failed := make(chan error, 2)
		go func() {
			_, err := c.Kafka().ApiVersions(ctx, &kafkago.ApiVersionsRequest{})
			failed <- err
		}()
		go func() { // as a consumer group does
			conn, err := c.Dialer().DialContext(ctx, "tcp", addr)
			if err == nil {
				_, err = conn.ApiVersions()
			}
			failed <- err
		}()
		<-taken
		// More than once: the library opens connections of its own meanwhile, and one
		// that was taken may not be noted yet.
		for ended := 0; ended < 2; {
			select {
			case err := <-failed:
				ended++
				if err == nil || errors.Is(err, context.DeadlineExceeded) || !Transient(err) {
					t.Errorf("a request on a connection that was given up ended with %v", err)
				}
			default:
				c.Reconnect()
				runtime.Gosched()
			}
		}
	}
	if err := c.Reachable(ctx); err != nil {
		t.Errorf("who takes connections is reachable: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Brokers = []string{gone, gone}
	c, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Reachable(t.Context()); err == nil || !errors.As(err, new(*net.OpError)) {
		t.Errorf("got %v", err)
	}
}
