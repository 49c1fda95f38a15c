package slack_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/slack"
	"github.com/keysentry/keysentry/alert/slack/slacktest"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Every alert arrives, and none twice, whatever Slack does, as long as it can
// be asked what it has.
func TestEveryAlertArrivesOnceThroughFaults(t *testing.T) {
	t.Parallel()
	faults := map[string][]slacktest.Fault{
		"429":                {{Status: 429, RetryAfter: time.Second}, {Status: 429, RetryAfter: time.Second}},
		"500":                {{Status: 500}, {Status: 500}, {Status: 503}},
		"500 after accept":   {{Status: 500, Accept: true}, {Status: 500, Accept: true}, {Status: 500, Accept: true}},
		"hang":               {{Hang: 10 * time.Second}, {Hang: 10 * time.Second}},
		"hang after accept":  {{Hang: 10 * time.Second, Accept: true}, {Hang: 10 * time.Second, Accept: true}},
		"reset":              {{Reset: true}, {Reset: true}, {Reset: true}},
		"reset after accept": {{Reset: true, Accept: true}, {Reset: true, Accept: true}, {Reset: true, Accept: true}},
	}
	for name, list := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, srv := start(t, func(c *slack.Config) { c.Timeout = 300 * time.Millisecond }, slack.Deps{})
			srv.Fail("chat.postMessage", list...)
			srv.Fail("conversations.history", slacktest.Fault{Status: 500})
			cfg := alert.DefaultConfig()
			cfg.Flood.FanOut = 100
			cfg.Delivery = alert.Delivery{PerChannel: time.Millisecond, PerMinute: 100, EditInterval: time.Millisecond, ReplyInterval: time.Millisecond,
				RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond, Timeout: time.Second, SettleAfter: 50 * time.Millisecond, Lookups: 5}
			j := &memJournal{}
			m, err := alert.New(cfg, alert.Deps{Journal: j, Notifier: s, Now: time.Now,
				Routes: alert.Routes{finding.Page: pageChannel, finding.Ticket: ticketChannel}})
			if err != nil {
				t.Fatal(err)
			}
			j.reader = m
			o := &office{slack: srv, journal: j, manager: m}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()
			defer func() { cancel(); <-done }()
			var fs []finding.Finding
			for i := range 6 {
				fs = append(fs, finding.Finding{ID: fmt.Sprint(i), RuleID: "r", RuleTitle: "t", Kind: finding.Other, Count: 1,
					Severity: finding.Severity(1 + i%2), Subject: finding.Subject{Network: "n", Field: "host", Value: fmt.Sprint(i)}})
			}
			if err := m.Deliver(ctx, fs, event.Partition{}, 0); err != nil {
				t.Fatal(err)
			}
			m.Lead(ctx, 0)
			o.until(t, func() bool {
				for _, inc := range m.Incidents() {
					if len(inc.Roots) == 0 {
						return false
					}
				}
				return len(m.Incidents()) == len(fs)
			})
			checkEachOnce(t, srv, len(fs))
			// What failed gives way while it waits; what arrived did so in order.
			if first := srv.Messages()[0].Channel; strings.HasSuffix(name, "accept") && first != pageChannel {
				t.Errorf("the first message went to %s, pages go first", first)
			}
		})
	}
}

func checkEachOnce(t *testing.T, srv *slacktest.Server, want int) {
	t.Helper()
	seen := map[any]int{}
	for _, msg := range srv.Messages() {
		payload, _ := msg.Metadata["event_payload"].(map[string]any)
		seen[payload["id"]]++
	}
	if len(seen) != want {
		t.Errorf("%d messages, want %d", len(seen), want)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%v arrived %d times", id, n)
		}
	}
}
