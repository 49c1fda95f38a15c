package mapping_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/mapping"
)

// only maps a record that is one event.
func only(t *testing.T, name, value string, o mapping.Options) (got event.Event) {
	t.Helper()
	n := 0
	shipped(t, name).Map([]byte(value), o, func(_ int32, e *event.Event, err error) {
		if n++; err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got = *e
	})
	if n != 1 {
		t.Fatalf("%s: %d events", name, n)
	}
	return got
}

// TestLongTextsAreNoWayOut: how long a path, a user agent or a name is, a caller
// chooses; nginx writes each byte that is not ASCII as four.
func TestLongTextsAreNoWayOut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(`\xE2\x82`, 20_000)
	for name, tc := range map[string]struct{ mapping, value string }{
		"path":       {"nginx", `203.0.113.9 - bob [01/Mar/2026:10:00:00 +0000] "GET /login/` + long + ` HTTP/1.1" 401 1 "-" "agent"`},
		"referer":    {"nginx", `203.0.113.9 - bob [01/Mar/2026:10:00:00 +0000] "GET /login HTTP/1.1" 401 1 "` + long + `" "agent"`},
		"user agent": {"nginx", `203.0.113.9 - bob [01/Mar/2026:10:00:00 +0000] "GET /login HTTP/1.1" 401 1 "-" "` + long + `"`},
		"envoy":      {"envoy", `[2026-03-01T12:00:01.000Z] "POST /login HTTP/2" 401 UAEX 10 31 1 - "203.0.113.9" "` + long + `" "id" "api.example.com" "-"`},
		"in JSON":    {"envoy", `{"log":"[2026-03-01T12:00:01.000Z] \"POST /login HTTP/2\" 401 UAEX 10 31 1 - \"203.0.113.9\" \"` + strings.ReplaceAll(long, `\`, `\\`) + `\" \"id\" \"api.example.com\" \"-\""}`},
		"user":       {"openssh", `Mar  1 10:00:00 b sshd[1]: Failed password for ` + long + ` from 203.0.113.9 port 4000 ssh2`},
	} {
		o := options
		cuts := 0
		o.Cut = func(_ event.Field, text string) string { cuts++; return text }
		e := only(t, tc.mapping, tc.value, o)
		if want := event.TypeRequestUnauthorized; e.Type != want && tc.mapping != "openssh" || tc.mapping == "openssh" && e.Type != event.TypeSessionDenied || e.SourceIP.String() != "203.0.113.9" {
			t.Errorf("%s: %v from %v", name, e.Type, e.SourceIP)
		}
		if cuts == 0 && name != "referer" {
			t.Errorf("%s: nobody heard of the cut", name)
		}
	}
}

// TestEnvoyLinesThatReadInTwoWays: quotes that a caller sends do not make another
// address the source.
func TestEnvoyLinesThatReadInTwoWays(t *testing.T) {
	t.Parallel()
	line := func(xff, agent, end string) string {
		return `[2026-03-01T12:00:01.000Z] "POST /login HTTP/2" 401 UAEX 10 31 1 - "` + xff + `" "` + agent + `" "id-1" "api.example.com" "10.0.0.7:8080"` + end
	}
	istio := ` outbound|80||x 10.0.0.1:1 10.0.0.2:2 203.0.113.9:4000 sni default`
	for name, tc := range map[string]struct{ value, source, agent string }{
		"plain":                   {line("198.51.100.1,203.0.113.9", "agent", ""), "203.0.113.9", "agent"},
		"a quote in the agent":    {line("203.0.113.9", `a "b" c`, ""), "203.0.113.9", `a "b" c`},
		"forged forwarded-for":    {line(`192.0.2.66" "x,203.0.113.9`, "agent", ""), "invalid IP", ""},
		"forged by the agent":     {line("203.0.113.9", `x" "id-2`, ""), "invalid IP", ""},
		"forged, but with a peer": {line(`192.0.2.66" "x,203.0.113.9`, "agent", istio), "203.0.113.9", ""},
	} {
		e := only(t, "envoy", tc.value, options)
		if e.Type != event.TypeRequestUnauthorized || e.SourceIP.String() != tc.source || e.UserAgent != tc.agent || e.RequestID != "id-1" || e.Service != "api.example.com" {
			t.Errorf("%s: %v from %v by %q, request %q at %q", name, e.Type, e.SourceIP, e.UserAgent, e.RequestID, e.Service)
		}
	}
	shipped(t, "envoy").Map([]byte(line("203.0.113.9", "agent", " and more")), options, func(_ int32, _ *event.Event, err error) {
		if err == nil {
			t.Error("a line with something after its end is believed")
		}
	})
}

// TestYearOfTheRecord: a time without a year is of the year in which the record was
// appended, or the one before, and of the next only at its end.
func TestYearOfTheRecord(t *testing.T) {
	t.Parallel()
	day := func(y int, m time.Month, d int) event.Instant {
		return event.At(time.Date(y, m, d, 12, 0, 0, 0, time.UTC))
	}
	berlin := time.FixedZone("CET", 3600)
	for name, tc := range map[string]struct {
		stamp string
		at    event.Instant
		zone  *time.Location
		want  string
	}{
		"the same day":          {"Mar  1 10:00:00", day(2026, time.March, 1), nil, "2026-03-01T10:00:00Z"},
		"last year":             {"Dec 31 23:59:59", day(2026, time.January, 1), nil, "2025-12-31T23:59:59Z"},
		"a host that is ahead":  {"Jan  1 00:00:10", day(2025, time.December, 31), nil, "2026-01-01T00:00:10Z"},
		"two days ahead is old": {"Mar  3 13:00:00", day(2026, time.March, 1), nil, "2025-03-03T13:00:00Z"},
		"in a zone":             {"Jan  1 00:30:00", day(2025, time.December, 31), berlin, "2025-12-31T23:30:00Z"},
		"a leap day":            {"Feb 29 10:00:00", day(2026, time.March, 1), nil, "2024-02-29T10:00:00Z"},
	} {
		e := only(t, "openssh", tc.stamp+" b sshd[1]: x", mapping.Options{At: tc.at, Zone: tc.zone, Key: []byte("k")})
		if got := e.Time.Time().UTC().Format(time.RFC3339); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
	e := only(t, "openssh", "Mar  1 10:00:00 b sshd[1]: x", mapping.Options{At: day(2026, time.March, 1), Year: 2019, Key: []byte("k")})
	if e.Time.Time().UTC().Year() != 2019 {
		t.Errorf("the year of the topic does not count: %v", e.Time)
	}
}
