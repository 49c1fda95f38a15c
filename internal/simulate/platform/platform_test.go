package platform_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

func fingerprint(v string) string { return event.Fingerprint([]byte("k"), v) }

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t *testing.T, overlap platform.Overlap) (*platform.Platform, *clock, *[]event.Event) {
	t.Helper()
	cfg := platform.DefaultConfig()
	cfg.Overlap, cfg.AdminToken = overlap, secret.New("admin")
	c := &clock{now: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)}
	var events []event.Event
	p, err := platform.New(cfg, platform.Deps{Now: c.Now, Fingerprint: fingerprint, Emit: func(e event.Event) { events = append(events, e) }})
	if err != nil {
		t.Fatal(err)
	}
	return p, c, &events
}

// call sends one request to the handler and decodes the answer.
func call(t *testing.T, p *platform.Platform, method, path, body string, head map[string]string) (int, map[string]any) {
	t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	for k, v := range head {
		req.Header.Set(k, v)
	}
	rec := httptest.NewRecorder()
	p.Handler().ServeHTTP(rec, req)
	var out map[string]any
	if rec.Body.Len() > 0 {
		if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
			t.Fatalf("%s %s answers %q", method, path, rec.Body)
		}
	}
	return rec.Code, out
}

const mintPath = "/api/v4/authentication/token"

func mint(t *testing.T, p *platform.Platform, key secret.Value, body string) (int, map[string]any) {
	t.Helper()
	return call(t, p, http.MethodPost, mintPath, body, map[string]string{"x-server-key": key.Reveal()})
}

func TestMint(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		setup  func(p *platform.Platform, id string)
		key    string // empty: the right one
		body   string
		status int
		code   any
	}{
		"a good key":      {nil, "", `{"userId":"u"}`, 200, nil},
		"an unknown key":  {nil, "sk_live_x", `{"userId":"u"}`, 401, "invalid_server_key"},
		"a revoked key":   {func(p *platform.Platform, id string) { p.RevokeKey(id) }, "", `{"userId":"u"}`, 401, "invalid_server_key"},
		"secure mode off": {func(p *platform.Platform, _ string) { p.SetSecureMode(false) }, "", `{"userId":"u"}`, 403, "secure_mode_off"},
		"no user":         {nil, "", `{}`, 400, "bad_request"},
		"no JSON":         {nil, "", `x`, 400, "bad_request"},
		"fault: 500": {func(p *platform.Platform, _ string) {
			p.SetFault(platform.OpMint, platform.Fault{Kind: platform.Error500, Times: 1})
		}, "", `{"userId":"u"}`, 500, "internal"},
		"a fault disarmed": {func(p *platform.Platform, _ string) {
			p.SetFault(platform.OpMint, platform.Fault{Kind: platform.Error500})
		}, "", `{"userId":"u"}`, 200, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _, _ := open(t, platform.Parallel)
			id, key := p.IssueKey("first")
			if tc.setup != nil {
				tc.setup(p, id)
			}
			if tc.key != "" {
				key = secret.New(tc.key)
			}
			status, body := mint(t, p, key, tc.body)
			if status != tc.status || body["code"] != tc.code {
				t.Errorf("%d %v, want %d %v", status, body["code"], tc.status, tc.code)
			}
		})
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		issuedAt time.Duration // the backend's clock, from true time
		later    time.Duration
		user     string
		ban      bool
		token    string
		status   int
		code     any
	}{
		"at once":         {status: 200},
		"in the leeway":   {later: 10*time.Minute + 20*time.Second, status: 200},
		"too late":        {later: 11 * time.Minute, status: 403, code: "auth_token_expired"},
		"a fast clock":    {issuedAt: time.Minute, status: 403, code: "auth_token_not_yet_valid"},
		"a slow clock":    {issuedAt: -11 * time.Minute, status: 403, code: "auth_token_expired"},
		"another user":    {user: "v", status: 403, code: "invalid_auth_token"},
		"a banned user":   {ban: true, status: 401, code: "user_banned"},
		"a made-up token": {token: "at_x", status: 403, code: "invalid_auth_token"},
		"no token":        {token: "-", status: 403, code: "missing_auth_token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c, _ := open(t, platform.Parallel)
			_, key := p.IssueKey("first")
			_, body := mint(t, p, key, `{"userId":"u","issuedAt":"`+c.Now().Add(tc.issuedAt).Format(time.RFC3339)+`"}`)
			token, user := body["authToken"], "u"
			switch tc.token {
			case "":
			case "-":
				token = ""
			default:
				token = tc.token
			}
			if tc.user != "" {
				user = tc.user
			}
			if tc.ban {
				p.Ban(user)
			}
			c.Add(tc.later)
			req, err := json.Marshal(map[string]any{"userId": user, "authToken": token})
			if err != nil {
				t.Fatal(err)
			}
			status, body := call(t, p, http.MethodPost, "/sessions", string(req), nil)
			if status != tc.status || body["code"] != tc.code {
				t.Errorf("%d %v, want %d %v", status, body["code"], tc.status, tc.code)
			}
			_, body = call(t, p, http.MethodDelete, "/api/v4/sessions/users/"+user, "", map[string]string{"Authorization": "Bearer admin"})
			if got, want := body["revoked"] == 1.0, tc.status == 200; got != want {
				t.Errorf("the sweep revoked %v sessions", body["revoked"])
			}
		})
	}
}

