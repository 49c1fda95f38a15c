package app

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

func TestDigestMessage(t *testing.T) {
	t.Parallel()
	many := make([]posture.Result, 7)
	for i := range many {
		many[i] = posture.Result{Subject: finding.Subject{Network: "n", Field: "key_id", Value: "k"}, Status: posture.Fail, Value: "400 days"}
	}
	card := posture.Scorecard{
		Rows: []posture.Row{
			{Title: "Server key age", Target: "< 365 days", Status: posture.Fail, Results: many},
			{Title: "Secure mode", Target: "on", Status: posture.Pass, Results: []posture.Result{{Status: posture.Pass}}},
			{Title: "mTLS coverage", Target: "100 %", Status: posture.Unknown, Detail: "1 pass; network n: only 9.0 % of the data is there"},
		},
		Coverage: posture.Held{Networks: []posture.NetworkCoverage{{Network: "n", Expected: 100, Held: 9}}, Lost: []string{"t/0 1-2 lost"}},
		Notes:    []posture.Note{{Title: "Journal head", Values: []string{"7:abc"}}},
	}
	due := event.At(time.Date(2026, 12, 1, 7, 0, 0, 0, time.UTC))
	msg := digestMessage(due, "C1", card)
	if msg.ID != "digest/2026-12-01T07:00:00Z" || msg.IncidentID != "" || msg.Channel != "C1" || msg.Title != "Posture: fail (2026-12-01)" {
		t.Errorf("%+v", msg)
	}
	if diff := cmp.Diff("1 of 3 targets are met, 1 missed, 0 nearly, 1 unknown.", msg.Sentence); diff != "" {
		t.Error(diff)
	}
	text := alert.RenderText(msg)
	for _, want := range []string{"fail, key_id k: 400 days (network n)", "and 2 more (target < 365 days)", "unknown, 1 pass; network n: only", "Journal head:  7:abc", "not stored: t/0 1-2 lost", "n: only 9.0 % of the data is there"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if again := digestMessage(due, "C1", card); again.ID != msg.ID {
		t.Error("one digest has two names")
	}
}

// A scorecard of any size makes a message that the outbox takes.
func TestDigestMessageIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 5000)
	var card posture.Scorecard
	for range 300 {
		row := posture.Row{Title: "x", Status: posture.Fail, Detail: long}
		for range 50 {
			row.Results = append(row.Results, posture.Result{Status: posture.Fail, Value: long, Subject: finding.Subject{Field: "f", Value: long}})
		}
		card.Rows = append(card.Rows, row)
		card.Coverage.Lost = append(card.Coverage.Lost, long)
	}
	card.Notes = []posture.Note{{Title: "t", Values: []string{long, long, long, long, long, long, long}}}
	if n := len(alert.RenderText(digestMessage(1, "", card))); n > 100_000 {
		t.Errorf("%d bytes", n)
	}
}
