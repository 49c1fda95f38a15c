// Package platform imitates the platform whose server keys Keysentry guards: an
// HTTP server that mints auth tokens, opens sessions and keeps server keys, with
// faults on demand; a fleet of customer backends that use it and tell what they
// saw as audit events; and a thief. It exists for demonstrations and tests and
// promises no more than the facts that rules and playbooks rely on.
//
// Nothing here outlives the context that its Run or Serve was given.
package platform

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// Overlap says what issuing a key does to the one before.
type Overlap string

// The two semantics.
const (
	Parallel Overlap = "parallel" // both answer until one is revoked
	Replace  Overlap = "replace"  // the old one is dead at once
)

// Config describes the platform of one network.
type Config struct {
	Network string
	Overlap Overlap
	// TokenLife is how long an auth token is good for, AccessLife an access token,
	// Leeway how far a token's times may be off.
	TokenLife, AccessLife, Leeway time.Duration
	// AdminToken opens the admin API.
	AdminToken secret.Value
	// HangFor bounds the fault Hang.
	HangFor time.Duration
}

// DefaultConfig is a network like the reference platform's.
func DefaultConfig() Config {
	return Config{Network: "demo", Overlap: Parallel, TokenLife: 10 * time.Minute, AccessLife: 30 * 24 * time.Hour,
		Leeway: 30 * time.Second, HangFor: time.Minute}
}

// Deps is what a Platform works with.
type Deps struct {
	Now func() time.Time
	// Emit takes the console's lifecycle events; may be nil.
	Emit func(event.Event)
	// Fingerprint is the keyed fingerprint that events carry.
	Fingerprint func(value string) string
	Logger      *slog.Logger
}

// Platform is the server.
type Platform struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	mu       sync.Mutex
	secure   bool
	keys     []*serverKey
	tokens   map[string]authToken
	sessions map[string]int // open sessions by user
	banned   map[string]bool
	faults   map[Op]*Fault
	stats    Stats
}

type serverKey struct {
	id, label, value string
	active           bool
	issued           time.Time
}

type authToken struct {
	user            string
	issued, expires time.Time
}

// Stats counts what the platform did. MinActive is the lowest number of active
// keys since the first one was made.
type Stats struct {
	Issued, Revoked, Minted, MintsRefused, Sessions, SessionsRefused, SessionsRevoked int
	MinActive                                                                         int
}

// New builds a platform without keys.
func New(cfg Config, deps Deps) (*Platform, error) {
	if cfg.Overlap != Parallel && cfg.Overlap != Replace {
		return nil, fmt.Errorf("simulated platform: overlap %q: use parallel or replace", cfg.Overlap)
	}
	if cfg.AdminToken.Empty() || deps.Now == nil || deps.Fingerprint == nil {
		return nil, errors.New("simulated platform: AdminToken, Now and Fingerprint are needed")
	}
	log := deps.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Platform{cfg: cfg, deps: deps, log: log, secure: true, tokens: map[string]authToken{},
		sessions: map[string]int{}, banned: map[string]bool{}, faults: map[Op]*Fault{}}, nil
}

// Serve answers on l until ctx ends.
func (p *Platform) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: p.Handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve the simulated platform: %w", err)
	case <-ctx.Done():
	}
	err := srv.Close()
	<-done
	return err
}

// IssueKey makes a key as an administrator would in the console, and tells so.
func (p *Platform) IssueKey(label string) (id string, key secret.Value) {
	p.mu.Lock()
	k := &serverKey{id: "sk-" + random(6), label: label, value: "sk_live_" + random(24), active: true, issued: p.deps.Now()}
	var replaced []*serverKey
	if p.cfg.Overlap == Replace {
		for _, old := range p.keys {
			if old.active {
				old.active = false
				replaced = append(replaced, old)
			}
		}
	}
	p.keys = append(p.keys, k)
	p.stats.Issued++
	p.noteActive()
	p.mu.Unlock()
	p.console(event.TypeServerKeyCreated, k.value)
	p.console(event.TypeServerKeyActivated, k.value)
	for _, old := range replaced {
		p.console(event.TypeServerKeyRevoked, old.value)
	}
	return k.id, secret.New(k.value)
}

// RevokeKey kills a key; false when there is none with that id.
func (p *Platform) RevokeKey(id string) bool {
	p.mu.Lock()
	i := slices.IndexFunc(p.keys, func(k *serverKey) bool { return k.id == id })
	if i < 0 {
		p.mu.Unlock()
		return false
	}
	k := p.keys[i]
	was := k.active
	k.active = false
	if was {
		p.stats.Revoked++
	}
	p.noteActive()
	p.mu.Unlock()
	if was {
		p.console(event.TypeServerKeyRevoked, k.value)
	}
	return true
}

// noteActive keeps Stats.MinActive; the caller holds the lock.
func (p *Platform) noteActive() {
	n := 0
	for _, k := range p.keys {
		if k.active {
			n++
		}
	}
	if p.stats.MinActive == 0 && len(p.keys) == 1 || n < p.stats.MinActive {
		p.stats.MinActive = n
	}
}

// ActiveKeys returns the ids of the keys that answer.
func (p *Platform) ActiveKeys() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for _, k := range p.keys {
		if k.active {
			ids = append(ids, k.id)
		}
	}
	return ids
}

// Stats returns the counts so far.
func (p *Platform) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// SetSecureMode turns Secure Mode on or off: while it is off, minting answers 403.
func (p *Platform) SetSecureMode(on bool) {
	p.mu.Lock()
	was := p.secure
	p.secure = on
	p.mu.Unlock()
	switch {
	case was && !on:
		p.console(event.TypeSecureModeDisabled, "")
	case !was && on:
		p.console(event.TypeSecureModeEnabled, "")
	}
}

// Ban makes sessions of a user answer 401.
func (p *Platform) Ban(user string) {
	p.mu.Lock()
	p.banned[user] = true
	p.mu.Unlock()
}

// console emits a lifecycle event, as the audit export of the console would.
func (p *Platform) console(t event.Type, key string) {
	if p.deps.Emit == nil {
		return
	}
	now := event.At(p.deps.Now())
	e := event.Event{Type: t, Origin: event.OriginConsole}
	e.Present = e.Present.Set(event.FieldType)
	e.SetString(event.FieldID, "console-"+random(8))
	e.SetInstant(event.FieldTime, now)
	e.SetInstant(event.FieldSentAt, now)
	e.SetString(event.FieldNetwork, p.cfg.Network)
	e.SetString(event.FieldActor, "console-admin")
	e.SetString(event.FieldActorRole, "admin")
	if key != "" {
		e.SetString(event.FieldKeyID, p.deps.Fingerprint(key))
	}
	p.deps.Emit(e)
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func digest(v string) string {
	h := sha256.Sum256([]byte(v))
	return hex.EncodeToString(h[:])
}
