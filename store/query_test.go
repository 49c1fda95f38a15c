package store

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// filled is a database with ordinary rows in it, some of them refused, some in
// quarantine, all stamped now.
func filled(t *testing.T) *Client {
	t.Helper()
	c := newClient(t)
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	var now int64
	if err := c.conn.QueryRow(t.Context(), "SELECT toInt64(toUnixTimestamp(now() - 600)) * 1000000000").Scan(&now); err != nil {
		t.Fatal(err)
	}
	b := batch(part0, 0, 1000)
	for i := range b.Events {
		e := &b.Events[i]
		d := event.Instant(now) - epoch
		e.Time, e.TS, e.ObservedAt = e.Time+d, e.TS+d, e.ObservedAt+d
		if i%10 == 0 {
			e.Type, e.Cause, e.Status = event.TypeAuthTokenDenied, event.CauseUnknownKey, 401
		}
	}
	appendBatch(t, w, withReject(b, 501), nil)
	flush(t, w)
	if _, err := NewRoller(c).Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNamedQueriesAndViewsRun(t *testing.T) {
	t.Parallel()
	askEverything(t, filled(t), false)
}

// askEverything runs every named query and reads every view; of the queries
// those that must find rows do, unless the rows are old ones.
func askEverything(t *testing.T, c *Client, old bool) {
	t.Helper()
	all, err := Queries()
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), err)
	}
	given := map[string]map[string]string{
		"blast_radius":          {"key_id": "k1:9f86d081884c7d65"},
		"blast_radius_users":    {"key_id": "k1:9f86d081884c7d65"},
		"blast_radius_timeline": {"key_id": "k1:9f86d081884c7d65"},
		"entity_timeline":       {"value": "10.1.7.7"},
		"clock_drift":           {"host": "api-7"},
	}
	mayBeEmpty := map[string]bool{"key_age": true, "cert_lead": true, "findings": true, "incidents": true, "clock_offsets": true, "clock_drift": true}
	for _, q := range all {
		rows, err := c.Named(t.Context(), q.Name, given[q.Name])
		if err != nil {
			t.Errorf("%s: %v", q.Name, err)
			continue
		}
		if got := table(t, rows); len(got) == 0 && !old && !mayBeEmpty[q.Name] {
			t.Errorf("%s: no rows", q.Name)
		}
		if !strings.HasSuffix(q.Title, ".") {
			t.Errorf("%s: title %q is no sentence", q.Name, q.Title)
		}
	}
	views, err := c.Query(t.Context(), "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range table(t, views) {
		rows, err := c.Query(t.Context(), "SELECT * FROM "+v[0]+" LIMIT 10", nil)
		if err != nil {
			t.Errorf("%s: %v", v[0], err)
			continue
		}
		table(t, rows)
	}
}

// TestDocumentedQueriesRun runs what the page for analysts tells them to begin from,
// and what the tutorial asks, whose networks are not here.
func TestDocumentedQueriesRun(t *testing.T) {
	t.Parallel()
	c := filled(t)
	for name, want := range map[string]int{"howto/analysts.md": 5, "tutorial/three-incidents.md": 3} {
		page, err := os.ReadFile("../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, block := range strings.Split(string(page), "```sql\n")[1:] {
			sql, _, _ := strings.Cut(block, "```")
			if !strings.HasPrefix(sql, "SELECT") {
				continue
			}
			n++
			rows, err := c.Query(t.Context(), strings.TrimSuffix(strings.TrimSpace(strings.ReplaceAll(sql, "keysentry.", "")), ";"), nil)
			if err != nil {
				t.Errorf("%s\n%v", sql, err)
				continue
			}
			table(t, rows)
		}
		if n < want {
			t.Errorf("%d statements on the page %s", n, name)
		}
	}
}

func TestViewsCountRight(t *testing.T) {
	t.Parallel()
	c := filled(t)
	tests := []struct{ name, sql, want string }{
		{"refused", "SELECT count() FROM v_unauthorized WHERE cause = 'unknown_key' AND status = 401", "100"},
		{"refused, in v_events", "SELECT count() FROM v_events WHERE refused", "100"},
		{"failure rate", "SELECT round(100 * sum(failed) / sum(attempts), 2) FROM v_failure_rate WHERE stage = 'mint'", "10.01"},
		{"ingest", "SELECT concat(toString(events), '+', toString(quarantined), '=', toString(distinct_records)) FROM v_ingest", "999+1=1000"},
		{"timeline", "SELECT count() FROM v_entity_timeline WHERE entity_field = 'host' AND entity_value = 'api-7'", "20"},
		{"mtls coverage", "SELECT sum(mints_with_cert) FROM v_mtls_coverage", "0"},
		{"address as text", "SELECT any(source_ip) FROM v_events WHERE host = 'api-7'", "10.1.7.7"},
		{"quarantine", "SELECT reason FROM v_quarantine", "bad_json"},
	}
	for _, tt := range tests {
		rows, err := c.Query(t.Context(), tt.sql, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff([][]string{{tt.want}}, table(t, rows)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestNamedRefuses(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	tests := []struct {
		name, query string
		args        map[string]string
		want        string
	}{
		{"unknown query", "nonsense", nil, "no query is named"},
		{"missing parameter", "blast_radius", nil, "key_id is required"},
		{"unknown parameter", "ingest", map[string]string{"x": "1"}, `no parameter "x"`},
		{"not a number", "volume", map[string]string{"hours": "1); DROP TABLE events"}, "hours"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := c.Named(t.Context(), tt.query, tt.args); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestQueryCannotWrite(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	rows, err := c.Query(t.Context(), "TRUNCATE TABLE events", nil)
	if err == nil {
		err = rows.Err()
		_ = rows.Close()
	}
	if code, _ := serverCode(err); code != codeReadonly {
		t.Errorf("got %v, want code %d", err, codeReadonly)
	}
}

func TestParseQueryRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no title":              "SELECT 1",
		"no statement":          "-- Title.\n",
		"undescribed":           "-- Title.\nSELECT {x:String}",
		"unused":                "-- Title.\n-- x: something\nSELECT 1",
		"comment of other kind": "-- Title.\n-- hello\nSELECT 1",
	} {
		if _, err := parseQuery("test", text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestQuarantineList(t *testing.T) {
	t.Parallel()
	c := filled(t)
	tests := []struct {
		name   string
		filter QuarantineFilter
		want   int
	}{
		{"all", QuarantineFilter{}, 1},
		{"topic", QuarantineFilter{Topic: part0.Topic}, 1},
		{"other topic", QuarantineFilter{Topic: "other"}, 0},
		{"reason", QuarantineFilter{Reason: ingest.ReasonBadJSON}, 1},
		{"other reason", QuarantineFilter{Reason: ingest.ReasonEmpty}, 0},
		{"since the future", QuarantineFilter{Since: event.Instant(4e18)}, 0},
	}
	for _, tt := range tests {
		got, err := c.QuarantineList(t.Context(), tt.filter)
		if err != nil || len(got) != tt.want {
			t.Errorf("%s: %d rows, error %v, want %d", tt.name, len(got), err, tt.want)
		}
	}
	if _, ok, err := c.QuarantineGet(t.Context(), event.Ref{Topic: "none"}); ok || err != nil {
		t.Error("found what is not there:", err)
	}
}
