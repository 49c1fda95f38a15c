package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// rolled is a rollup's count and its truth from the events.
func rolled(t *testing.T, c *Client) (minutely, hourly, truth uint64) {
	t.Helper()
	err := c.conn.QueryRow(t.Context(), `SELECT (SELECT sum(events) FROM auth_minutely FINAL), (SELECT sum(events) FROM auth_hourly FINAL), (SELECT count() FROM events FINAL)`).
		Scan(&minutely, &hourly, &truth)
	if err != nil {
		t.Fatal(err)
	}
	return minutely, hourly, truth
}

func TestRollups(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	roll := NewRoller(c)
	round := func(step string) {
		t.Helper()
		if _, err := roll.Once(t.Context()); err != nil {
			t.Fatal(step, err)
		}
		m, h, truth := rolled(t, c)
		if m != truth || h != truth {
			t.Errorf("%s: %d events, minutely %d, hourly %d", step, truth, m, h)
		}
	}
	round("empty")
	first := batch(part0, 0, 150_000) // 150 s of events
	appendBatch(t, w, first, nil)
	flush(t, w)
	round("first")
	round("again")
	late := batch(part0, 150_000, 150_010)
	for i := range late.Events {
		late.Events[i].TS = epoch.Add(time.Duration(i) * time.Second) // effective time in a minute that is rolled up
	}
	appendBatch(t, w, late, nil)
	flush(t, w)
	round("late rows")
}

// TestRollupsOfARoundThatEndedEarly: a first round over many days dies behind the
// first day, and the next comes when what was stored is long not new any more.
func TestRollupsOfARoundThatEndedEarly(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	b := newEventBlock()
	for i := range 5 {
		e := mint(event.Ref{Topic: part0.Topic, Offset: int64(i)})
		at := epoch.Add(time.Duration(i) * 24 * time.Hour)
		e.Time, e.TS, e.ObservedAt = at, at, at
		b.append(&e)
	}
	s := newInserter(c)
	defer s.close()
	if err := s.send(t.Context(), &b.block); err != nil {
		t.Fatal(err)
	}
	if err := c.conn.Exec(t.Context(), "ALTER TABLE events UPDATE stored_at = now() - INTERVAL 1 HOUR WHERE 1 SETTINGS mutations_sync = 1"); err != nil {
		t.Fatal(err)
	}
	roll := NewRoller(c)
	days, err := roll.dirty(t.Context(), time.Time{})
	if err != nil || len(days) != 5 {
		t.Fatalf("%d days are to be computed, want 5: %v", len(days), err)
	}
	if err := roll.day(t.Context(), days[0]); err != nil {
		t.Fatal(err)
	}
	if m, _, _ := rolled(t, c); m != 1 {
		t.Fatalf("the round that ended early computed %d events, want 1", m)
	}
	if n, err := roll.Once(t.Context()); err != nil || n != 5 {
		t.Errorf("the next round computed %d minutes, want 5: %v", n, err)
	}
	if m, h, truth := rolled(t, c); m != truth || h != truth {
		t.Errorf("%d events, minutely %d, hourly %d", truth, m, h)
	}
	if n, err := roll.Once(t.Context()); err != nil || n != 0 {
		t.Errorf("a round without new rows computed %d minutes: %v", n, err)
	}
}

// TestRollupFollowsAChangedCause stores a copy with another cause, as a paused
// former leader might: the old group must go to zero.
func TestRollupFollowsAChangedCause(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	e := mint(event.Ref{Topic: part0.Topic, Offset: 7})
	e.Type, e.Cause = event.TypeAuthTokenDenied, event.CauseUnknownKey
	roll := NewRoller(c)
	for _, cause := range []event.Cause{event.CauseUnknownKey, event.CauseClockSkew} {
		s := newInserter(c)
		b := newEventBlock()
		e.Cause = cause
		b.append(&e)
		b.block.table = "events"
		if err := c.conn.Exec(t.Context(), "ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 0"); err != nil {
			t.Fatal(err)
		}
		if err := s.send(t.Context(), &b.block); err != nil {
			t.Fatal(err)
		}
		s.close()
		if _, err := roll.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := c.Query(t.Context(), "SELECT cause, sum(events) AS n FROM auth_minutely FINAL GROUP BY cause HAVING n > 0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"clock_skew", "1"}}, table(t, rows)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func table(t *testing.T, rows *Rows) [][]string {
	t.Helper()
	defer rows.Close()
	var out [][]string
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		line := make([]string, len(v))
		for i := range v {
			line[i] = Text(v[i])
		}
		out = append(out, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRegistries(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	w, _ := startWriter(t, c)
	p := event.Partition{Topic: "lifecycle"}
	assign(t, w, p, 0)
	b := &ingest.Batch{Partition: p, Next: 6}
	add := func(typ event.Type, at event.Instant, key, cert string) {
		e := event.Event{Type: typ, Origin: event.OriginConsole, Time: at, TS: at, ObservedAt: at, Ref: event.Ref{Topic: p.Topic, Offset: int64(len(b.Events))}}
		e.SetString(event.FieldNetwork, "net-1")
		if key != "" {
			e.SetString(event.FieldKeyID, key)
		}
		if cert != "" {
			e.SetString(event.FieldCertID, cert)
			e.SetString(event.FieldCertCN, "api.example")
			e.SetInstant(event.FieldCertNotAfter, epoch.Add(90*24*time.Hour))
		}
		b.Events = append(b.Events, e)
	}
	add(event.TypeServerKeyCreated, epoch, "k1", "")
	add(event.TypeServerKeyActivated, epoch.Add(time.Hour), "k1", "")
	add(event.TypeServerKeyRevoked, epoch.Add(2*time.Hour), "k1", "")
	add(event.TypeServerKeyCreated, epoch.Add(time.Hour), "k2", "")
	add(event.TypeCertificateIssued, epoch, "", "c1")
	add(event.TypeCertificateActivated, epoch, "", "c1") // same moment: the later state counts
	appendBatch(t, w, b, nil)
	flush(t, w)

	wantKeys := []ServerKey{
		{Network: "net-1", KeyID: "k1", State: "revoked", Created: epoch, Activated: epoch.Add(time.Hour), Revoked: epoch.Add(2 * time.Hour), ToldBy: []string{"events:lifecycle"}},
		{Network: "net-1", KeyID: "k2", State: "created", Created: epoch.Add(time.Hour), ToldBy: []string{"events:lifecycle"}},
	}
	wantCerts := []Certificate{{Network: "net-1", CertID: "c1", CN: "api.example", State: "active", NotAfter: epoch.Add(90 * 24 * time.Hour), Activated: epoch, ToldBy: []string{"events:lifecycle"}}}
	check := func(when string) {
		t.Helper()
		keys, err := c.ServerKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantKeys, keys); diff != "" {
			t.Errorf("%s: keys (-want +got):\n%s", when, diff)
		}
		certs, err := c.Certificates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantCerts, certs); diff != "" {
			t.Errorf("%s: certificates (-want +got):\n%s", when, diff)
		}
	}
	check("from events")
	roll := NewRoller(c)
	for range 2 {
		if _, err := roll.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check("from events and registry")
	if err := c.conn.Exec(t.Context(), "TRUNCATE TABLE events"); err != nil { // retention
		t.Fatal(err)
	}
	check("from the registry alone")
}
