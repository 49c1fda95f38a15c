package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

// office is a desk and a planner that remember what they were asked.
type office struct {
	decided []journal.Decision
	refuse  string
	err     error
	planned []playbook.PlanRequest
	adopted []Adoption
	known   []incident.Incident
}

func (o *office) Incidents() []incident.Incident { return o.known }
func (o *office) Incident(id string) (incident.Incident, bool) {
	for _, i := range o.known {
		if i.ID == id {
			return i, true
		}
	}
	return incident.Incident{}, false
}
func (o *office) Runs() []incident.Run                    { return nil }
func (o *office) Run(string) (incident.Run, bool)         { return incident.Run{}, false }
func (o *office) Person(credential string) (string, bool) { return "ada", credential == "of ada" }
func (o *office) Decide(_ context.Context, d journal.Decision) (journal.Decision, error) {
	o.decided = append(o.decided, d)
	d.Refused = o.refuse
	return d, o.err
}

func (o *office) Plan(_ context.Context, req playbook.PlanRequest) (journal.RunPlanned, error) {
	o.planned = append(o.planned, req)
	return journal.RunPlanned{RunID: "run-1"}, nil
}

func (o *office) Keys(network string) ([]Key, error) {
	return []Key{{Network: network, KeyID: "k"}}, o.err
}

func (o *office) Adopt(_ context.Context, a Adoption) (journal.Decision, error) {
	o.adopted = append(o.adopted, a)
	return journal.Decision{Action: journal.ActionAdoptKey, KeyID: "k", Refused: o.refuse}, o.err
}

// serve starts a console on loopback; leader is what it takes for the leader.
func serve(t *testing.T, o *office, leader string) *httptest.Server {
	t.Helper()
	pages, err := newPages()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{cfg: DefaultConfig(), pages: pages, forward: &http.Transport{}, deps: Deps{
		Desk: o, Keys: o, Planner: o, Status: func() Status { return Status{Role: "leader"} }, Leader: func() string { return leader },
		Scorecard: func(context.Context) (posture.Scorecard, error) { return posture.Scorecard{}, nil },
		Metrics:   metrics.New(), Logger: slog.New(slog.DiscardHandler),
	}}
	srv := httptest.NewUnstartedServer(s.handler())
	s.listener = srv.Listener
	srv.Start()
	t.Cleanup(srv.Close)
	t.Cleanup(s.forward.CloseIdleConnections)
	return srv
}

func post(t *testing.T, url, credential, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	// What a browser would send along for a page of somebody else's.
	req.Header.Set("Cookie", "credential=of ada; session=of ada")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestWithoutACredentialNothingIsChanged(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/api/v1/decisions", "/api/v1/plans", "/api/v1/keys/adopt", "/api/v1/decisions?credential=of+ada"} {
		for _, credential := range []string{"", "of eve", "of ada ", "OF ADA"} {
			o := &office{}
			code, _ := post(t, serve(t, o, "").URL+path, credential, `{"id":"x"}`)
			// HTTP drops the space around a header's value.
			if credential != "of ada " && (code != http.StatusUnauthorized || len(o.decided)+len(o.planned)+len(o.adopted) > 0) {
				t.Errorf("%s with %q: %d, decided %v, planned %v", path, credential, code, o.decided, o.planned)
			}
		}
	}
}

func TestWhoDecidesIsWhoHoldsTheCredential(t *testing.T) {
	t.Parallel()
	o := &office{}
	code, text := post(t, serve(t, o, "").URL+"/api/v1/decisions", "of ada",
		`{"id":"slack-1","action":"approve","person":"bob","via":"slack","run_id":"run-1","plan_hash":"h"}`)
	if code != http.StatusOK || len(o.decided) != 1 {
		t.Fatalf("got %d %s, decided %v", code, text, o.decided)
	}
	d := o.decided[0]
	if d.Person != "ada" || d.Via != "cli" {
		t.Errorf("decided as %s via %s", d.Person, d.Via)
	}
	// An id that another door makes must not be taken here first.
	if d.ID != "ada/slack-1" {
		t.Errorf("the id is %q, want one of ada's own", d.ID)
	}
}

