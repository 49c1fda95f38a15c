package slack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/slack"
	"github.com/keysentry/keysentry/alert/slack/slacktest"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// memJournal accepts everything and hands it to the manager at once.
type memJournal struct {
	mu      sync.Mutex
	records []journal.Record
	reader  *alert.Manager
}

func (j *memJournal) Append(_ context.Context, entries ...journal.Entry) ([]journal.Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []journal.Record
	for _, e := range entries {
		raw, err := json.Marshal(e.Body)
		if err != nil {
			return nil, err
		}
		rec := journal.Record{N: int64(len(j.records) + 1), Time: e.Time, Kind: e.Kind, Body: raw}
		j.records = append(j.records, rec)
		out = append(out, rec)
		j.reader.Apply(rec)
	}
	return out, nil
}

func (j *memJournal) decisions() []journal.Decision {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []journal.Decision
	for _, r := range j.records {
		var d journal.Decision
		if r.Kind == journal.KindDecision && json.Unmarshal(r.Body, &d) == nil {
			out = append(out, d)
		}
	}
	return out
}

// office is a manager, a workspace and the address of its clicks, with an
// incident about a compromised key and a plan in the page channel.
type office struct {
	slack   *slacktest.Server
	journal *memJournal
	manager *alert.Manager
	address string
	logs    *syncWriter
	clock   *clock
}

// clock is the real time, shifted.
type clock struct {
	mu    sync.Mutex
	shift time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.shift)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shift += d
}

type syncWriter struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *syncWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func (w *syncWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func open(t *testing.T) *office {
	t.Helper()
	o := &office{journal: &memJournal{}, logs: &syncWriter{}, clock: &clock{}}
	logger := slog.New(slog.NewTextHandler(o.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	late := &lateDecider{}
	var s *slack.Slack
	s, o.slack = start(t, nil, slack.Deps{Decider: late, Logger: logger})
	cfg := alert.DefaultConfig()
	cfg.People = []alert.Person{{ID: "ana", Slack: "U0ANA", Roles: []string{"approver"}}, {ID: "rita", Slack: "U0RITA", Roles: []string{"responder"}}}
	m, err := alert.New(cfg, alert.Deps{Journal: o.journal, Notifier: s, Now: o.clock.now,
		Routes: alert.Routes{finding.Page: pageChannel, finding.Ticket: ticketChannel}})
	if err != nil {
		t.Fatal(err)
	}
	late.Decider, o.journal.reader, o.manager = m, m, m
	hook := httptest.NewServer(s)
	t.Cleanup(hook.Close)
	o.address = hook.URL
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	m.Lead(ctx, 0)
	f := finding.Finding{ID: "f1", RuleID: "r", RuleTitle: "Key used from elsewhere", Kind: finding.KeyCompromise, Severity: finding.Page,
		Subject: finding.Subject{Network: "n", Field: "key_id", Value: "k1"}, Count: 1, First: event.At(time.Now())}
	if err := m.Deliver(ctx, []finding.Finding{f}, event.Partition{}, 0); err != nil {
		t.Fatal(err)
	}
	o.until(t, func() bool { return len(m.Incidents()) == 1 })
	o.plan(t, "hash-1")
	o.until(t, func() bool { _, _, ok := o.slack.Find("Approve plan"); return ok })
	return o
}

type lateDecider struct{ slack.Decider }

func (o *office) plan(t *testing.T, hash string) {
	t.Helper()
	if _, err := o.journal.Append(t.Context(), journal.Entry{Kind: journal.KindRunPlanned, Time: event.At(o.clock.now()), Body: journal.RunPlanned{
		RunID: "run-1", Playbook: "rotate-server-key", IncidentID: o.manager.Incidents()[0].ID, Network: "n", PlanHash: hash}}); err != nil {
		t.Fatal(err)
	}
}

// until waits for what other goroutines bring about.
func (o *office) until(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it did not happen; the workspace shows\n%s", o.slack.Text())
		}
	}
}

func (o *office) press(t *testing.T, label string, c slacktest.Click) int {
	t.Helper()
	resp, err := o.slack.Press(t.Context(), o.address, label, c)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// whispers are what only the person sees who clicked.
func (o *office) whispers() string {
	var b strings.Builder
	for _, m := range o.slack.Messages() {
		if m.OnlyFor != "" {
			b.WriteString(m.OnlyFor + ": " + slacktest.Show(m).Text)
		}
	}
	return b.String()
}

func TestApprovalByClick(t *testing.T) {
	t.Parallel()
	o := open(t)
	if got := o.press(t, "Approve plan", slacktest.Click{User: "U0ANA"}); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	d := o.journal.decisions()
	if len(d) != 1 || d[0].Refused != "" || d[0].Person != "ana" || d[0].PlanHash != "hash-1" || d[0].Via != "slack" {
		t.Fatalf("got %+v", d)
	}
	// The message is edited: there is nothing to approve any more.
	o.until(t, func() bool { _, _, ok := o.slack.Find("Approve plan"); return !ok })
}

func TestClicksThatAreNotTaken(t *testing.T) {
	t.Parallel()
	o := open(t)
	old := time.Now().Add(-6 * time.Minute)
	tests := []struct {
		name  string
		click slacktest.Click
		want  int
	}{
		{"forged signature", slacktest.Click{User: "U0ANA", Secret: "guess"}, http.StatusUnauthorized},
		{"six minutes old", slacktest.Click{User: "U0ANA", At: old}, http.StatusUnauthorized},
		{"six minutes ahead", slacktest.Click{User: "U0ANA", At: time.Now().Add(6 * time.Minute)}, http.StatusUnauthorized},
		{"another team", slacktest.Click{User: "U0ANA", Team: "T0OTHER"}, http.StatusForbidden},
		{"another app", slacktest.Click{User: "U0ANA", App: "A0OTHER"}, http.StatusForbidden},
		{"another channel", slacktest.Click{User: "U0ANA", Channel: "C0OTHER"}, http.StatusForbidden},
		{"a guest", slacktest.Click{User: "U0ANA", Guest: true}, http.StatusForbidden},
		{"a member of another workspace", slacktest.Click{User: "U0ANA", UserTeam: "T0OTHER"}, http.StatusForbidden},
		{"nobody", slacktest.Click{}, http.StatusForbidden},
		{"a value that is no click", slacktest.Click{User: "U0ANA", Value: "approve"}, http.StatusBadRequest},
	}
	for _, tt := range tests {
		if got := o.press(t, "Approve plan", tt.click); got != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, got, tt.want)
		}
	}
	if d := o.journal.decisions(); len(d) != 0 {
		t.Errorf("decisions came through: %+v", d)
	}
	for _, hidden := range []string{slacktest.SigningSecret, slacktest.Token, "v0="} {
		if strings.Contains(o.logs.String(), hidden) {
			t.Errorf("%q is in the log:\n%s", hidden, o.logs)
		}
	}
}

