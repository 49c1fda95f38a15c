package slack_test

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/slack"
	"github.com/keysentry/keysentry/alert/slack/slacktest"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

const (
	pageChannel   = "C0PAGES"
	ticketChannel = "C0TICKETS"
)

func getenv(values map[string]string) func(string) string {
	return func(k string) string { return values[k] }
}

// config is a configuration for the workspace s.
func config(s *slacktest.Server) slack.Config {
	c := slack.DefaultConfig()
	c.Token, c.SigningSecret = secret.Ref{Env: "TOKEN"}, secret.Ref{Env: "SIGNING"}
	c.Channels = slack.Channels{Page: pageChannel, Ticket: ticketChannel}
	c.TeamID, c.AppID, c.APIURL = slacktest.TeamID, slacktest.AppID, s.APIURL()
	c.Timeout = 5 * time.Second
	return c
}

func start(t *testing.T, change func(*slack.Config), deps slack.Deps) (*slack.Slack, *slacktest.Server) {
	t.Helper()
	srv := slacktest.NewServer(pageChannel, ticketChannel)
	t.Cleanup(srv.Close)
	cfg := config(srv)
	if change != nil {
		change(&cfg)
	}
	if deps.Getenv == nil {
		deps.Getenv = getenv(map[string]string{"TOKEN": slacktest.Token, "SIGNING": slacktest.SigningSecret, "WRONG": "xoxb-wrong"})
	}
	s, err := slack.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return s, srv
}

func message() alert.Message {
	return alert.Message{
		ID: "inc-1/C0PAGES", IncidentID: "inc-1", Channel: pageChannel, Severity: finding.Page, Title: "PAGE: key compromise (open)",
		Sentence: "A retired key was used from outside the inventory.", Facts: []alert.Fact{{Label: "Host", Values: []string{"api-1"}, Note: "and 2 others"}},
		Plan:       &alert.PlanBox{RunID: "run-1", Playbook: "rotate-server-key", Summary: "rotate", Status: "waits", Steps: []string{"issue: POST /keys"}},
		Resolution: "Rotate the key.", SQL: "SELECT 1\nFROM t", Link: "https://console.example/incidents/inc-1",
		Buttons: []alert.Button{{Action: "ack", Label: "Acknowledge", Style: "primary", IncidentID: "inc-1"},
			{Action: "approve", Label: "Approve plan", Style: "danger", IncidentID: "inc-1", RunID: "run-1", PlanHash: "abc"},
			{Action: "close", Label: "False positive", Verdict: "false", IncidentID: "inc-1", NeedsReason: true}},
		Series: finding.Series{Start: event.Instant(1.7e18), Bucket: int64(time.Second), Counts: []float64{0, 3, 9, 2}},
	}
}

func TestPostUpdateLookup(t *testing.T) {
	t.Parallel()
	s, srv := start(t, nil, slack.Deps{})
	m := message()
	ts, err := s.Post(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	m.Since = event.At(time.Now())
	reply := alert.Message{ID: "inc-1/9", IncidentID: "inc-1", Channel: pageChannel, Thread: ts, Since: m.Since,
		Lines: []alert.Line{{Time: event.Instant(1.7e18), What: "acknowledged", Who: "ana"}}}
	replyTS, err := s.Post(t.Context(), reply)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		m    alert.Message
		ts   string
	}{{"root", m, ts}, {"reply", reply, replyTS}} {
		if got, found, err := s.Lookup(t.Context(), tt.m); err != nil || !found || got != tt.ts {
			t.Errorf("look up the %s: got %q, %v, %v; want %q", tt.name, got, found, err, tt.ts)
		}
	}
	absent := m
	absent.ID = "inc-2/C0PAGES"
	if _, found, err := s.Lookup(t.Context(), absent); found || err != nil {
		t.Errorf("a message that is not there: %v, %v", found, err)
	}
	m.Title = "PAGE: key compromise (acknowledged)"
	if err := s.Update(t.Context(), m, ts); err != nil {
		t.Fatal(err)
	}
	if text := srv.Text(); !strings.Contains(text, "(acknowledged)") || !strings.Contains(text, "| ") || !strings.Contains(text, "edited 1 times") {
		t.Errorf("got\n%s", text)
	}
	if n := len(srv.Messages()); n != 2 {
		t.Errorf("%d messages", n)
	}
}

