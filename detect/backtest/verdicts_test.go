package backtest_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/backtest"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/store"
)

// judge keeps a finding whose incident a person closed with a verdict, in the
// records after n of the journal; it returns the last one.
func judge(t *testing.T, q querier, n int64, f finding.Finding, verdict string) int64 {
	t.Helper()
	m := store.NewMirror(q.Client, func(context.Context, int64, func(journal.Record) error) error { return nil })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	record := func(kind journal.Kind, body any) {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		n++
		m.Apply(journal.Record{N: n, Kind: kind, Time: f.First, Body: b})
	}
	record(journal.KindFinding, f)
	record(journal.KindIncident, journal.IncidentChange{IncidentID: "inc-" + f.ID, Op: "open", FindingID: f.ID})
	if verdict != "" {
		record(journal.KindDecision, journal.Decision{ID: f.ID, Action: journal.ActionClose, IncidentID: "inc-" + f.ID, Person: "p", Verdict: verdict})
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if got, err := m.Mirrored(t.Context()); err == nil && got == n {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatal("the journal is not in ClickHouse")
		}
	}
}

// TestVerdicts: findings of a backtest are counted by what people said about the
// same thing at the same time.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	q := newStore(t)
	var events []event.Event
	for u, user := range []string{"u0", "u1", "u2", "u3"} {
		for i := range 3 {
			ts := start.Add(time.Duration(u)*time.Hour + time.Duration(i)*time.Second)
			e := event.Event{Ref: event.Ref{Topic: "auth.events", Offset: int64(len(events))}, TS: ts, Time: ts, ObservedAt: ts, Type: event.TypeSessionDenied}
			e.Present = e.Present.Set(event.FieldType)
			e.SetString(event.FieldUserID, user)
			events = append(events, e)
		}
	}
	save(t, q.Client, events)
	past := func(id, rule, user string, at time.Duration) finding.Finding {
		return finding.Finding{ID: id, RuleID: rule, Group: []finding.Pair{{Field: "user_id", Value: user}}, Subject: finding.Subject{Field: "user_id", Value: user},
			First: start.Add(at), Last: start.Add(at + time.Minute)}
	}
	n := judge(t, q, 0, past("f0", "burst", "u0", 0), "false")
	n = judge(t, q, n, past("f1", "another rule", "u1", time.Hour), "true")
	n = judge(t, q, n, past("f2", "burst", "u2", -time.Hour), "false") // at another time
	judge(t, q, n, past("f3", "burst", "u3", 3*time.Hour), "")         // nobody said anything

	rep, _ := run(t, q, load(t, brute), func(c *backtest.Config) { c.From, c.To = start.Add(-time.Minute), start.Add(5*time.Hour) })
	for _, r := range rep.Rules {
		if r.ID != "burst" {
			continue
		}
		if diff := cmp.Diff(backtest.Verdicts{True: 1, False: 1, None: 2}, r.Verdicts); diff != "" || r.FalseShare == nil || *r.FalseShare != 0.5 {
			t.Errorf("share %v, verdicts (-want +got):\n%s", r.FalseShare, diff)
		}
		return
	}
	t.Error("the rule is not in the report")
}
