package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// Host is one customer backend.
type Host struct {
	Name, Region, Service, Release string
	SourceIP                       netip.Addr
	// MintsPerSecond is its rate.
	MintsPerSecond float64
	// ReloadDelay is how long after a new key appeared the host uses it.
	ReloadDelay time.Duration
	// Straggler never reloads.
	Straggler bool
	// ClockOffset is how far its clock is ahead, ClockDrift how many seconds more
	// each second.
	ClockOffset time.Duration
	ClockDrift  float64
}

// FleetConfig describes the backends of a network.
type FleetConfig struct {
	Network string
	Hosts   []Host
	// Users is how many users mint.
	Users int
	// Poll is how often a host looks for a new key, Heartbeat how often it tells
	// that it lives.
	Poll, Heartbeat time.Duration
	Seed            uint64
}

// FleetDeps is what a Fleet works with.
type FleetDeps struct {
	URL    string // of the platform
	Client *http.Client
	// Keys returns the key that is in the secret store now.
	Keys func(ctx context.Context) (secret.Value, error)
	// Emit takes the audit events; calls come from many goroutines. Origin tells
	// which topic an event belongs to: backend, or gateway for sessions.
	Emit        func(event.Event)
	Fingerprint func(value string) string
	Now         func() time.Time
	Logger      *slog.Logger
}

// Fleet is the backends of one network.
type Fleet struct {
	cfg   FleetConfig
	deps  FleetDeps
	log   *slog.Logger
	hosts []*host
}

// HostStatus is what a host did so far.
type HostStatus struct {
	Host            string
	KeyID           string
	Minted, Refused int
	Clock           time.Duration // how far ahead
}

// NewFleet builds the hosts. It starts nothing.
func NewFleet(cfg FleetConfig, deps FleetDeps) (*Fleet, error) {
	if deps.Keys == nil || deps.Emit == nil || deps.Fingerprint == nil || deps.Now == nil || deps.URL == "" {
		return nil, errors.New("fleet: URL, Keys, Emit, Fingerprint and Now are needed")
	}
	if cfg.Poll <= 0 || cfg.Heartbeat <= 0 || cfg.Users < 1 || len(cfg.Hosts) == 0 {
		return nil, errors.New("fleet: Hosts, Users, Poll and Heartbeat are needed")
	}
	if deps.Client == nil {
		deps.Client = &http.Client{Timeout: 5 * time.Second}
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{cfg: cfg, deps: deps, log: deps.Logger}
	now := deps.Now()
	for i, h := range cfg.Hosts {
		rng := rand.New(rand.NewPCG(cfg.Seed, uint64(i)))
		f.hosts = append(f.hosts, &host{f: f, cfg: h, rng: rng, boot: fmt.Sprintf("%016x", rng.Uint64()), began: now,
			reload: make(chan struct{}, 1)})
	}
	return f, nil
}

// Run lets the hosts live until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, h := range f.hosts {
		wg.Go(func() { h.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Reload makes a host (or every one, for "") look for a new key now; it still
// takes its own delay. It returns the hosts that took the call: stragglers do
// not.
func (f *Fleet) Reload(name string) []string {
	var took []string
	for _, h := range f.hosts {
		h.mu.Lock()
		deaf := h.cfg.Straggler
		h.mu.Unlock()
		if name != "" && h.cfg.Name != name || deaf {
			continue
		}
		select {
		case h.reload <- struct{}{}:
		default:
		}
		took = append(took, h.cfg.Name)
	}
	return took
}

// Names lists the hosts.
func (f *Fleet) Names() []string {
	out := make([]string, 0, len(f.hosts))
	for _, h := range f.hosts {
		out = append(out, h.cfg.Name)
	}
	return out
}

// SetStraggler makes a host deaf to new keys, or cures it.
func (f *Fleet) SetStraggler(name string, on bool) {
	for _, h := range f.hosts {
		if h.cfg.Name == name {
			h.mu.Lock()
			h.cfg.Straggler = on
			h.mu.Unlock()
		}
	}
}

// SetClock sets how far a host's clock is ahead from now on, and how many
// seconds it gains each second.
func (f *Fleet) SetClock(name string, offset time.Duration, drift float64) {
	for _, h := range f.hosts {
		if h.cfg.Name == name {
			h.mu.Lock()
			h.began, h.cfg.ClockOffset, h.cfg.ClockDrift = f.deps.Now(), offset, drift
			h.mu.Unlock()
		}
	}
}

// Status tells how the hosts fare, in the order of the configuration.
func (f *Fleet) Status() []HostStatus {
	out := make([]HostStatus, 0, len(f.hosts))
	for _, h := range f.hosts {
		h.mu.Lock()
		s := HostStatus{Host: h.cfg.Name, Minted: h.minted, Refused: h.refused, Clock: h.ahead(f.deps.Now())}
		if !h.key.Empty() {
			s.KeyID = f.deps.Fingerprint(h.key.Reveal())
		}
		h.mu.Unlock()
		out = append(out, s)
	}
	return out
}
