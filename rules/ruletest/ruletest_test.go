package ruletest

import (
	"encoding/xml"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/rules/library"
)

// TestLibrary: every shipped rule has its tests, and they pass.
func TestLibrary(t *testing.T) {
	t.Parallel()
	rep := Run(library.Files(), library.TestFiles(), Options{Load: rules.Options{Layout: rules.LayoutEvent}})
	for _, c := range rep.Cases {
		for _, f := range c.Failures {
			t.Errorf("%s: %s: %s", c.File, c.Name, f)
		}
	}
	for _, u := range rep.Uncovered {
		t.Errorf("%s: needs a firing and a quiet case", u)
	}
	if !rep.OK() || len(rep.Cases) < 15 {
		t.Errorf("ok %t, %d cases", rep.OK(), len(rep.Cases))
	}
}

const withTests = `title: Root login
name: root_login
logsource: {product: linux}
detection:
  sel: {user: root}
  condition: sel
tests:
  - name: root
    events: [{user: root}, {user: bob}]
    expect: {matches: [{rule: root_login, events: [0]}]}
  - name: bob
    events: [{user: bob}]
    expect: {}
  - name: wrong
    events: [{user: root}]
    expect: {}
  - name: broken
    events: [{user: root, repeat: 0}]
---
title: Untested
name: untested
logsource: {product: linux}
detection:
  sel: {user: nobody}
  condition: sel
`

func TestRun(t *testing.T) {
	t.Parallel()
	rep := Run([]rules.File{{Name: "a.yml", Data: []byte(withTests)}}, nil, Options{})
	want := []Case{
		{File: "a.yml", Name: "root"},
		{File: "a.yml", Name: "bob"},
		{File: "a.yml", Name: "wrong", Failures: []string{"root_login matched events [0], want none"}},
		{File: "a.yml", Name: "broken", Failures: []string{"event 0: repeat must be at least 1, and a case has at most 1000000 events"}},
	}
	if d := cmp.Diff(want, rep.Cases); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"a.yml: untested"}, rep.Uncovered); d != "" {
		t.Error(d)
	}
	if rep.OK() || rep.Failed() != 2 {
		t.Errorf("ok %t, failed %d", rep.OK(), rep.Failed())
	}
	var b strings.Builder
	if err := rep.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Suites []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(b.String()), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Suites) != 2 || doc.Suites[0].Tests != 4 || doc.Suites[0].Failures != 2 || doc.Suites[1].Name != "coverage" {
		t.Errorf("got %+v", doc)
	}
}

func TestSuiteFaults(t *testing.T) {
	t.Parallel()
	rule := rules.File{Name: "a.yml", Data: []byte("title: T\nname: t\nlogsource: {product: keysentry}\ndetection: {s: {user_id: x}, condition: s}\n")}
	for name, c := range map[string]struct{ suite, want string }{
		"unknown key":   {"tests: [{name: x, expext: {}}]", "field expext not found"},
		"unknown field": {"tests: [{name: x, events: [{type: heartbeat, usr: 1}]}]", `events have no field "usr"`},
		"no type":       {"tests: [{name: x, events: [{user_id: 1}]}]", "the type is missing"},
		"bad time":      {"tests: [{name: x, events: [{at: soon, type: heartbeat}]}]", "at: time: invalid duration"},
		"no match":      {"tests: [{name: x, events: [{type: heartbeat}], expect: {matches: [{rule: t}]}}]", "t matched nothing"},
		"bad address":   {"tests: [{name: x, events: [{type: heartbeat, source_ip: no}]}]", "source_ip: ParseAddr"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rep := Run([]rules.File{rule}, []rules.File{{Name: "a.test.yml", Data: []byte(c.suite)}}, Options{})
			if len(rep.Cases) != 1 || len(rep.Cases[0].Failures) != 1 || !strings.Contains(rep.Cases[0].Failures[0], c.want) {
				t.Errorf("got %+v, want %q", rep.Cases, c.want)
			}
		})
	}
}
