package check

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
)

// answer is a Querier that has one table.
type answer struct {
	table posture.Table
	err   error
	asked *string
}

func (a answer) Select(_ context.Context, q string, l posture.Limits) (posture.Table, error) {
	if a.asked != nil {
		*a.asked = q
	}
	if l.Rows <= 0 || l.Time <= 0 {
		panic("no limits")
	}
	return a.table, a.err
}

func own(t *testing.T, q posture.Querier, change ...string) *Own {
	t.Helper()
	text, err := os.ReadFile("../../../configs/posture/idle_key.yml")
	if err != nil {
		t.Fatal(err)
	}
	spec, faults := parseOwn("idle_key.yml", []byte(strings.NewReplacer(change...).Replace(string(text))))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return &Own{spec, q}
}

var idleColumns = []posture.Column{{Name: "idle_days", Type: "Nullable(Int64)"}, {Name: "network", Type: "LowCardinality(String)"}, {Name: "key_id", Type: "String"}, {Name: "last_used", Type: "DateTime('UTC')"}}

func TestOwnCheck(t *testing.T) {
	t.Parallel()
	used := time.Date(2026, 10, 1, 5, 0, 0, 0, time.UTC)
	var asked string
	q := answer{table: posture.Table{Columns: idleColumns, Rows: [][]any{{int64(53), "n", "k<1>", used}, {nil, "n", "k2", used}}}, asked: &asked}
	c := own(t, q)
	res := lines(t, c, "n | key_id=k<1> | warn | warn | 53 days", "n | key_id=k2 | warn | warn |  days")
	if r := res[0]; r.Severity != finding.Ticket || r.Since != today(now) || r.Query != asked || !strings.HasPrefix(asked, "SELECT network") ||
		r.Summary != "A server key is active that minted nothing since (last_used)." || r.Facts[0] != (finding.Pair{Field: "last_used", Value: "2026-10-01T05:00:00Z"}) {
		t.Errorf("%+v", r)
	}
	if c.Name() != "idle_key" || c.Schedule() != "20 6 * * *" || c.Title() == "" || c.Target() == "" {
		t.Error(c.Name(), c.Schedule())
	}
}

func TestOwnCheckWithoutRows(t *testing.T) {
	t.Parallel()
	none := answer{table: posture.Table{Columns: idleColumns}}
	lines(t, own(t, none), " | check=idle_key | pass |  | no row")
	lines(t, own(t, none, "empty: pass", "empty: unknown"), " | check=idle_key | unknown |  | no row")
}

func TestOwnCheckStatusOfAColumn(t *testing.T) {
	t.Parallel()
	columns := append([]posture.Column{{Name: "state", Type: "Enum8('pass' = 1)"}, {Name: "x", Type: "Float64"}}, idleColumns...)
	change := []string{"status: warn  ", "status: column state  ", "  key_id: text", "  key_id: text\n  state: text", "value: \"{idle_days} days\"", `value: ""`, "severity: ticket", "severity: page"}
	rows := [][]any{{"pass", 1.5, int64(1), "n", "a", now}, {"fail", 1.5, int64(1), "n", "b", now}}
	c := own(t, answer{table: posture.Table{Columns: columns, Rows: rows}}, change...)
	res := lines(t, c, "n | key_id=a | pass |  | ", "n | key_id=b | fail | fail | A server key is active that minted nothing since 2026-11-23T06:10:00Z.")
	if res[1].Severity != finding.Page {
		t.Error(res[1].Severity)
	}
	rows[0][0] = "fine"
	if _, err := c.Run(t.Context(), now); err == nil || !strings.Contains(err.Error(), `row 1: column state is "fine"`) {
		t.Error(err)
	}
}