func TestRefusedClicksAreJournaledAndAnswered(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		before func(t *testing.T, o *office)
		click  slacktest.Click
		want   string
	}{
		{"wrong person", func(*testing.T, *office) {}, slacktest.Click{User: "U0RITA"}, "rita has no authority"},
		{"unknown person", func(*testing.T, *office) {}, slacktest.Click{User: "U0EVE"}, "not in the list of people"},
		{"after expiry", func(_ *testing.T, o *office) { o.clock.advance(2 * time.Hour) }, slacktest.Click{User: "U0ANA"}, "the plan expired"},
		{"stale plan", func(t *testing.T, o *office) { o.plan(t, "hash-2") }, slacktest.Click{User: "U0ANA",
			Value: `{"a":"approve","r":"run-1","h":"hash-1"}`}, "the plan was made again"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			tt.before(t, o)
			if got := o.press(t, "Approve plan", tt.click); got != http.StatusOK {
				t.Fatalf("status %d", got)
			}
			d := o.journal.decisions()
			if len(d) != 1 || !strings.Contains(d[0].Refused, tt.want) {
				t.Fatalf("got %+v, want refused: %s", d, tt.want)
			}
			o.until(t, func() bool { return strings.Contains(o.whispers(), tt.want) })
			if !strings.HasPrefix(o.whispers(), tt.click.User+": ") {
				t.Errorf("told to somebody else: %s", o.whispers())
			}
		})
	}
}