func TestLookupPagesThroughABusyChannel(t *testing.T) {
	t.Parallel()
	s, srv := start(t, nil, slack.Deps{})
	m := message()
	ts, err := s.Post(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	other := alert.Message{IncidentID: "x", Channel: pageChannel, Title: "x"}
	for i := range 450 {
		other.ID = strings.Repeat("x", i%7+1)
		if _, err := s.Post(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	}
	if got, found, err := s.Lookup(t.Context(), m); err != nil || !found || got != ts {
		t.Errorf("got %q, %v, %v", got, found, err)
	}
	if n := srv.Calls("conversations.history"); n != 3 {
		t.Errorf("%d pages", n)
	}
}

func TestWhatThePostShows(t *testing.T) {
	t.Parallel()
	s, srv := start(t, nil, slack.Deps{})
	if _, err := s.Post(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	m := srv.Messages()[0]
	shown := slacktest.Show(m)
	want := `PAGE: key compromise (open)
A retired key was used from outside the inventory.
Host: api-1 (and 2 others)
Plan: rotate-server-key waits
rotate
1. issue: POST /keys
What to do: Rotate the key.
SELECT 1
FROM t
Open in the console <https://console.example/incidents/inc-1> Incident inc-1
[ Acknowledge ] [ Approve plan ] [ False positive ] 
`
	if diff := cmp.Diff(want, shown.Text); diff != "" {
		t.Error(diff)
	}
	if m.Unfurl || m.Mrkdwn {
		t.Errorf("unfurl %v, mrkdwn %v", m.Unfurl, m.Mrkdwn)
	}
}

func TestFailuresAreClassified(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		fault   slacktest.Fault
		channel string
		class   alert.Class
		after   time.Duration
		arrived int
	}{
		{"429", slacktest.Fault{Status: 429, RetryAfter: 7 * time.Second}, pageChannel, alert.RetryAfter, 7 * time.Second, 0},
		{"429 without a time", slacktest.Fault{Status: 429}, pageChannel, alert.RetryAfter, 30 * time.Second, 0},
		{"500", slacktest.Fault{Status: 500}, pageChannel, alert.Unknown, 0, 0},
		{"500 after accepting", slacktest.Fault{Status: 500, Accept: true}, pageChannel, alert.Unknown, 0, 1},
		{"reset", slacktest.Fault{Reset: true}, pageChannel, alert.Unknown, 0, 0},
		{"reset after accepting", slacktest.Fault{Reset: true, Accept: true}, pageChannel, alert.Unknown, 0, 1},
		{"hang after accepting", slacktest.Fault{Hang: time.Minute, Accept: true}, pageChannel, alert.Unknown, 0, 1},
		{"no such channel", slacktest.Fault{}, "C0NOWHERE", alert.Permanent, 0, 0},
		{"revoked token", slacktest.Fault{Error: "token_revoked"}, pageChannel, alert.Permanent, 0, 0},
		{"inner error", slacktest.Fault{Error: "internal_error"}, pageChannel, alert.Unknown, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, srv := start(t, func(c *slack.Config) { c.Timeout = 300 * time.Millisecond }, slack.Deps{})
			srv.Fail("chat.postMessage", tt.fault)
			m := message()
			m.Channel = tt.channel
			_, err := s.Post(t.Context(), m)
			var n *alert.NotifyError
			if !errors.As(err, &n) || n.Class != tt.class || n.After != tt.after {
				t.Errorf("got %v, want class %s after %v", err, tt.class, tt.after)
			}
			if err != nil && strings.Contains(err.Error(), slacktest.Token) {
				t.Errorf("the token is in the error: %v", err)
			}
			if got := len(srv.Messages()); got != tt.arrived {
				t.Errorf("%d messages arrived, want %d", got, tt.arrived)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	s, srv := start(t, nil, slack.Deps{})
	srv.Close()
	_, err := s.Post(t.Context(), message())
	var n *alert.NotifyError
	if !errors.As(err, &n) || n.Class != alert.RetryAfter {
		t.Errorf("got %v, want retry_after: nothing was sent", err)
	}
}

func TestRefusedBlocksArriveAsOneLine(t *testing.T) {
	t.Parallel()
	s, srv := start(t, nil, slack.Deps{})
	srv.Fail("chat.postMessage", slacktest.Fault{Error: "invalid_blocks"})
	if _, err := s.Post(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	if m := srv.Messages(); len(m) != 1 || len(m[0].Blocks) != 0 || m[0].Text != "Keysentry PAGE: key compromise (open) inc-1" {
		t.Errorf("got %+v", m)
	}
}

// A thread that takes no more replies is the message's misfortune, not the
// channel's: others may go out meanwhile.
func TestAThreadThatTakesNothingIsNotAPermanentFault(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"cannot_reply_to_message", "restricted_action_thread_locked", "thread_not_found", "invalid_thread_ts"} {
		s, srv := start(t, nil, slack.Deps{})
		srv.Fail("chat.postMessage", slacktest.Fault{Error: name}, slacktest.Fault{Error: name})
		_, err := s.Post(t.Context(), message())
		var n *alert.NotifyError
		if !errors.As(err, &n) || n.Class != alert.Refused {
			t.Errorf("%s: got %v, want class refused", name, err)
		}
	}
}

func TestUpdateOfADeletedMessage(t *testing.T) {
	t.Parallel()
	s, _ := start(t, nil, slack.Deps{})
	err := s.Update(t.Context(), message(), "1.000001")
	var n *alert.NotifyError
	if !errors.As(err, &n) || n.Class != alert.Gone {
		t.Errorf("got %v, want gone", err)
	}
}

func TestChart(t *testing.T) {
	t.Parallel()
	s, srv := start(t, nil, slack.Deps{})
	m := message()
	ts, err := s.Post(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Chart(t.Context(), m, ts); err != nil {
		t.Fatal(err)
	}
	files := srv.Files()
	if len(files) != 1 || files[0].Thread != ts || files[0].Channel != pageChannel {
		t.Fatalf("got %+v", files)
	}
	if _, err := png.Decode(bytes.NewReader(files[0].Content)); err != nil {
		t.Errorf("not a picture: %v", err)
	}
	srv.Fail("files.getUploadURLExternal", slacktest.Fault{Error: "missing_scope"})
	if err := s.Chart(t.Context(), m, ts); err == nil {
		t.Error("a chart that failed must say so")
	}
}

func TestCheckToken(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*slack.Config)
		want   string
	}{
		{"good", nil, ""},
		{"wrong token", func(c *slack.Config) { c.Token.Env = "WRONG" }, "slack.token: Slack refuses the token: invalid_auth"},
		{"another team", func(c *slack.Config) { c.TeamID = "T0OTHER" }, "slack.token: the token is for team T0SLACKTEST, the configuration names T0OTHER"},
		{"nobody there", func(c *slack.Config) { c.APIURL = "http://127.0.0.1:1/" }, "slack: http://127.0.0.1:1/ cannot be asked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, _ := start(t, tt.change, slack.Deps{})
			err := s.CheckToken(t.Context())
			if (err == nil) != (tt.want == "") || (err != nil && !strings.HasPrefix(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			var final *alert.NotifyError
			if got := errors.As(err, &final) && final.Class == alert.Permanent; got != strings.HasPrefix(tt.want, "slack.token") {
				t.Errorf("permanent: got %v for %v", got, err)
			}
			if err != nil && (strings.Contains(err.Error(), "xoxb") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("not a line to show: %v", err)
			}
		})
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  func(*slack.Config)
		want string
	}{
		{"no token", func(c *slack.Config) { c.Token = secret.Ref{} }, "token"},
		{"token not set", func(c *slack.Config) { c.Token.Env = "NOPE" }, "token: environment variable NOPE"},
		{"empty secret file", func(c *slack.Config) { c.SigningSecret = secret.Ref{File: file} }, "signing_secret: secret file"},
		{"channel by name", func(c *slack.Config) { c.Channels.Page = "#security" }, "channels.page"},
		{"no channel", func(c *slack.Config) { c.Channels.Page = "" }, "channels.page"},
		{"address", func(c *slack.Config) { c.APIURL = "slack.com/api" }, "api_url"},
		{"both places", func(c *slack.Config) { c.Token.File = file }, "token: give either"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := slacktest.NewServer()
			t.Cleanup(srv.Close)
			c := config(srv)
			tt.cfg(&c)
			_, err := slack.New(c, slack.Deps{Getenv: getenv(map[string]string{"TOKEN": "x", "SIGNING": "y"})})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if errs := (slack.Config{}).Validate(); len(errs) != 0 {
		t.Errorf("no Slack at all is no fault: %v", errs)
	}
}

// hostile are values that try to be more than text.
var hostile = []string{
	"<!channel> <@U0ANA> <#C0PAGES> <https://evil.example|click>", "*bold* _it_ ~s~ `code` ```block```", "https://evil.example/phish", "HTTPS://EVIL.EXAMPLE",
	"mailto:x@evil.example", "www.evil.example", "javascript:alert(1)", "a\u202egnp.exe", "zero\u200bwidth\u2060\ufeff", "\u2066iso\u2069", "\x00\x1b[31mred\x07",
	"line\nbreak\r\n\ttab", "`", "\u00a0nbsp\u3000wide\u00ad", "tag\U000E0041\U000E007F", "\xff\xfe bad utf8", strings.Repeat("\u202e", 4000), strings.Repeat("x", 20_000), "",
	":tada: &lt;!here&gt; {{x}}", "vs\ufe0f\U000E0100", "\u3164\u115f\u2800",
}

func TestNothingFromAnEventActs(t *testing.T) {
	t.Parallel()
	s, srv := start(t, nil, slack.Deps{Logger: slog.New(slog.DiscardHandler)})
	for _, v := range hostile {
		m := message()
		m.Link = ""
		m.Sentence, m.Resolution = v, v
		m.Facts = []alert.Fact{{Label: v, Values: []string{v, v}, Note: v}}
		m.Plan = &alert.PlanBox{Playbook: v, Summary: v, Status: v, Steps: []string{v}, Clock: v}
		m.Title, m.SQL = v, v
		checkShown(t, s, srv, m)
		checkShown(t, s, srv, alert.Message{ID: "r", IncidentID: v, Channel: pageChannel, Title: v, Lines: []alert.Line{{What: v, Who: v, Text: v}},
			Thread: srv.Messages()[0].TS})
	}
}

func checkShown(t *testing.T, s *slack.Slack, srv *slacktest.Server, m alert.Message) {
	t.Helper()
	if _, err := s.Post(t.Context(), m); err != nil {
		t.Fatalf("%q: %v", m.Title, err)
	}
	all := srv.Messages()
	got := all[len(all)-1]
	if len(got.Blocks) == 0 && m.Thread == "" {
		t.Errorf("%q: the blocks were refused", m.Title)
	}
	shown := slacktest.Show(got)
	if len(shown.Links) > 0 || len(shown.Mentions) > 0 {
		t.Errorf("%q: links %q, mentions %q", m.Title, shown.Links, shown.Mentions)
	}
	for _, r := range shown.Text {
		if r != '\n' && (r < 0x20 || r == 0x7f || slices.Contains([]rune("\u00a0\u00ad\u115f\u2028\u200b\u200e\u202e\u2060\u2066\u2069\u3164\ufeff\ufe0f\U000E0041"), r)) {
			t.Errorf("%q: %U is shown raw", m.Title, r)
		}
	}
	if strings.Contains(shown.Text, "://") || strings.Contains(strings.ToLower(shown.Text), "www.evil") {
		t.Errorf("%q: an address is shown whole: %q", m.Title, shown.Text)
	}
}

// FuzzBlocks holds Block Kit's limits, which the fake workspace checks, for any
// text anywhere.
func FuzzBlocks(f *testing.F) {
	for _, v := range hostile {
		f.Add(v, 3)
	}
	f.Add("x", 500)
	srv := slacktest.NewServer()
	f.Cleanup(srv.Close)
	s, err := slack.New(config(srv), slack.Deps{Getenv: getenv(map[string]string{"TOKEN": slacktest.Token, "SIGNING": "x"})})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, v string, n int) {
		n = max(0, min(n, 600))
		m := message()
		m.Title, m.Sentence, m.Resolution, m.SQL = v, v, v, v
		m.Buttons = append(m.Buttons, alert.Button{Action: "ack", Label: v, RunID: v})
		for range n {
			m.Facts = append(m.Facts, alert.Fact{Label: v, Values: []string{v, v, v}, Note: v})
			m.Plan.Steps = append(m.Plan.Steps, v)
			m.Buttons = append(m.Buttons, alert.Button{Action: "ack", Label: v, RunID: v})
		}
		before := srv.Calls("chat.postMessage")
		if _, err := s.Post(context.Background(), m); err != nil {
			t.Fatal(err)
		}
		if calls := srv.Calls("chat.postMessage") - before; calls != 1 {
			t.Errorf("the blocks were refused: %d calls", calls)
		}
	})
}
