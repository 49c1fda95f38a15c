package stage

import (
	"io"
	"net"
	"testing"
	"time"
)

// echo is a server that says back what it hears.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func says(t *testing.T, c net.Conn, word string) {
	t.Helper()
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		t.Fatalf("heard %q, %v; want %q", got, err, word)
	}
}

func TestProxyCutsAndRestores(t *testing.T) {
	t.Parallel()
	p, err := startProxy("echo", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Cut)
	c := dial(t, p.Addr())
	says(t, c, "hello")
	if err := p.DelayAnswers(time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "is anybody there?"); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if b, err := io.ReadAll(c); len(b) > 0 {
		t.Errorf("an answer that was held came after the cut: %q (%v)", b, err)
	}
	if other, err := net.Dial("tcp", p.Addr()); err == nil {
		_ = other.Close()
		t.Error("a cut proxy takes connections")
	}
	p.Heal(t.Context())
	for range 2 { // a second time does nothing
		if err := p.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Throttle(1 << 20); err != nil {
		t.Fatal(err)
	}
	says(t, dial(t, p.Addr()), "again")
	if err := p.Throttle(1); err == nil {
		t.Error("the same fault twice is no error")
	}
}