func TestAnswersToDecisions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		o    office
		body string
		want int
	}{
		"recorded":      {office{}, `{"id":"x"}`, http.StatusOK},
		"refused":       {office{refuse: "stale"}, `{"id":"x"}`, http.StatusConflict},
		"no leader":     {office{err: alert.ErrNotLeader}, `{"id":"x"}`, http.StatusServiceUnavailable},
		"no id":         {office{err: alert.ErrNoDecisionID}, `{}`, http.StatusBadRequest},
		"no JSON":       {office{}, `id=x`, http.StatusBadRequest},
		"unknown field": {office{}, `{"id":"x","incident":"y"}`, http.StatusBadRequest},
		"a flood of it": {office{}, `{"id":"` + strings.Repeat("x", 2<<20) + `"}`, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if code, text := post(t, serve(t, &tc.o, "").URL+"/api/v1/decisions", "of ada", tc.body); code != tc.want {
				t.Errorf("got %d, want %d: %s", code, tc.want, text)
			}
		})
	}
}

func TestAPlanWantsAuthority(t *testing.T) {
	t.Parallel()
	for _, dry := range []string{"false", "true"} {
		o := &office{refuse: "ada has no authority for this action"}
		code, text := post(t, serve(t, o, "").URL+"/api/v1/plans", "of ada", `{"playbook":"rotate","network":"net","incident_id":"inc-1","dry_run":`+dry+`}`)
		if code != http.StatusConflict || !strings.Contains(text, "no authority") || len(o.planned) > 0 {
			t.Errorf("dry run %s: got %d %s, planned %v", dry, code, text, o.planned)
		}
		if len(o.decided) != 1 || o.decided[0].Action != journal.ActionStart || o.decided[0].Person != "ada" || o.decided[0].IncidentID != "inc-1" {
			t.Errorf("dry run %s: asked the desk %+v", dry, o.decided)
		}
	}
	o := &office{}
	if code, text := post(t, serve(t, o, "").URL+"/api/v1/plans", "of ada", `{"playbook":"rotate"}`); code != http.StatusOK || len(o.planned) != 1 {
		t.Errorf("with authority: got %d %s", code, text)
	}
}

func TestForwarding(t *testing.T) {
	t.Parallel()
	o, away := &office{}, &office{}
	leader := serve(t, o, "")
	standby := serve(t, away, leader.URL)
	if code, text := post(t, standby.URL+"/api/v1/decisions", "of ada", `{"id":"x"}`); code != http.StatusOK || len(o.decided) != 1 || len(away.decided) != 0 {
		t.Errorf("got %d %s; the leader decided %v, the standby %v", code, text, o.decided, away.decided)
	}
	// Two members that take each other for the leader.
	first := serve(t, away, "http://127.0.0.1:1")
	second := serve(t, away, first.URL)
	if code, _ := post(t, second.URL+"/api/v1/decisions", "of ada", `{"id":"x"}`); code != http.StatusServiceUnavailable || len(away.decided) != 0 {
		t.Errorf("a forwarded request was forwarded: %d, decided %v", code, away.decided)
	}
}

func TestCredentialsAreNotForwardedInTheClear(t *testing.T) {
	t.Parallel()
	for _, leader := range []string{"http://192.0.2.1:8340", "ftp://127.0.0.1", "//192.0.2.1", "http://", "::"} {
		code, text := post(t, serve(t, &office{}, leader).URL+"/api/v1/decisions", "of ada", `{"id":"x"}`)
		if code != http.StatusServiceUnavailable {
			t.Errorf("%s: got %d %s", leader, code, text)
		}
	}
}

func TestTheClientTakesItsCredentialNowhereElse(t *testing.T) {
	t.Parallel()
	var seen []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
	}))
	t.Cleanup(other.Close)
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(srv.Close)
	c, err := NewClient(srv.URL, secret.New("of ada"), "")
	if err != nil {
		t.Fatal(err)
	}
	var refused *Refused
	if _, err := c.Decide(t.Context(), journal.Decision{ID: "x"}); !errors.As(err, &refused) {
		t.Errorf("got %v, want a *Refused", err)
	}
	if len(seen) > 0 {
		t.Errorf("the credential went along a redirect: %q", seen)
	}
	if _, err := NewClient("http://192.0.2.1:1", secret.New("of ada"), ""); err == nil {
		t.Error("a client would send a credential over plain http")
	}
}

func TestThePageDoesNotWaitForTheScorecard(t *testing.T) {
	t.Parallel()
	pages, err := newPages()
	if err != nil {
		t.Fatal(err)
	}
	var wait time.Duration
	s := &Server{pages: pages, deps: Deps{Desk: &office{}, Status: func() Status { return Status{} }, Logger: slog.New(slog.DiscardHandler),
		Scorecard: func(ctx context.Context) (posture.Scorecard, error) {
			if end, ok := ctx.Deadline(); ok {
				wait = time.Until(end)
			}
			return posture.Scorecard{}, context.DeadlineExceeded
		}}}
	w := httptest.NewRecorder()
	s.overviewPage(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Unknown: ") {
		t.Errorf("got %d\n%s", w.Code, w.Body)
	}
	if wait <= 0 || wait > writeTimeout/2 {
		t.Errorf("the scorecard may take %v of the %v that the page has", wait, writeTimeout)
	}
}