func TestOverlapAndLifecycleEvents(t *testing.T) {
	t.Parallel()
	for overlap, tc := range map[platform.Overlap]struct {
		oldStatus int
		types     []event.Type
	}{
		platform.Parallel: {200, []event.Type{event.TypeServerKeyCreated, event.TypeServerKeyActivated}},
		platform.Replace:  {401, []event.Type{event.TypeServerKeyCreated, event.TypeServerKeyActivated, event.TypeServerKeyRevoked}},
	} {
		t.Run(string(overlap), func(t *testing.T) {
			t.Parallel()
			p, _, events := open(t, overlap)
			_, old := p.IssueKey("first")
			*events = nil
			_, fresh := p.IssueKey("second")
			if status, _ := mint(t, p, old, `{"userId":"u"}`); status != tc.oldStatus {
				t.Errorf("the old key answers %d, want %d", status, tc.oldStatus)
			}
			if status, _ := mint(t, p, fresh, `{"userId":"u"}`); status != 200 {
				t.Errorf("the new key answers %d", status)
			}
			var types []event.Type
			for _, e := range *events {
				types = append(types, e.Type)
				want := fresh
				if e.Type == event.TypeServerKeyRevoked {
					want = old
				}
				if e.KeyID != fingerprint(want.Reveal()) || e.Origin != event.OriginConsole {
					t.Errorf("%s is about %s from %s", e.Type, e.KeyID, e.Origin)
				}
				if err := e.Validate(); err != nil {
					t.Error(err)
				}
				if line := string(event.Append(nil, &e)); strings.Contains(line, "sk_live") {
					t.Errorf("an event holds a key: %s", line)
				}
			}
			if d := cmp.Diff(tc.types, types); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
			if got := p.Stats().MinActive; got != 1 {
				t.Errorf("MinActive %d, want 1", got)
			}
			for _, id := range p.ActiveKeys() {
				p.RevokeKey(id)
			}
			if got := p.Stats().MinActive; got != 0 {
				t.Errorf("MinActive %d with no key left, want 0", got)
			}
		})
	}
}

func TestAdminNeedsItsToken(t *testing.T) {
	t.Parallel()
	p, _, _ := open(t, platform.Parallel)
	for _, token := range []string{"", "Bearer ", "Bearer wrong"} {
		for _, path := range []string{"/admin/v1/keys", "/admin/v1/faults/mint"} {
			if status, _ := call(t, p, http.MethodPost, path, `{"label":"x","kind":"500","times":1}`, map[string]string{"Authorization": token}); status != 401 {
				t.Errorf("POST %s with %q answers %d", path, token, status)
			}
		}
	}
	if got := p.Stats().Issued; got != 0 {
		t.Errorf("%d keys were issued", got)
	}
	if status, _ := call(t, p, http.MethodPost, "/admin/v1/faults/mint", `{"kind":"500","times":1}`, map[string]string{"Authorization": "Bearer admin"}); status != 204 {
		t.Errorf("arming a fault answers %d", status)
	}
	if status, _ := mint(t, p, secret.New("x"), `{"userId":"u"}`); status != 500 {
		t.Errorf("the armed fault does not hit: %d", status)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p, _, _ := open(t, platform.Parallel)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }()
	resp, err := http.Post("http://"+l.Addr().String()+mintPath, "application/json", strings.NewReader(`{"userId":"u"}`))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("status %d, want 401", resp.StatusCode)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

type inProcess struct{ h http.Handler }

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	t.h.ServeHTTP(rec, r)
	return rec.Result(), nil
}

// TestDriftingHost: its users are refused once its clock is beyond the leeway,
// those of the other host never.
func TestDriftingHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := platform.DefaultConfig()
		cfg.AdminToken = secret.New("admin")
		p, err := platform.New(cfg, platform.Deps{Now: time.Now, Fingerprint: fingerprint})
		if err != nil {
			t.Fatal(err)
		}
		_, key := p.IssueKey("first")
		var mu sync.Mutex
		denied := map[string]time.Duration{} // when first, by host
		began := time.Now()
		f, err := platform.NewFleet(platform.FleetConfig{Network: "demo", Users: 10, Poll: time.Second, Heartbeat: time.Second,
			Hosts: []platform.Host{{Name: "a", MintsPerSecond: 5}, {Name: "b", MintsPerSecond: 5, ClockDrift: 0.5}}},
			platform.FleetDeps{URL: "http://p", Client: &http.Client{Transport: inProcess{p.Handler()}}, Now: time.Now, Fingerprint: fingerprint,
				Keys: func(context.Context) (secret.Value, error) { return key, nil },
				Emit: func(e event.Event) {
					mu.Lock()
					defer mu.Unlock()
					if _, seen := denied[e.Host]; e.Type == event.TypeSessionDenied && !seen {
						denied[e.Host] = time.Since(began)
					}
				}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := f.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if at, was := denied["b"]; !was || at < time.Minute || at > 70*time.Second {
			t.Errorf("the drifting host was refused first after %s, want 60 s (30 s ahead)", at)
		}
		if at, was := denied["a"]; was {
			t.Errorf("the right host was refused after %s", at)
		}
	})
}
