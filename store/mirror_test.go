package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// history is a small journal: a finding, its incident, a decision and a run.
func history(t *testing.T) []journal.Record {
	t.Helper()
	share := 0.5
	f := finding.Finding{ID: "f1", Coverage: &share, RuleID: "r1", RuleTitle: "Unauthorized spike", Kind: finding.KeyStraggler, Severity: finding.Page,
		Subject: finding.Subject{Network: "net-1", Field: "key_id", Value: "k1"}, Group: []finding.Pair{{Field: "key_id", Value: "k1"}},
		First: epoch, Last: epoch, Fired: epoch, Count: 3, Cause: event.CauseUnknownKey, Summary: "s"}
	bodies := []struct {
		kind journal.Kind
		body any
	}{
		{journal.KindTookOver, journal.TookOver{Member: "a"}},
		{journal.KindFinding, f},
		{journal.KindIncident, journal.IncidentChange{IncidentID: "i1", Op: "open", FindingID: "f1"}},
		{journal.KindEpisode, journal.Episode{FindingID: "f1", Last: epoch.Add(time.Minute), Count: 9, Closed: true}},
		{journal.KindDecision, journal.Decision{ID: "d1", Action: journal.ActionAck, IncidentID: "i1", Person: "ann", Via: "cli"}},
		{journal.KindDecision, journal.Decision{ID: "d2", Action: journal.ActionClose, IncidentID: "i1", Person: "eve", Via: "cli", Refused: "not on the list"}},
		{journal.KindRunPlanned, journal.RunPlanned{RunID: "run1", Playbook: "rotate-server-key", IncidentID: "i1", Network: "net-1"}},
		{journal.KindStep, journal.Step{RunID: "run1", StepID: "issue", Attempt: 1, State: "done"}},
		{journal.KindRunState, journal.RunState{RunID: "run1", State: "done", Ended: true}},
		{journal.KindKeyObserved, journal.KeyChange{Network: "net-1", KeyID: "k1", State: "revoked", At: epoch, RunID: "run1"}},
	}
	var out []journal.Record
	for i, b := range bodies {
		raw, err := json.Marshal(b.body)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, journal.Record{N: int64(i + 1), Time: epoch.Add(time.Duration(i) * time.Second), Kind: b.kind, Body: raw, Hash: fmt.Sprint("h", i), Offset: int64(i)})
	}
	return out
}

func startMirror(t *testing.T, m *Mirror) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() { cancel(); <-done }
}

func replayOf(records []journal.Record) Replay {
	return func(_ context.Context, from int64, apply func(journal.Record) error) error {
		for _, r := range records {
			if r.N >= from {
				if err := apply(r); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func waitMirrored(t *testing.T, m *Mirror, n int64) {
	t.Helper()
	waitFor(t, func() bool { got, err := m.Mirrored(t.Context()); return err == nil && got == n })
}

func TestMirror(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	records := history(t)
	first := NewMirror(c, replayOf(nil))
	stop := startMirror(t, first)
	for _, r := range records[:4] {
		first.Apply(r)
	}
	waitMirrored(t, first, 4)
	stop()

	// The second reads what the first missed from the journal; what it is also
	// given, folds away.
	second := NewMirror(c, replayOf(records))
	stop = startMirror(t, second)
	for _, r := range records[6:] {
		second.Apply(r)
	}
	waitMirrored(t, second, int64(len(records)))
	stop()

	tests := []struct {
		name, sql string
		want      [][]string
	}{
		{"journal", "SELECT count(), uniqExact(n) FROM journal FINAL", [][]string{{"10", "10"}}},
		{"finding", "SELECT id, severity, count, closed, group_by['key_id'], coverage FROM v_findings", [][]string{{"f1", "page", "9", "true", "k1", "0.5"}}},
		{"incident", "SELECT incident_id, last_op, findings, last_person FROM v_incidents", [][]string{{"i1", "ack", "1", "ann"}}},
		{"run", "SELECT run_id, playbook, last_state, steps_done FROM v_playbook_runs", [][]string{{"run1", "rotate-server-key", "done", "1"}}},
		{"key", "SELECT key_id, last_state, told_by[1] FROM v_server_keys", [][]string{{"k1", "revoked", "journal"}}},
	}
	for _, tt := range tests {
		rows, err := c.Query(t.Context(), tt.sql, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, table(t, rows)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestMirrorKeepsAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	m := NewMirror(c, nil)
	defer startMirror(t, m)()
	m.Apply(journal.Record{N: 1, Kind: journal.KindFinding, Body: json.RawMessage(`{"id":1}`)})
	waitMirrored(t, m, 1)
	if got := value(t, m.odd); got != 1 {
		t.Errorf("counted %v unreadable records, want 1", got)
	}
}

func TestMirrorReadsAgainWhatDidNotFit(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	var records []journal.Record
	for n := int64(1); n <= 40; n++ {
		records = append(records, journal.Record{N: n, Kind: "note", Body: make(json.RawMessage, 1<<20)})
	}
	fails := 2
	whole := replayOf(records)
	m := NewMirror(c, func(ctx context.Context, from int64, apply func(journal.Record) error) error {
		if fails--; fails >= 0 {
			return errors.New("the broker is away")
		}
		return whole(ctx, from, apply)
	})
	for _, r := range records { // nobody drains: the buffer holds about 32 of them
		m.Apply(r)
	}
	if m.missing == 0 || m.size > maxMirrorBytes+2<<20 {
		t.Fatalf("missing from %d, %d bytes buffered", m.missing, m.size)
	}
	defer startMirror(t, m)()
	waitMirrored(t, m, 40)
	var n uint64
	if err := c.conn.QueryRow(t.Context(), "SELECT count() FROM journal FINAL").Scan(&n); err != nil || n != 40 {
		t.Errorf("%d records, error %v, want 40", n, err)
	}
}