func TestPagesShowEventsAsText(t *testing.T) {
	t.Parallel()
	const evil = `"><script>alert(1)</script>`
	inc := incident.Incident{ID: "inc-1", State: incident.Open, Kind: finding.Other, Subject: finding.Subject{Field: "host", Value: evil, Network: evil},
		Affected: []incident.Affected{{Field: evil, Values: []string{evil}}}, Timeline: []incident.Entry{{What: evil, Who: evil, Text: evil}},
		Lead: finding.Finding{Summary: evil, Resolution: evil, Evidence: []finding.Evidence{{Host: evil, Reason: evil, UserID: evil}}}}
	srv := serve(t, &office{known: []incident.Incident{inc}}, "")
	for _, path := range []string{"/", "/incidents/inc-1"} {
		res, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusOK || !bytes.Contains(text, []byte("script&gt;")) {
			t.Fatalf("%s: %d, and the incident is not on it", path, res.StatusCode)
		}
		if bytes.Contains(text, []byte("<script")) {
			t.Errorf("%s carries a script", path)
		}
		if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("%s: the policy is %q", path, csp)
		}
	}
}

func TestAForeignNameReadsNothing(t *testing.T) {
	t.Parallel()
	srv := serve(t, &office{known: []incident.Incident{{ID: "inc-1"}}}, "")
	req, err := http.NewRequest(http.MethodGet, srv.URL+"/api/v1/incidents", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusMisdirectedRequest || strings.Contains(string(body), "inc-1") {
		t.Errorf("got %d, %v:\n%s", res.StatusCode, err, body)
	}
}

// TestEventsAreTakenHere: a standby does not pass them on, their handler bounds
// their bodies, and they come under any name, since they carry a token.
func TestEventsAreTakenHere(t *testing.T) {
	t.Parallel()
	var got int
	events := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the body: %v", err)
		}
		got = len(text)
		w.WriteHeader(http.StatusAccepted)
	})
	pages, err := newPages()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{cfg: DefaultConfig(), pages: pages, deps: Deps{Events: events, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler),
		Leader: func() string { return "http://127.0.0.1:1" }}}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/events", strings.NewReader(strings.Repeat("x", 2*maxBody)))
	req.Host = "keysentry.example"
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, req)
	if w.Code != http.StatusAccepted || got != 2*maxBody || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("got %d, %d bytes, %v", w.Code, got, w.Header())
	}
	s.deps.Events = nil
	w = httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/events", strings.NewReader("{}")))
	if w.Code != http.StatusNotFound {
		t.Errorf("without sources: got %d", w.Code)
	}
}

// TestTheEndDoesNotWaitForSlowRequests: one that waits is told so, one whose body
// does not come is cut off, and neither is a fault of the daemon's.
func TestTheEndDoesNotWaitForSlowRequests(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ body, want string }{
		"waits for something":   {"{}", "HTTP/1.1 503 "},
		"is waited for in vain": {"{", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			under := make(chan struct{})
			cfg := DefaultConfig()
			cfg.Listen = "127.0.0.1:0"
			s, err := New(cfg, Deps{Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler), Events: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(under)
				if _, err := io.ReadAll(r.Body); err != nil {
					return
				}
				<-r.Context().Done()
				w.WriteHeader(http.StatusServiceUnavailable)
			})})
			if err != nil {
				t.Fatal(err)
			}
			if s.http.ReadTimeout <= 0 || s.http.WriteTimeout <= s.http.ReadTimeout || s.patience <= 0 {
				t.Errorf("a slow client holds a connection: read %v, write %v, end %v", s.http.ReadTimeout, s.http.WriteTimeout, s.patience)
			}
			s.patience = 200 * time.Millisecond
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			conn, err := net.Dial("tcp", s.listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"+tc.body); err != nil {
				t.Fatal(err)
			}
			<-under
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
			if text, _ := io.ReadAll(conn); !strings.HasPrefix(string(text), tc.want) {
				t.Errorf("answered %q, want %q", text, tc.want)
			}
		})
	}
}
