package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

func load(t *testing.T, text string, opt Options) (*Set, []string) {
	t.Helper()
	set, diags := Load([]File{{"r.yml", []byte(text)}}, opt)
	var out []string
	for _, d := range diags {
		if d.Severity == Error {
			out = append(out, fmt.Sprintf("%d:%d %s %s", d.Line, d.Col, d.Code, d.Message))
		}
	}
	return set, out
}

func TestMeta(t *testing.T) {
	t.Parallel()
	set, errs := load(t, `title: T
id: 0e95725d-7320-415d-80f7-004da920fc11
name: n
status: test
level: High
author: [A, B]
tags: [attack.t1078]
cause: [unknown_key, clock_skew]
risk: {subject: key_id, score: 2.5, family: place}
playbook: p
mode: shadow
suppress: 2d
refire: 90m
incident: key_compromise
severity: page
resolution: r
summary: s
needs: {origins: [backend], fields: [key_id]}
logsource: {product: keysentry, service: session, definition: any}
detection: {sel: {user_id: u}, condition: sel}
`, Options{Layout: LayoutEvent})
	if len(errs) > 0 || len(set.Rules) != 1 {
		t.Fatal(errs)
	}
	got := set.Rules[0].Meta
	if len(got.Hash) != 32 {
		t.Errorf("hash %q", got.Hash)
	}
	got.Hash, got.Logic = "", ""
	want := Meta{File: "r.yml", Line: 1, ID: "0e95725d-7320-415d-80f7-004da920fc11", Name: "n", Title: "T", Status: "test", Level: "high", Author: "A, B",
		Tags: []string{"attack.t1078"}, Risk: Risk{"key_id", 2.5, "place"}, Causes: []event.Cause{event.CauseUnknownKey, event.CauseClockSkew}, Playbook: "p",
		Shadow: true, Suppress: 48 * time.Hour, Refire: 90 * time.Minute, Kind: finding.KeyCompromise, Severity: finding.Page, Resolution: "r", Summary: "s",
		Origins: []event.Origin{event.OriginBackend}, Fields: []event.Field{event.FieldKeyID}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for level, want := range map[string]finding.Severity{"critical": finding.Page, "high": finding.Ticket, "medium": finding.Ticket, "low": finding.Digest, "informational": finding.Digest, "''": finding.Digest} {
		set, errs := load(t, "title: A Title, here\nlevel: "+level+"\nlogsource: {p: x}\ndetection: {s: {f: x}, condition: s}\n", Options{})
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		m := set.Rules[0].Meta
		if m.Severity != want || m.ID != "a-title-here" || m.Suppress != time.Hour || m.Kind != finding.Other {
			t.Errorf("%s: %+v", level, m)
		}
	}
}

// TestErrors checks the place and code of faults that the conformance suite does
// not cover.
func TestErrors(t *testing.T) {
	t.Parallel()
	det := "title: t\nname: t\nlogsource: {p: x}\ndetection: {s: {f: x}, condition: s}\n"
	corr := det + "---\ntitle: c\ncorrelation:\n  rules: [t]\n"
	for name, c := range map[string]struct{ text, want string }{
		"not a mapping":        {"- a\n", "1:1 KS101 a rule document must be a mapping"},
		"two kinds":            {"title: t\ndetection: {}\nfilter: {}\n", "1:1 KS103 a document has exactly one of detection, correlation and filter; this one has 2"},
		"nested field":         {"title: t\nlogsource: {p: x}\ndetection:\n  s:\n    f: {g: x}\n  condition: s\n", "5:8 KS201 a field's value cannot be a mapping"},
		"position after text":  {"title: t\nlogsource: {p: x}\ndetection:\n  s: {f: x}\n  condition: s and  gone\n", `5:21 KS302 there is no identifier "gone"`},
		"unknown event field":  {strings.Replace(det, "f: x", "nope: x", 1), `4:17 KS207 events have no field "nope"`},
		"unknown key":          {corr + "  type: event_count\n  tmespan: 1m\n  timespan: 1m\n  condition: {gte: 1}\n", `10:3 KS401 unknown key "tmespan"`},
		"ratio of one":         {corr + "  type: event_ratio\n  timespan: 1m\n  condition: {gte: 1}\n", "8:10 KS401 event_ratio takes exactly two rules"},
		"percentile elsewhere": {corr + "  type: event_count\n  percentile: 5\n  timespan: 1m\n  condition: {gte: 1}\n", `10:15 KS401 event_count takes no percentile`},
		"no field":             {corr + "  type: value_count\n  timespan: 1m\n  condition: {gte: 1}\n", "8:3 KS401 field is missing: value_count needs it"},
		"bound is text":        {corr + "  type: event_count\n  timespan: 1m\n  condition: {gte: many}\n", "11:20 KS405 gte needs a number"},
		"boolean on a count":   {corr + "  type: event_count\n  timespan: 1m\n  condition: t and t\n", "11:14 KS405 only temporal types take a boolean condition"},
		"two lower bounds":     {corr + "  type: event_count\n  timespan: 1m\n  condition: {gt: 1, gte: 2}\n", "11:14 KS405 a condition is one bound, or a range of a lower and an upper bound"},
		"zero timespan":        {corr + "  type: event_count\n  timespan: 0s\n  condition: {gte: 1}\n", `10:13 KS404 timespan "0s" is not a timespan`},
		"risk without subject": {"risk: {score: 1}\n" + det, "1:7 KS501 risk needs a subject"},
		"unknown incident":     {"incident: war\n" + det, `1:11 KS501 unknown kind of incident "war"`},
		"unknown cause":        {"cause: bad luck\n" + det, `1:8 KS501 unknown cause "bad luck"`},
		"yaml fault":           {det + "---\na: b\n c: d\n", "7:1 KS101 mapping values are not allowed in this context"},
		"absence of one":       {corr + "  type: absence\n  within: 1m\n", "8:10 KS401 absence takes exactly two rules"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt := Options{}
			if name == "unknown event field" {
				opt.Layout = LayoutEvent
			}
			_, errs := load(t, c.text, opt)
			if len(errs) == 0 || !strings.HasPrefix(errs[0], c.want) {
				t.Errorf("got %q, want %q", errs, c.want)
			}
		})
	}
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	det := "title: a\nname: a\nlogsource: {p: x}\ndetection: {s: {f: x}, condition: s}\n---\ntitle: b\nname: b\nlogsource: {p: x}\ndetection: {s: {f: y}, condition: s}\n---\ntitle: c\nname: c\ncorrelation:\n"
	one := func(body string) *Correlation {
		set, errs := load(t, det+body, Options{})
		if len(errs) > 0 || len(set.Correlations) != 1 {
			t.Fatalf("%s: %v", body, errs)
		}
		return set.Correlations[0]
	}
	c := one("  {type: event_ratio, rules: [a, b], timespan: 15m, condition: {gte: 2}, min_denominator: 200}\n")
	if c.MinDenominator != 200 || c.Bounds[0] != (Bound{"gte", 2}) || len(c.Inputs) != 2 {
		t.Errorf("ratio: %+v", c)
	}
	c = one("  {type: first_seen, rules: [a], group-by: [k], condition: {field: v}, lookback: 30d, learn: 1d}\n")
	if c.Lookback != 30*24*time.Hour || c.Learn != 24*time.Hour || c.Field[0] != "v" || c.Inputs[0].FieldSlots[0] < 1 {
		t.Errorf("first_seen: %+v", c)
	}
	c = one("  {type: absence, rules: [a, b], within: 2m, order: after, min_coverage: 0.9}\n")
	if c.Within != 2*time.Minute || c.Timespan != c.Within || !c.After || c.MinCoverage != 0.9 {
		t.Errorf("absence: %+v", c)
	}
	c = one("  {type: rate_anomaly, rules: [a], group-by: [k], direction: both}\n")
	if c.Threshold != 5.5 || c.Direction != "both" {
		t.Errorf("rate_anomaly: %+v", c)
	}
	c = one("  {type: value_percentile, rules: [a], timespan: 1m, condition: {field: v, percentile: 95, gt: 3}}\n")
	if c.Percentile != 95 || c.Field[0] != "v" {
		t.Errorf("percentile: %+v", c)
	}
}

