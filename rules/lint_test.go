package rules

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLintKnowsCanonicalRules: a rule whose log source is canonical events may
// name their fields only, without being told so; other rules may name any.
func TestLintKnowsCanonicalRules(t *testing.T) {
	t.Parallel()
	doc := func(name, product, field string) string {
		return "title: " + name + "\nname: " + name + "\nlogsource: {product: " + product + "}\ndetection:\n  s: {" + field + ": x}\n  condition: s\n---\n"
	}
	count := func(name, of, by string) string {
		return "title: " + name + "\nname: " + name + "\ncorrelation:\n  type: event_count\n  rules: [" + of + "]\n  group-by: [" + by + "]\n  timespan: 1m\n  condition: {gte: 2}\n---\n"
	}
	text := doc("good", "keysentry", "user_id") + doc("typo", "keysentry", "usr_id") + doc("foreign", "aws", "eventName") +
		count("of-good", "good", "sourceip") + count("of-foreign", "foreign", "sourceIPAddress") + count("of-both", "'good', 'foreign'", "any")
	var got []string
	for _, d := range Lint([]File{{"r.yml", []byte(text)}}, Options{}) {
		if d.Severity == Error {
			got = append(got, d.String())
		}
	}
	want := []string{
		`r.yml:12:7: error KS207: events have no field "usr_id" (see the reference of events for the fields)`,
		`r.yml:25:3: error KS207: events have no field "sourceip" (see the reference of events for the fields)`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestModifierHint(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"contain": "did you mean `contains`?", "StartsWith": "did you mean `startswith`?", "base64off": "did you mean `base64offset`?",
		"existsnot": "did you mean `exists`?", "soundslike": "known modifiers: contains, ", "x": "known modifiers: contains, ",
	} {
		if got := modifierHint(name); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestSARIF holds the output to what SARIF 2.1.0 requires of a log, and to what
// code scanning needs to show a result at its place.
func TestSARIF(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := WriteSARIF(&b, Lint([]File{{"a.yml", []byte("title: t\nlevel: deadly\nlogsource: {p: x}\ndetection: {s: {f|foo: x}, condition: s}\n")}}, Options{})); err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	if err := json.Unmarshal([]byte(b.String()), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Name == "" {
		t.Fatalf("got %+v", log)
	}
	var ids []string
	for _, r := range log.Runs[0].Tool.Driver.Rules {
		if r.Short.Text == "" || slices.Contains(ids, r.ID) {
			t.Errorf("rule %+v", r)
		}
		ids = append(ids, r.ID)
	}
	levels := map[string]int{}
	for _, r := range log.Runs[0].Results {
		levels[r.Level]++
		if !slices.Contains(ids, r.RuleID) || r.Message.Text == "" || len(r.Locations) != 1 {
			t.Errorf("result %+v", r)
			continue
		}
		p := r.Locations[0].Physical
		if p.Artifact.URI != "a.yml" || p.Region == nil || p.Region.StartLine < 1 || p.Region.StartColumn < 1 {
			t.Errorf("place %+v", p)
		}
	}
	if levels["error"] != 2 || levels["note"] != 2 || len(levels) != 2 {
		t.Errorf("levels %v", levels)
	}
}
