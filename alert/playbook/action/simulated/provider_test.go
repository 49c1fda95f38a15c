package simulated_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/alert/playbook/action/simulated"
	"github.com/keysentry/keysentry/alert/playbook/playbooktest"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

// open serves a platform over a real socket.
func open(t *testing.T) (*simulated.Provider, *platform.Platform, secret.Value) {
	t.Helper()
	cfg := platform.DefaultConfig()
	cfg.AdminToken = secret.New("admin-secret")
	p, err := platform.New(cfg, platform.Deps{Now: time.Now, Fingerprint: func(v string) string { return "fp" }})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(p.Handler())
	t.Cleanup(srv.Close)
	_, key := p.IssueKey("first")
	c := simulated.DefaultConfig()
	c.URL, c.Timeout = srv.URL, 2*time.Second
	prov, err := simulated.New(c, simulated.Deps{AdminToken: cfg.AdminToken, Client: srv.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return prov, p, key
}

func TestConformance(t *testing.T) {
	t.Parallel()
	playbooktest.ProviderSuite(t, func(t *testing.T) (playbook.KeyProvider, secret.Value) {
		prov, _, key := open(t)
		return prov, key
	})
}

func TestFaultsLeaveTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault  platform.FaultKind
		issued int // keys made, besides the first
	}{
		"500":                {platform.Error500, 0},
		"500 after accept":   {platform.Error500Did, 1},
		"reset":              {platform.ResetBefore, 0},
		"reset after accept": {platform.ResetAfter, 1},
		"hang":               {platform.Hang, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prov, p, _ := open(t)
			p.SetFault(platform.OpIssue, platform.Fault{Kind: tc.fault, Times: 1})
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := prov.Issue(ctx, "l")
			if err == nil || errors.Is(err, playbook.ErrRefused) {
				t.Errorf("Issue: %v, want an error of unknown outcome", err)
			}
			if got := p.Stats().Issued - 1; got != tc.issued {
				t.Errorf("%d keys were made, want %d", got, tc.issued)
			}
			if _, err := prov.Issue(t.Context(), "l2"); err != nil {
				t.Errorf("the fault did not pass: %v", err)
			}
		})
	}
}

func TestWrongAdminTokenIsRefused(t *testing.T) {
	t.Parallel()
	_, p, _ := open(t)
	c := simulated.DefaultConfig()
	c.URL = "http://platform.test"
	prov, err := simulated.New(c, simulated.Deps{AdminToken: secret.New("wrong"),
		Client: &http.Client{Transport: playbooktest.InProcess(p.Handler())}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prov.Issue(t.Context(), "l"); !errors.Is(err, playbook.ErrRefused) {
		t.Errorf("Issue: %v, want ErrRefused", err)
	} else if strings.Contains(err.Error(), "wrong") {
		t.Errorf("the error quotes the token: %v", err)
	}
}

func TestKeysDoNotFollowARedirect(t *testing.T) {
	t.Parallel()
	var seen atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Server-Key") != "" || r.Header.Get("Authorization") != "" {
			seen.Add(1)
		}
	}))
	t.Cleanup(elsewhere.Close)
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(moved.Close)
	c := simulated.DefaultConfig()
	c.URL = moved.URL
	prov, err := simulated.New(c, simulated.Deps{AdminToken: secret.New("token")})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := prov.Mint(t.Context(), playbook.MintRequest{Key: secret.New("sk_live_x"), UserID: "u"}); err == nil && (res.OK || res.Dead) {
		t.Errorf("a redirect says something about the key: %+v", res)
	}
	if _, err := prov.List(t.Context()); err == nil {
		t.Error("a redirect lists keys")
	}
	if n := seen.Load(); n > 0 {
		t.Errorf("%d keys went to another server", n)
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if errs := (simulated.Config{}).Validate(); len(errs) != 3 {
		t.Errorf("an empty configuration has %d faults, want 3: %v", len(errs), errs)
	}
	good := simulated.DefaultConfig()
	good.URL, good.AdminToken = "https://platform.example", secret.Ref{Env: "TOKEN"}
	if errs := good.Validate(); len(errs) != 0 {
		t.Errorf("a good configuration has faults: %v", errs)
	}
}
