package store

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// cuttingProxy forwards a connection and, when told to, keeps the server's
// answers to itself: what was sent arrives, and nobody hears of it.
type cuttingProxy struct {
	ln      net.Listener
	swallow atomic.Bool
}

func newCuttingProxy(t *testing.T, to string) *cuttingProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cuttingProxy{ln: ln}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(conn, to)
		}
	}()
	return p
}

func (p *cuttingProxy) addr() string           { return p.ln.Addr().String() }
func (p *cuttingProxy) swallowAnswers(on bool) { p.swallow.Store(on) }

func (p *cuttingProxy) serve(conn net.Conn, to string) {
	defer conn.Close()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	var sent atomic.Int64
	go func() {
		_, _ = io.Copy(up, io.TeeReader(conn, counter{&sent}))
		_ = up.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		if err != nil {
			return
		}
		// What comes before the rows must pass, or the client sends none.
		if sent.Load() > 16<<10 && p.swallow.Load() {
			continue
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}
