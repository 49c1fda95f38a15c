package store

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

// dayEvent is one event for the checks of the last day.
type dayEvent struct {
	kind  event.Type
	net   string
	cause event.Cause
	mode  event.AuthMode
	ip    string
	set   map[event.Field]string
	age   time.Duration // before the end of the day
}

func tellDay(t *testing.T, c *Client, end event.Instant, events ...dayEvent) {
	t.Helper()
	b := newEventBlock()
	for i, d := range events {
		at := end.Add(-d.age)
		e := event.Event{Type: d.kind, Origin: event.OriginBackend, Cause: d.cause, Mode: d.mode, Ref: event.Ref{Topic: "t", Offset: int64(i)}, Time: at, TS: at, ObservedAt: at}
		e.SetString(event.FieldNetwork, d.net)
		for f, v := range d.set {
			e.SetString(f, v)
		}
		if d.ip != "" {
			e.SourceIP = netip.MustParseAddr(d.ip)
			e.Present = e.Present.Set(event.FieldSourceIP)
		}
		b.append(&e)
	}
	s := newInserter(c)
	defer s.close()
	for range 2 { // the second time as a re-read would: nothing may count twice
		if err := s.send(t.Context(), &b.block); err != nil {
			t.Fatal(err)
		}
	}
}

// rowsOf counts the rows that a shown query returns.
func rowsOf(t *testing.T, c *Client, query string) int {
	t.Helper()
	table, err := c.Select(t.Context(), query, posture.Limits{Rows: 1000, Time: 10 * time.Second})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return len(table.Rows)
}