// TestHash: the hash follows the document, the filters on it and the inputs.
func TestHash(t *testing.T) {
	t.Parallel()
	rule := "title: a\nname: a\nlogsource: {p: x}\ndetection: {s: {f: x}, condition: s}\n"
	corr := "---\ntitle: c\nname: c\ncorrelation: {type: event_count, rules: [a], timespan: 1m, condition: {gte: 2}}\n"
	filter := "---\ntitle: f\nlogsource: {p: x}\nfilter: {rules: [a], s: {g: y}, condition: not s}\n"
	hashes := func(text string) [2]string {
		set, errs := load(t, text, Options{})
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		return [2]string{set.Rules[0].Hash, set.Correlations[0].Hash}
	}
	base := hashes(rule + corr)
	if got := hashes("# a comment moves lines\n" + rule + corr); got != base {
		t.Error("a moved document has another hash")
	}
	for name, text := range map[string]string{"an edited rule": strings.Replace(rule, "f: x", "f: y", 1) + corr, "a filter": rule + corr + filter} {
		if got := hashes(text); got[0] == base[0] || got[1] == base[1] {
			t.Errorf("%s keeps a hash", name)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	text := "title: a\nlogsource: {p: x}\ndetection: {s: {f|expand|startswith: '%srv%-%no%'}, condition: s}\n"
	set, errs := load(t, text, Options{Placeholders: map[string][]string{"srv": {"db", "web"}, "no": {"1", "2*x"}}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	m := NewMatcher(set.Program())
	for v, want := range map[string]bool{"DB-1": true, "web-2--x.": true, "web-3": false, "%srv%-1": false} {
		got, _ := m.MatchJSON(fmt.Appendf(nil, `{"f":%q}`, v), nil)
		if (len(got) == 1) != want {
			t.Errorf("%s: %v, want %t", v, got, want)
		}
	}
}

// TestMatchEvent: log sources route canonical events, and every kind of field
// can be compared.
func TestMatchEvent(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i, c := range []string{"session|status|eq|{status: 401}", "auth_token|other service|eq|{status: 401}", "session|address|cidr|{source_ip|cidr: 10.0.0.0/8}",
		"session|cause|enum|{cause: user_banned, type: session.denied}", "session|time|part|{time|hour: 10}", "session|absent|null|{user_id: null}", "session|float|num|{clock_offset|lt: 0}",
		"session|keyword|kw|[wrong password]"} {
		p := strings.SplitN(c, "|", 4)
		fmt.Fprintf(&text, "title: %s\nname: r%d\nlogsource: {product: keysentry, service: %s}\ndetection: {s: %s, condition: s}\n---\n", p[1], i, p[0], p[3])
	}
	e := event.Event{Type: event.TypeSessionDenied, Status: 401, Cause: event.CauseUserBanned, ClockOffset: -2}
	if err := e.SourceIP.UnmarshalText([]byte("10.9.8.7")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []event.Field{event.FieldType, event.FieldStatus, event.FieldSourceIP, event.FieldClockOffset} {
		e.Present = e.Present.Set(f)
	}
	e.SetInstant(event.FieldTime, event.At(time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)))
	e.SetString(event.FieldReason, "A Wrong Password was given")
	for _, opt := range []Options{{Layout: LayoutEvent}, {Layout: LayoutEvent, NoIndex: true}} {
		set, errs := load(t, text.String(), opt)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		m := NewMatcher(set.Program())
		if d := cmp.Diff([]int32{0, 2, 3, 4, 5, 6, 7}, m.MatchEvent(&e, nil)); d != "" {
			t.Errorf("NoIndex %t: %s", opt.NoIndex, d)
		}
		if s, ok := m.Text(set.Program().Slot("source_ip")); s != "10.9.8.7" || !ok {
			t.Errorf("source_ip: %q, %t", s, ok)
		}
		if n, ok := m.Number(set.Program().Slot("status")); n != 401 || !ok {
			t.Errorf("status: %v, %t", n, ok)
		}
		if _, ok := m.Text(set.Program().Slot("nothing")); ok {
			t.Error("a slot that does not exist has a value")
		}
	}
	opt := Options{Layout: LayoutEvent, AnyLogSource: true}
	set, _ := load(t, text.String(), opt)
	if got := NewMatcher(set.Program()).MatchEvent(&e, nil); len(got) != 8 {
		t.Errorf("any log source: %v", got)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	set, _ := load(t, "title: a\nlogsource: {p: x}\ndetection: {s: {f|contains: ab, g: null}, n: {f: zz}, condition: s and not n}\n", Options{})
	m := NewMatcher(set.Program())
	if _, err := m.MatchJSON([]byte(`{"f":["xABx",null,{"a":1}]}`), nil); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := m.Explain(set.Rules[0]).Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"yes and\n", `yes   f contains "ab"   ["xABx" "null" "(object)"]`, "yes   g is null   [absent]\n", "yes   not\n", `no      f = "zz"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestLintFormats(t *testing.T) {
	t.Parallel()
	files := []File{{"a.yml", []byte("title: t\nlogsource: {p: x}\ndetection: {s: {f: x}, u: {f: y}, condition: s}\n")}, {"b.yml", []byte("title: b\nlogsource: {p: x}\ndetection: {s: {f: x}, condition: s}\n")}, {"b.test.yml", []byte("tests: []")}}
	diags := Lint(files, Options{})
	var got []string
	for _, d := range diags {
		got = append(got, d.File+" "+string(d.Code))
	}
	if d := cmp.Diff([]string{"a.yml KS605", "a.yml KS610", "a.yml KS602", "b.yml KS605"}, got); d != "" {
		t.Error(d)
	}
	var j, s strings.Builder
	if err := WriteJSON(&j, diags); err != nil || strings.Count(j.String(), "\n") != 4 || !strings.Contains(j.String(), `"severity":"warning"`) {
		t.Errorf("%v\n%s", err, j.String())
	}
	if err := WriteSARIF(&s, diags); err != nil || strings.Count(s.String(), `"ruleId"`) != 4 || !strings.Contains(s.String(), `"startLine": 3`) {
		t.Errorf("%v\n%s", err, s.String())
	}
}

// TestDisable: what is disabled is left out with what needs it, and the rest
// loads.
func TestDisable(t *testing.T) {
	t.Parallel()
	det := "title: a\nname: a\nlogsource: {p: x}\ndetection: {s: {f: x}, condition: s}\n---\ntitle: b\nname: b\nlogsource: {p: x}\ndetection: {s: {f: y}, condition: s}\n"
	corr := func(name, of string) string {
		return "---\ntitle: " + name + "\nname: " + name + "\ncorrelation: {type: event_count, rules: [" + of + "], timespan: 1m, condition: {gte: 2}}\n"
	}
	filter := "---\ntitle: f\nlogsource: {p: x}\nfilter: {rules: [a, b], s: {g: y}, condition: not s}\n"
	set, diags := Load([]File{{"r.yml", []byte(det + corr("c", "a") + corr("d", "c") + corr("e", "b") + filter)}}, Options{Disable: []string{"a"}})
	var got []string
	for _, d := range diags {
		if d.Severity > Note {
			got = append(got, d.String())
		}
	}
	want := []string{
		`r.yml:13:42: warning KS612: left out, because "a" is disabled`,
		`r.yml:17:42: warning KS612: left out, because "c" is disabled`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(set.Rules) != 1 || set.Rules[0].Name != "b" || len(set.Correlations) != 1 || set.Correlations[0].Name != "e" {
		t.Errorf("%d rules, %d correlations", len(set.Rules), len(set.Correlations))
	}
}
