package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// host is one backend at work: one goroutine mints, beats and reloads.
type host struct {
	f      *Fleet
	boot   string
	rng    *rand.Rand
	reload chan struct{}

	mu              sync.Mutex
	cfg             Host
	began           time.Time
	key             secret.Value
	next            secret.Value // seen in the store, not used yet
	nextAt          time.Time
	seq             uint64
	minted, refused int
}

// run mints at the host's rate. The first key is taken at once.
func (h *host) run(ctx context.Context) {
	h.look(ctx, true)
	h.emit(event.TypeHostStarted, nil)
	mint := time.NewTimer(h.pause())
	defer mint.Stop()
	poll := time.NewTicker(h.f.cfg.Poll)
	defer poll.Stop()
	beat := time.NewTicker(h.f.cfg.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			h.emit(event.TypeHostStopped, nil)
			return
		case <-mint.C:
			h.login(ctx)
			mint.Reset(h.pause())
		case <-poll.C:
			h.look(ctx, false)
		case <-h.reload:
			h.look(ctx, false)
		case <-beat.C:
			h.emit(event.TypeHeartbeat, func(e *event.Event) {
				h.stampKey(e)
				h.mu.Lock()
				off := h.ahead(h.f.deps.Now())
				h.mu.Unlock()
				e.ClockOffset, e.ClockError = off.Seconds(), 0.01
				e.Present = e.Present.Set(event.FieldClockOffset).Set(event.FieldClockError)
			})
		}
	}
}

// pause is the time to the next mint: exponential around the rate.
func (h *host) pause() time.Duration {
	if h.cfg.MintsPerSecond <= 0 {
		return time.Hour
	}
	d := time.Duration(h.rng.ExpFloat64() / h.cfg.MintsPerSecond * float64(time.Second))
	return max(d, time.Millisecond)
}

// look reads the secret store and takes a new key over after the host's delay.
func (h *host) look(ctx context.Context, first bool) {
	h.mu.Lock()
	deaf := h.cfg.Straggler && !first
	h.mu.Unlock()
	if deaf {
		return
	}
	v, err := h.f.deps.Keys(ctx)
	if err != nil {
		h.f.log.Debug("a simulated host cannot read its key", "host", h.cfg.Name, "err", err)
		return
	}
	now := h.f.deps.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case first || h.key.Empty():
		h.key = v
	case v.Reveal() == h.key.Reveal():
		h.next = secret.Value{}
	case v.Reveal() != h.next.Reveal():
		h.next, h.nextAt = v, now.Add(h.cfg.ReloadDelay)
	}
	if !h.next.Empty() && !now.Before(h.nextAt) {
		h.key, h.next = h.next, secret.Value{}
	}
}

// ahead is how far the host's clock is ahead; the caller holds the lock.
func (h *host) ahead(now time.Time) time.Duration {
	return h.cfg.ClockOffset + time.Duration(h.cfg.ClockDrift*float64(now.Sub(h.began)))
}

// login mints for a user, who then opens a session.
func (h *host) login(ctx context.Context) {
	user := "user-" + strconv.Itoa(h.rng.IntN(h.f.cfg.Users))
	h.mu.Lock()
	key, clock := h.key, h.f.deps.Now().Add(h.ahead(h.f.deps.Now()))
	h.mu.Unlock()
	if key.Empty() {
		return
	}
	c := caller{url: h.f.deps.URL, client: h.f.deps.Client}
	m, err := c.mint(ctx, key, user, clock)
	if err != nil {
		h.f.log.Debug("a simulated mint failed", "host", h.cfg.Name, "err", err)
		return
	}
	client := userAddr(h.rng, user)
	h.mu.Lock()
	if m.status == http.StatusOK {
		h.minted++
	} else {
		h.refused++
	}
	h.mu.Unlock()
	h.emit(mintType(m.status), func(e *event.Event) {
		stampMint(e, m, user, h.f.deps.Fingerprint)
		e.SetString(event.FieldKeyID, h.f.deps.Fingerprint(key.Reveal()))
		e.ClientIP = client
		e.Present = e.Present.Set(event.FieldClientIP)
	})
	if m.status != http.StatusOK {
		return
	}
	status, code, err := c.session(ctx, user, m.token)
	if err != nil {
		return
	}
	h.emitSession(session{user: user, token: m.token, status: status, code: code, client: client})
}

type session struct {
	user, token, code string
	status            int
	client            netip.Addr
}

// emitSession tells of a session as the gateway in front of the platform saw it.
func (h *host) emitSession(s session) {
	t := event.TypeSessionCreated
	if s.status != http.StatusOK {
		t = event.TypeSessionDenied
	}
	now := event.At(h.f.deps.Now())
	e := newEvent(t, event.OriginGateway, h.f.cfg.Network, now)
	e.SetString(event.FieldHost, h.cfg.Name)
	e.SetString(event.FieldService, h.cfg.Service)
	e.SetString(event.FieldUserID, s.user)
	e.SetString(event.FieldTokenID, h.f.deps.Fingerprint(s.token))
	e.SetString(event.FieldEndpoint, "/api/v4/sessions")
	e.SetString(event.FieldMethod, http.MethodPost)
	if s.code != "" {
		e.SetString(event.FieldCode, s.code)
	}
	e.Status, e.SourceIP = uint16(s.status), s.client
	e.Present = e.Present.Set(event.FieldStatus).Set(event.FieldSourceIP)
	h.f.deps.Emit(e)
}