func TestPostureFacts(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	noDedup(t, c)
	until := event.At(time.Now().UTC().Truncate(time.Second))
	since := until.Add(-24 * time.Hour)
	if m, err := c.Mints(t.Context(), since, until); err != nil || len(m) != 0 {
		t.Fatal(m, err) // nothing is there
	}
	const nasty = `h'; DROP TABLE events --`
	mint := func(net string, age time.Duration, mode event.AuthMode, host, cert string) dayEvent {
		return dayEvent{kind: event.TypeAuthTokenIssued, net: net, mode: mode, age: age, set: map[event.Field]string{event.FieldService: "s", event.FieldHost: host, event.FieldCertID: cert}}
	}
	denied := func(cause event.Cause, ip, host string, age time.Duration) dayEvent {
		return dayEvent{kind: event.TypeAuthTokenDenied, net: "bad", cause: cause, ip: ip, age: age, set: map[event.Field]string{event.FieldHost: host}}
	}
	tellDay(t, c, until,
		mint("good", time.Hour, event.ModeSecure, "a", "c1"), mint("good", 2*time.Hour, event.ModeSecureMtls, "a", "c1"), mint("good", 25*time.Hour, event.ModeUnsecure, "old", ""),
		mint("bad", time.Hour, event.ModeUnsecure, nasty, ""), mint("bad", time.Hour, event.ModeSecure, "b", "c1"),
		denied(event.CauseUnknownKey, "203.0.113.9", "x", time.Hour), denied(event.CauseUnknownKey, "203.0.113.9", "y", 2*time.Hour),
		denied(event.CauseCertExpired, "", nasty, time.Hour), denied(event.CauseUserBanned, "203.0.113.9", "x", time.Hour), denied(event.CauseUnknownKey, "203.0.113.9", "x", 30*time.Hour),
		dayEvent{kind: event.TypeRequestUnauthorized, net: "bad", cause: event.CauseUnknownKey, ip: "2001:db8::1", age: time.Hour, set: map[event.Field]string{event.FieldEndpoint: "/api/v4/authentication/token"}},
		dayEvent{kind: event.TypeRequestUnauthorized, net: "bad", cause: event.CauseUnknownKey, ip: "2001:db8::2", age: time.Hour, set: map[event.Field]string{event.FieldEndpoint: "/api/v3/posts"}},
		dayEvent{kind: event.TypeSessionCreated, net: "bad", age: time.Hour}, dayEvent{kind: event.TypeSessionDenied, net: "bad", cause: event.CauseExpiredAuthToken, age: time.Hour},
		dayEvent{kind: event.TypeSessionDenied, net: "bad", cause: event.CauseSessionRevoked, age: time.Hour},
		dayEvent{kind: event.TypeSecureModeEnabled, net: "good", age: 100 * 24 * time.Hour},
		dayEvent{kind: event.TypeSecureModeEnabled, net: "bad", age: 100 * 24 * time.Hour}, dayEvent{kind: event.TypeSecureModeDisabled, net: "bad", age: 50 * 24 * time.Hour, set: map[event.Field]string{event.FieldActor: "eve"}},
	)
	t.Run("mints", func(t *testing.T) {
		got, err := c.Mints(t.Context(), since, until)
		if err != nil {
			t.Fatal(err)
		}
		if n := rowsOf(t, c, got[0].Query); n != 1 {
			t.Errorf("the query shows %d rows", n)
		}
		got[0].Query, got[1].Query = "", ""
		if diff := cmp.Diff([]posture.Mints{{Network: "bad", Issued: 2, Unsecure: 1, Secure: 1}, {Network: "good", Issued: 2, Secure: 2}}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("unauthorized", func(t *testing.T) {
		got, err := c.Unauthorized(t.Context(), since, until)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, r := range got {
			lines = append(lines, strings.Join([]string{r.Network, r.Cause, r.SourceIP, r.Host}, "|"))
			if n := rowsOf(t, c, r.Query); uint64(n) != r.Count || r.First == 0 || r.Last < r.First {
				t.Errorf("%+v: the query shows %d rows", r, n)
			}
		}
		if diff := cmp.Diff([]string{"bad|unknown_key|203.0.113.9|", "bad|cert_expired||" + nasty, "bad|unknown_key|2001:db8::1|"}, lines); diff != "" || got[0].Count != 2 {
			t.Error(diff, got)
		}
	})
	t.Run("mtls", func(t *testing.T) {
		got, err := c.MintCoverage(t.Context(), since, until)
		if err != nil {
			t.Fatal(err)
		}
		if n := rowsOf(t, c, got[0].Query); n != 1 {
			t.Errorf("the query shows %d rows", n)
		}
		got[0].Query, got[1].Query = "", ""
		want := []posture.MintCoverage{{Network: "bad", Service: "s", Mints: 2, WithCert: 1, Hosts: []string{nasty}, HostCount: 1}, {Network: "good", Service: "s", Mints: 2, WithCert: 2, Hosts: []string{}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("failures", func(t *testing.T) {
		got, err := c.Failures(t.Context(), since, until)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if n := rowsOf(t, c, got[i].Query); uint64(n) != got[i].Failed {
				t.Errorf("%+v: the query shows %d rows", got[i], n)
			}
			got[i].Query, got[i].Causes = "", nil
		}
		want := []posture.Failures{{Network: "bad", Stage: "mint", Attempts: 6, Failed: 3}, {Network: "bad", Stage: "redeem", Attempts: 3, Failed: 1}, {Network: "good", Stage: "mint", Attempts: 2}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("secure mode", func(t *testing.T) {
		got, err := c.SecureModes(t.Context(), until)
		if err != nil || len(got) != 2 {
			t.Fatal(got, err)
		}
		if got[0].On || got[0].Actor != "eve" || got[0].At != until.Add(-50*24*time.Hour) || !got[1].On || rowsOf(t, c, got[0].Query) != 2 {
			t.Errorf("%+v", got)
		}
	})
}

func TestSelectIsReadOnlyAndBounded(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	ask := func(q string) (posture.Table, error) {
		return c.Select(t.Context(), q, posture.Limits{Rows: 10, Time: 2 * time.Second})
	}
	got, err := ask("SELECT number AS n, toString(number) AS s FROM numbers(10)")
	if err != nil || len(got.Rows) != 10 || got.Columns[1] != (posture.Column{Name: "s", Type: "String"}) || got.Rows[9][1] != "9" {
		t.Fatal(got, err)
	}
	for _, view := range []string{"v_events", "v_key_age", "v_coverage", "v_posture", "v_mtls_coverage"} {
		if _, err := ask("SELECT * FROM " + view); err != nil {
			t.Errorf("%s: %v", view, err)
		}
	}
	for name, q := range map[string]string{
		"rows": "SELECT number FROM numbers(11)", "time": "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1", "nothing like it": "SELECT * FROM nowhere",
		"insert": "INSERT INTO posture_results (check_name) VALUES ('x')", "drop": "DROP TABLE events", "limits": "SELECT 1 SETTINGS max_result_rows = 0",
		"another source": "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')", "files": "SELECT * FROM file('/etc/passwd', 'LineAsString', 'l String')",
	} {
		if _, err := ask(q); err == nil {
			t.Errorf("%s: answered", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	if n := rowsOf(t, c, "SELECT 1 FROM events"); n != 0 {
		t.Error(n)
	}
}

func TestMirrorKeepsPostureResults(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	m := NewMirror(c, nil)
	record := func(n int64, check string, due event.Instant, status string, results ...posture.Result) journal.Record {
		raw, err := json.Marshal(results)
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(journal.PostureRun{Check: check, Due: due, Status: status, Results: raw})
		if err != nil {
			t.Fatal(err)
		}
		return journal.Record{N: n, Kind: journal.KindPosture, Time: due, Body: body}
	}
	key := finding.Subject{Network: "n", Field: "key_id", Value: "k"}
	bad := posture.Result{Subject: key, Status: posture.Fail, Severity: finding.Page, Stage: "365", Value: "400 days", Query: "SELECT 1"}
	recs := []journal.Record{
		record(1, "key_age", epoch, "fail", bad), record(2, "key_age", epoch.Add(time.Hour), "pass", posture.Result{Subject: key, Status: posture.Pass, Value: "0 days"}),
		record(3, "digest", epoch, "unknown"),
		{N: 4, Kind: journal.KindPosture, Time: epoch, Body: json.RawMessage(`{"check":"odd","due":"2026-03-01T10:00:00Z","status":"fail","results":{"not":"a list"}}`)},
	}
	for range 2 {
		if err := m.insert(t.Context(), recs); err != nil {
			t.Fatal(err)
		}
	}
	table, err := c.Select(t.Context(), `SELECT check_name, toString(toUInt8(whole_run)), toString(toUInt8(newest)), subject_value, status, severity, stage, value FROM v_posture ORDER BY check_name, due, subject_value`,
		posture.Limits{Rows: 100, Time: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range table.Rows {
		var cells []string
		for _, v := range r {
			cells = append(cells, Text(v))
		}
		got = append(got, strings.Join(cells, "|"))
	}
	want := []string{"digest|1|1||unknown|||", "key_age|1|0||fail|||", "key_age|0|0|k|fail|page|365|400 days", "key_age|1|1||pass|||", "key_age|0|1|k|pass|||0 days", "odd|1|1||fail|||"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The checks in configs/posture run on the schema as it is.
func TestShippedExamplesOfPosture(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	text, err := os.ReadFile("../configs/posture/idle_key.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(string(text), "query: |\n")
	query, _, _ = strings.Cut(query, "\ncolumns:")
	until := event.At(time.Now().UTC())
	tellDay(t, c, until, dayEvent{kind: event.TypeServerKeyCreated, net: "n", age: 100 * 24 * time.Hour, set: map[event.Field]string{event.FieldKeyID: "k"}},
		dayEvent{kind: event.TypeServerKeyActivated, net: "n", age: 99 * 24 * time.Hour, set: map[event.Field]string{event.FieldKeyID: "k"}},
		dayEvent{kind: event.TypeAuthTokenIssued, net: "n", age: 40 * 24 * time.Hour, set: map[event.Field]string{event.FieldKeyID: "k"}})
	rollOnce(t, NewRoller(c))
	got, err := c.Select(t.Context(), query, posture.Limits{Rows: 10, Time: 10 * time.Second})
	if err != nil || len(got.Rows) != 1 || got.Rows[0][1] != "k" {
		t.Fatal(got, err)
	}
	for i, want := range []string{"network", "key_id", "last_used", "idle_days"} {
		if got.Columns[i].Name != want {
			t.Errorf("column %d is %v", i, got.Columns[i])
		}
	}
}
