package platform

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// ThiefConfig describes someone who holds a stolen key.
type ThiefConfig struct {
	Network        string
	Key            secret.Value
	From           netip.Addr // a foreign address
	UserAgent      string
	MintsPerSecond float64
	Users          int // how far down the list of users it goes
	// Gateway is the host name of the gateway that sees the thief; default gw-1.
	Gateway string
	Seed    uint64
}

// Thief mints with a stolen key. What it does is seen by a gateway in front of
// the platform: its host is the gateway, its address a foreign one.
type Thief struct {
	cfg             ThiefConfig
	deps            FleetDeps
	boot            string
	minted, refused atomic.Int64
}

// NewThief builds a thief. Of deps it uses URL, Client, Emit, Fingerprint and
// Now.
func NewThief(cfg ThiefConfig, deps FleetDeps) (*Thief, error) {
	if cfg.Key.Empty() || cfg.MintsPerSecond <= 0 || cfg.Users < 1 || !cfg.From.IsValid() {
		return nil, errors.New("thief: Key, From, MintsPerSecond and Users are needed")
	}
	if deps.Client == nil {
		deps.Client = &http.Client{Timeout: 5 * time.Second}
	}
	if cfg.Gateway == "" {
		cfg.Gateway = "gw-1"
	}
	return &Thief{cfg: cfg, deps: deps, boot: random(8)}, nil
}

// Run steals until ctx ends. Refusals do not discourage it.
func (t *Thief) Run(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(t.cfg.Seed, 0x7161ef))
	c := caller{url: t.deps.URL, client: t.deps.Client}
	every := time.NewTicker(time.Duration(float64(time.Second) / t.cfg.MintsPerSecond))
	defer every.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		user := "user-" + strconv.Itoa((n+rng.IntN(2))%t.cfg.Users)
		m, err := c.mint(ctx, t.cfg.Key, user, t.deps.Now())
		if err != nil {
			continue
		}
		if m.status == http.StatusOK {
			t.minted.Add(1)
		} else {
			t.refused.Add(1)
		}
		e := newEvent(mintType(m.status), event.OriginGateway, t.cfg.Network, event.At(t.deps.Now()))
		stampMint(&e, m, user, t.deps.Fingerprint)
		e.SetString(event.FieldKeyID, t.deps.Fingerprint(t.cfg.Key.Reveal()))
		if t.cfg.UserAgent != "" {
			e.SetString(event.FieldUserAgent, t.cfg.UserAgent)
		}
		e.SetString(event.FieldHost, t.cfg.Gateway)
		e.SetString(event.FieldService, "gateway")
		e.SetString(event.FieldBoot, t.boot)
		e.SourceIP, e.Seq = t.cfg.From, uint64(n+1)
		e.Present = e.Present.Set(event.FieldSourceIP).Set(event.FieldSeq)
		t.deps.Emit(e)
	}
}

// Counts returns how many tokens the thief got, and how often it was refused.
func (t *Thief) Counts() (minted, refused int) {
	return int(t.minted.Load()), int(t.refused.Load())
}