func TestReplayedAndRepeatedClicks(t *testing.T) {
	t.Parallel()
	o := open(t)
	m, b, _ := o.slack.Find("Approve plan")
	c := slacktest.Click{User: "U0ANA"}
	body, header := slacktest.Signed(c, slacktest.BlockActions(m, b, c))
	var replayed int
	for range 5 {
		resp, err := slacktest.Send(t.Context(), o.address, body, header)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusConflict {
			replayed++
		}
	}
	if replayed != 4 {
		t.Errorf("%d of 4 replays were noticed", replayed)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			c := slacktest.Click{User: "U0ANA", At: time.Now().Add(time.Duration(i) * time.Microsecond)}
			body, header := slacktest.Signed(c, slacktest.BlockActions(m, b, c))
			if resp, err := slacktest.Send(t.Context(), o.address, body, header); err == nil {
				_ = resp.Body.Close()
			}
		})
	}
	wg.Wait()
	accepted := 0
	for _, d := range o.journal.decisions() {
		if d.Refused == "" {
			accepted++
		}
	}
	if accepted != 1 {
		t.Errorf("%d approvals were accepted, want 1", accepted)
	}
}

func TestReasonIsAskedFor(t *testing.T) {
	t.Parallel()
	o := open(t)
	if got := o.press(t, "False positive", slacktest.Click{User: "U0ANA"}); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	if n := len(o.journal.decisions()); n != 0 {
		t.Fatalf("%d decisions before there is a reason", n)
	}
	views := o.slack.Views()
	if len(views) != 1 {
		t.Fatalf("%d forms", len(views))
	}
	c := slacktest.Click{User: "U0RITA"}
	body, header := slacktest.Signed(c, slacktest.Submission(views[0], c, "a drill of ours"))
	resp, err := slacktest.Send(t.Context(), o.address, body, header)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	d := o.journal.decisions()
	if len(d) != 1 || d[0].Refused != "" || d[0].Reason != "a drill of ours" || d[0].Verdict != "false" || d[0].Person != "rita" {
		t.Errorf("got %+v", d)
	}
}

func TestRequestsThatAreNoInteraction(t *testing.T) {
	t.Parallel()
	failing := deciderFunc(func(journal.Decision) (journal.Decision, error) { return journal.Decision{}, errors.New("down") })
	s, _ := start(t, nil, slack.Deps{Decider: failing})
	sign := func(body string) http.Header {
		_, h := slacktest.Signed(slacktest.Click{}, nil)
		return h
	}
	tests := []struct {
		name, method, body string
		want               int
	}{
		{"GET", http.MethodGet, "", http.StatusMethodNotAllowed},
		{"no signature", http.MethodPost, "payload={}", http.StatusUnauthorized},
		{"too large", http.MethodPost, strings.Repeat("x", 300<<10), http.StatusRequestEntityTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body))
			if tt.name != "no signature" {
				r.Header = sign(tt.body)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != tt.want || w.Body.Len() != 0 {
				t.Errorf("got %d %q, want %d and no body", w.Code, w.Body, tt.want)
			}
		})
	}
}

type deciderFunc func(journal.Decision) (journal.Decision, error)

func (f deciderFunc) Decide(_ context.Context, d journal.Decision) (journal.Decision, error) {
	return f(d)
}

func TestClickWhileNobodyLeads(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want string
	}{{"standby", alert.ErrNotLeader, "not the leader"}, {"journal down", errors.New("secret detail"), "click again"}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, srv := start(t, nil, slack.Deps{Decider: deciderFunc(func(d journal.Decision) (journal.Decision, error) { return d, tt.err })})
			if _, err := s.Post(t.Context(), message()); err != nil {
				t.Fatal(err)
			}
			hook := httptest.NewServer(s)
			t.Cleanup(hook.Close)
			resp, err := srv.Press(t.Context(), hook.URL, "Acknowledge", slacktest.Click{User: "U0ANA"})
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			hook.Close() // waits for the handler
			all := srv.Messages()
			text := slacktest.Show(all[len(all)-1]).Text
			if resp.StatusCode != http.StatusOK || !strings.Contains(text, tt.want) || strings.Contains(text, "secret detail") {
				t.Errorf("status %d, told %q", resp.StatusCode, text)
			}
		})
	}
}
