package alert

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"api-1.eu":                  "api-1.eu",
		"Zoë 東京 Ω":                  "Zoë 東京 Ω",
		"a\nb\tc\r":                 `a\nb\tc\r`,
		"\x1b[31m\x00":              `\u{1b}[31m\u{0}`,
		"a\u202eb\u200bc":           `a\u{202e}b\u{200b}c`,
		"\u00a0x\u3000":             `\u{a0}x\u{3000}`,
		"\xff\xfeok":                `\xff\xfeok`,
		"\uFFFD":                    "\uFFFD",
		"https://evil.example/a":    "https[:]//evil.example/a",
		"see WWW.evil.example":      "see WWW[.]evil.example",
		"mailto:a@b JavaScript:x()": "mailto[:]a@b JavaScript[:]x()",
		"\u3164\ufe0f\U000E0041":    `\u{3164}\u{fe0f}\u{e0041}`,
		"":                          "",
	}
	for in, want := range tests {
		if got := Printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"a\u202eb", "https://x", "\xff", "www.www.", "mailto:mailto:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\t\x00\x1b") || strings.Contains(got, "://") {
			t.Errorf("%q: %q", s, got)
		}
		for _, r := range got {
			if hidden(r) {
				t.Errorf("%q: %U is left", s, r)
			}
		}
		if linkish.MatchString(got) {
			t.Errorf("%q: %q still looks like a link", s, got)
		}
	})
}

// TestMessageSaysHowMuchDataItRestsOn, when it is not all and when it is known.
func TestMessageSaysHowMuchDataItRestsOn(t *testing.T) {
	t.Parallel()
	share := func(v float64) *float64 { return &v }
	for name, tc := range map[string]struct {
		coverage *float64
		want     string
	}{
		"part of it":  {share(0.973), "97.30 % of the events of that time"},
		"nearly all":  {share(0.999999), "99.99 % of the events of that time"},
		"all of it":   {share(1), ""},
		"not counted": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			f := found(finding.KeyCompromise, finding.Page, "key_id", "k1", 1)
			f.Coverage = tc.coverage
			r.record(f)
			r.pass(time.Second)
			text := RenderText(r.messenger.roots()[0].Message)
			if !strings.Contains(text, tc.want) || tc.want == "" && strings.Contains(text, "Coverage") {
				t.Errorf("want %q in\n%s", tc.want, text)
			}
		})
	}
}

func TestRootMessageSaysEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.ConsoleURL = "https://keysentry.example/" })
	f := found(finding.KeyCompromise, finding.Page, "key_id", "k1", 1)
	f.Cause, f.CauseConfidence, f.Threshold, f.Value = event.CauseRetiredKeyForeign, 0.97, "gte 1", 3
	f.Resolution, f.Window = "Rotate the key.", int64(5*time.Minute)
	f.Facts = []finding.Pair{{Field: "asn", Value: "AS64500"}}
	f.Evidence = []finding.Evidence{{Type: event.TypeRequestUnauthorized, Host: "api-1", SourceIP: "198.51.100.7", UserID: "u1"}, {Type: event.TypeRequestUnauthorized, Host: "api-2"}, {Host: "no-type"}}
	r.record(f)
	plan(r, r.only().ID)
	r.pass(time.Second)
	id := r.only().ID
	want := `#page  PAGE: key compromise (open)  [` + id + `]
  Something happened
  Cause:         retired_key_foreign (confidence 97 %)
  Key id:        k1
  Network:       net
  Numbers:       3 when it fired, where the rule says gte 1; findings: 1, events that satisfied the rule: 3
  Since:         2026-03-01 11:59:01 UTC
  Host:          api-1, api-2
  Source ip:     198.51.100.7
  User id:       u1
  Asn:           AS64500
  Rules:         Title of rule-key_compromise (1)
  Plan:          rotate-server-key: rotate (waits for approval until 2026-03-01 14:00:00 UTC)
     1. issue: POST /keys
  What to do:    Rotate the key.
  SQL:           SELECT * FROM keysentry.events FINAL
                 WHERE network = 'net'
                   AND key_id = 'k1'
                   AND ts BETWEEN '2026-03-01 11:54:01' AND '2026-03-01 11:59:01'
                 ORDER BY ts
  Console:       https://keysentry.example/incidents/` + id + `
  [ Acknowledge ] [ Approve plan ] [ Deny ] [ Silence 1 h ] [ False positive ]
`
	if diff := cmp.Diff(want, RenderText(r.messenger.roots()[0].Message)); diff != "" {
		t.Error(diff)
	}
	r.decide(journal.Decision{ID: "a", Action: journal.ActionAck, IncidentID: id, Person: "ana"})
	r.pass(time.Minute)
	text := RenderText(r.messenger.roots()[0].Message)
	for _, part := range []string{"(acknowledged)", "Acknowledged:  ana", "until 2026-03-01 12:15:01 UTC"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing:\n%s", part, text)
		}
	}
	if strings.Contains(text, "[ Acknowledge ]") {
		t.Error("there is still a button to acknowledge")
	}
}

func TestHostileValuesStayText(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	evil := "\u202e<!channel> https://evil.example\x1b[2J\n\n'; DROP TABLE x --"
	f := found(finding.Other, finding.Page, "host", evil, 1)
	f.Facts = []finding.Pair{{Field: evil, Value: evil}}
	f.Evidence = []finding.Evidence{{Type: event.TypeRequestUnauthorized, UserID: evil}}
	r.record(f)
	r.append(journal.KindIncident, journal.IncidentChange{IncidentID: r.only().ID, Op: "note", Note: evil})
	r.pass(time.Minute)
	for _, m := range r.messenger.sent {
		text := RenderText(m.Message)
		for _, bad := range []string{"\u202e", "\x1b", "://", "\n\n"} {
			if strings.Contains(strings.TrimRight(text, "\n"), bad) {
				t.Errorf("%q is shown raw:\n%q", bad, text)
			}
		}
	}
	if sql := r.messenger.roots()[0].SQL; strings.Contains(sql, "DROP") || !strings.Contains(sql, "host = unhex('") {
		t.Errorf("got\n%s", sql)
	}
}

func TestTextNotifier(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	n := NewTextNotifier(&b)
	ts, err := n.Post(t.Context(), Message{IncidentID: "inc-1", Channel: "page", Title: "PAGE: x (open)"})
	if err != nil || ts == "" {
		t.Fatalf("%q, %v", ts, err)
	}
	if _, err := n.Post(t.Context(), Message{IncidentID: "inc-1", Channel: "page", Thread: ts, Lines: []Line{{What: "acknowledged", Who: "ana"}}}); err != nil {
		t.Fatal(err)
	}
	want := "#page  PAGE: x (open)  [inc-1]\n\n  #page  thread of inc-1\n  | 00:00:00  acknowledged by ana\n\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	if _, found, err := n.Lookup(t.Context(), Message{}); found || err != nil {
		t.Errorf("look-up: %v, %v", found, err)
	}
}