func TestOwnCheckFaults(t *testing.T) {
	t.Parallel()
	fault := errors.New("memory")
	if _, err := own(t, answer{err: fault}).Run(t.Context(), now); !errors.Is(err, fault) || !strings.HasPrefix(err.Error(), "idle_key.yml") {
		t.Error(err)
	}
	wrong := append([]posture.Column{}, idleColumns[1:]...)
	wrong[2].Type = "String"
	_, err := own(t, answer{table: posture.Table{Columns: wrong}}).Run(t.Context(), now)
	for _, want := range []string{"idle_key.yml:17: columns.idle_days: the query returns no such column", "columns.last_used: the query returns String, the file says time"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestFaultsOfOwnFiles(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../configs/posture/idle_key.yml")
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string][2]string{
		`f.yml:3: name: "Idle Key"`:                       {"name: idle_key", "name: Idle Key"},
		`f.yml:3: name: "digest"`:                         {"name: idle_key", "name: digest"},
		`f.yml:4: unknown key "titel"`:                    {"title:", "titel:"},
		`f.yml:6: schedule: not a cron`:                   {`"20 6 * * *"`, `"20 6"`},
		`f.yml:7: severity: "loud"`:                       {"severity: ticket", "severity: loud"},
		`f.yml:8: query: must be a single SELECT`:         {"SELECT network, key_id", "DROP TABLE x"},
		`f.yml:16: columns.last_used: "date" is not text`: {"last_used: time", "last_used: date"},
		`f.yml:19: row.network: "tenant" is none`:         {"  network: network ", "  network: tenant "},
		`f.yml:20: row.subject.field: "Key"`:              {"field: key_id", "field: Key"},
		`f.yml:21: row.status: "bad"`:                     {"status: warn", "status: bad"},
		`f.yml:22: row.value: "days" is none`:             {"{idle_days}", "{days}"},
		`f.yml:23: row.summary: a brace is not closed`:    {"{last_used}", "{last_used"},
		`f.yml:24: empty: "fail" is not pass or unknown`:  {"empty: pass", "empty: fail"},
		`f.yml:1: resolution: say what`:                   {"resolution: Revoke the key if nothing needs it any more.", ""},
		`f.yml:4: cannot unmarshal`:                       {"title: Server keys that nobody uses", "title: [a]"},
		`f.yml: a file holds one check`:                   {"empty: pass", "---\nempty: pass"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(string(text), change[0]) {
				t.Fatal("the example has changed")
			}
			_, faults := parseOwn("f.yml", []byte(strings.Replace(string(text), change[0], change[1], 1)))
			if all := errors.Join(faults...); all == nil || !strings.Contains(all.Error(), want) {
				t.Errorf("got %v", all)
			}
		})
	}
}

func TestLoadOwn(t *testing.T) {
	t.Parallel()
	checks, err := LoadOwn([]string{"../../../configs/posture"}, answer{})
	if err != nil || len(checks) != 1 {
		t.Fatal(checks, err)
	}
	text, err := os.ReadFile("../../../configs/posture/idle_key.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("a.yml", string(text))
	put("b.yaml", string(text))
	put("c.yml", strings.Replace(string(text), "name: idle_key", "name: key_age", 1))
	put("d.yml", "")
	put(".hidden.yml", "x")
	put("readme.txt", "x")
	checks, err = LoadOwn([]string{dir}, answer{})
	if len(checks) != 1 || err == nil {
		t.Fatal(len(checks), err)
	}
	for _, want := range []string{"idle_key is the name of a check of", "key_age is the name of a check of Keysentry", "d.yml:1: name"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := LoadOwn([]string{filepath.Join(dir, "none")}, answer{}); err == nil {
		t.Error("a path that is not there was taken")
	}
}

func TestOneSelect(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"SELECT 1", "select 1;", "WITH 1 AS x SELECT x", "-- a; b\nSELECT ';' /* INTO OUTFILE */", "SELECT format('{}', a), `settings` FROM t", "SELECT 'it''s; \\' FORMAT CSV'"} {
		if err := oneSelect(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"": "give a SELECT", "SELECT 1; DROP TABLE x": "single statement", "INSERT INTO x SELECT 1": "begins with INSERT", "SELECT 1 INTO OUTFILE 'x'": "INTO is not allowed",
		"SELECT 1 SETTINGS readonly = 0": "SETTINGS is not allowed", "SELECT 1 FORMAT CSV": "FORMAT is not allowed", "WITH 1 AS x": "holds no SELECT", "SELECT 'x": "is not closed",
		"SELECT 1 /* x": "a comment is not closed", "(SELECT 1)": "begins with (", "SELECT '" + strings.Repeat("x", maxQuery) + "'": "longer than",
	} {
		if err := oneSelect(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %q", bad, err, want)
		}
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	row := rowOf{[]any{2.0, 1.239, strings.Repeat("x", 400)}, map[string]int{"whole": 0, "part": 1, "long": 2}}
	known := map[string]string{"whole": "number", "part": "number", "long": "text"}
	tpl, err := parseTemplate("{{{whole}}} of {part}", known)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("{2} of 1.24", row.fill(tpl)); diff != "" {
		t.Error(diff)
	}
	if n := len([]rune(row.text("long"))); n != maxCell {
		t.Error(n)
	}
	for _, bad := range []string{"}", "{whole", "{none}", "{}"} {
		if _, err := parseTemplate(bad, known); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