// emit tells of something that the host itself saw, on its own clock.
func (h *host) emit(t event.Type, fill func(*event.Event)) {
	h.mu.Lock()
	h.seq++
	seq, now := h.seq, h.f.deps.Now()
	clock := event.At(now.Add(h.ahead(now)))
	cfg := h.cfg
	h.mu.Unlock()
	e := newEvent(t, event.OriginBackend, h.f.cfg.Network, clock)
	for f, v := range map[event.Field]string{event.FieldHost: cfg.Name, event.FieldRegion: cfg.Region,
		event.FieldService: cfg.Service, event.FieldRelease: cfg.Release, event.FieldBoot: h.boot} {
		if v != "" {
			e.SetString(f, v)
		}
	}
	e.Seq = seq
	e.Present = e.Present.Set(event.FieldSeq)
	if cfg.SourceIP.IsValid() {
		e.SourceIP = cfg.SourceIP
		e.Present = e.Present.Set(event.FieldSourceIP)
	}
	if fill != nil {
		fill(&e)
	}
	h.f.deps.Emit(e)
}

func (h *host) stampKey(e *event.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.key.Empty() {
		e.SetString(event.FieldKeyID, h.f.deps.Fingerprint(h.key.Reveal()))
	}
}

func newEvent(t event.Type, o event.Origin, network string, at event.Instant) event.Event {
	e := event.Event{Type: t, Origin: o}
	e.Present = e.Present.Set(event.FieldType)
	e.SetString(event.FieldID, random(12))
	e.SetInstant(event.FieldTime, at)
	e.SetInstant(event.FieldSentAt, at)
	e.SetString(event.FieldNetwork, network)
	return e
}

func mintType(status int) event.Type {
	if status == http.StatusOK {
		return event.TypeAuthTokenIssued
	}
	return event.TypeAuthTokenDenied
}

// stampMint fills in what both a backend and a gateway see of a mint.
func stampMint(e *event.Event, m minted, user string, fingerprint func(string) string) {
	e.Mode = event.ModeSecure
	e.Present = e.Present.Set(event.FieldAuthMode).Set(event.FieldStatus)
	e.Status = uint16(m.status)
	e.SetString(event.FieldUserID, user)
	e.SetString(event.FieldEndpoint, mintPath)
	e.SetString(event.FieldMethod, http.MethodPost)
	e.SetString(event.FieldRequestID, m.requestID)
	if m.code != "" {
		e.SetString(event.FieldCode, m.code)
	}
	if m.status == http.StatusOK {
		e.SetString(event.FieldTokenID, fingerprint(m.token))
		e.SetInstant(event.FieldIssuedAt, event.At(m.issued))
		e.SetInstant(event.FieldExpiresAt, event.At(m.expires))
	}
}

// userAddr is the address of a user: mostly the same one.
func userAddr(rng *rand.Rand, user string) netip.Addr {
	var h uint32 = 2166136261
	for i := range len(user) {
		h = (h ^ uint32(user[i])) * 16777619
	}
	last := byte(h)
	if rng.IntN(20) == 0 {
		last = byte(rng.Uint32())
	}
	return netip.AddrFrom4([4]byte{100, 64 + byte(h>>8)%64, byte(h >> 16), last})
}

// mintPath is where tokens are minted.
const mintPath = "/api/v4/authentication/token"

// caller speaks to the platform as a backend does.
type caller struct {
	url    string
	client *http.Client
}

type minted struct {
	status          int
	token, code     string
	requestID       string
	issued, expires time.Time
}

func (c caller) mint(ctx context.Context, key secret.Value, user string, clock time.Time) (minted, error) {
	m := minted{requestID: random(8)}
	var body struct {
		AuthToken string    `json:"authToken"`
		Code      string    `json:"code"`
		IssuedAt  time.Time `json:"issuedAt"`
		ExpiresAt time.Time `json:"expiresAt"`
	}
	status, err := c.post(ctx, mintPath, map[string]any{"userId": user, "issuedAt": clock},
		http.Header{"X-Server-Key": {key.Reveal()}, "X-Request-Id": {m.requestID}}, &body)
	m.status, m.token, m.code, m.issued, m.expires = status, body.AuthToken, body.Code, body.IssuedAt, body.ExpiresAt
	return m, err
}

func (c caller) session(ctx context.Context, user, token string) (status int, code string, err error) {
	var body struct {
		Code string `json:"code"`
	}
	status, err = c.post(ctx, "/api/v4/sessions", map[string]any{"userId": user, "authToken": token}, nil, &body)
	return status, body.Code, err
}

func (c caller) post(ctx context.Context, path string, body any, head http.Header, into any) (int, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(b))
	if err != nil {
		return 0, err
	}
	for k, v := range head {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("call the platform: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(into); err != nil {
		return resp.StatusCode, fmt.Errorf("read the platform's answer: %w", err)
	}
	return resp.StatusCode, nil
}
