package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/keysentry/keysentry/internal/devstack"
)

// Proxy stands between the daemons and a server, and hurts their connections.
type Proxy struct {
	proxy *toxiproxy.Proxy
	addr  string
}

// startProxy listens on an address of its own; upstream need not answer yet.
func startProxy(name, upstream string) (*Proxy, error) {
	addr, err := devstack.FreeAddr()
	if err != nil {
		return nil, err
	}
	p := &Proxy{addr: addr}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p.proxy = toxiproxy.NewProxy(server, name, addr, upstream)
	return p, p.Restore()
}

// Addr is the proxy's host:port.
func (p *Proxy) Addr() string { return p.addr }

// Cut closes every connection, with what is on its way in them, and takes no new
// ones until Restore.
func (p *Proxy) Cut() { p.proxy.Stop() }

// Restore takes connections again.
func (p *Proxy) Restore() error {
	if err := p.proxy.Start(); err != nil && !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		return fmt.Errorf("start the proxy: %w", err)
	}
	return nil
}

// DelayAnswers holds back what the server says for d, more or less by jitter.
func (p *Proxy) DelayAnswers(d, jitter time.Duration) error {
	return p.add("latency", "downstream", map[string]int64{"latency": d.Milliseconds(), "jitter": jitter.Milliseconds()})
}

// Throttle lets kb KB a second through on the way to the server.
func (p *Proxy) Throttle(kb int64) error {
	return p.add("bandwidth", "upstream", map[string]int64{"rate": kb})
}

func (p *Proxy) add(kind, way string, attributes map[string]int64) error {
	b, err := json.Marshal(map[string]any{"type": kind, "stream": way, "attributes": attributes})
	if err != nil {
		return err
	}
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(string(b))); err != nil {
		return fmt.Errorf("%s of the proxy: %w", kind, err)
	}
	return nil
}

// Heal takes away delays and limits; connections stay as they are.
func (p *Proxy) Heal(ctx context.Context) { p.proxy.Toxics.ResetToxics(ctx) }

// portOf is the port of a host:port of our own making.
func portOf(addr string) (int, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return 0, fmt.Errorf("address %s: %w", addr, err)
	}
	return a.Port, nil
}
