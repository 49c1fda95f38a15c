package correlate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// loaded is a correlator of real rules with the matcher that feeds it.
type loaded struct {
	t *testing.T
	c *Correlator
	m *rules.Matcher
}

func loadRules(t *testing.T, text string) *loaded {
	t.Helper()
	set, diags := rules.Load([]rules.File{{Name: "r.yml", Data: []byte(text)}}, rules.Options{AnyLogSource: true, Fields: []string{"time"}})
	for _, d := range diags {
		if d.Severity == rules.Error {
			t.Fatal(d)
		}
	}
	cfg := DefaultConfig()
	cfg.Standalone, cfg.Lateness = false, 0
	return &loaded{t, New(set, cfg), rules.NewMatcher(set.Program())}
}

// feed observes one JSON record at a time in seconds.
func (l *loaded) feed(ts float64, off int64, record string) []Firing {
	l.t.Helper()
	matched, err := l.m.MatchJSON([]byte(record), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.c.Observe(Input{Matched: matched, Values: l.m, TS: sec(ts), Ref: event.Ref{Offset: off}}, nil)
}

// reload takes the state of l over into other rules.
func (l *loaded) reload(text string) *loaded {
	next := loadRules(l.t, text)
	next.c.Migrate(l.c)
	return next
}

const (
	single = `title: a
name: a
logsource: {product: x}
detection:
  sel: {f: a}
  condition: sel
`
	thrice = `---
title: c
name: c
level: low
correlation:
  type: event_count
  rules: [a]
  group-by: [u]
  timespan: 1m
  condition: {gte: 3}
`
	other = `title: other
name: other
logsource: {product: x}
detection:
  sel: {p: 1, q: 2, r: 3, u: 4}
  condition: sel
---
`
)

// TestMigrateByLogic: an edit of what a finding says keeps windows and episodes;
// an edit of what fires begins anew and says that the open episode is over.
func TestMigrateByLogic(t *testing.T) {
	t.Parallel()
	edits := map[string]struct {
		text string
		keep bool
	}{
		"untouched":            {single + thrice, true},
		"another level":        {single + "---\ntitle: c\nname: c\nlevel: critical\ndescription: new\n" + thrice[len("---\ntitle: c\nname: c\nlevel: low\n"):], true},
		"a rule before it":     {other + single + thrice, true},
		"another threshold":    {single + thrice[:len(thrice)-len("3}\n")] + "2}\n", false},
		"another rule counted": {"title: a\nname: a\nlogsource: {product: x}\ndetection:\n  sel: {f: [a, b]}\n  condition: sel\n" + thrice, false},
		"a filter":             {single + thrice + "---\ntitle: f\nlogsource: {product: x}\nfilter: {rules: [a], sel: {v: 1}, condition: not sel}\n", false},
		"another id":           {single + "---\ntitle: c\nname: d\n" + thrice[len("---\ntitle: c\nname: c\n"):], false},
	}
	for name, e := range edits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Group x has an open episode, group y is one short of one.
			l := loadRules(t, single+thrice)
			var first []Firing
			for i := range 3 {
				first = append(first, l.feed(float64(100+i), int64(i), `{"f":"a","u":"x"}`)...)
			}
			l.feed(103, 3, `{"f":"a","u":"y"}`)
			l.feed(104, 4, `{"f":"a","u":"y"}`)
			l.c.Advance(sec(103), nil)
			if len(first) != 1 {
				t.Fatalf("%d firings before the edit", len(first))
			}
			l.c.TakeUpdates()

			next := l.reload(e.text)
			closed := closedOnly(next.c.TakeUpdates())
			again := next.feed(105, 5, `{"f":"a","u":"x"}`)
			short := next.feed(106, 6, `{"f":"a","u":"y"}`)
			again = append(again, next.c.Advance(sec(107), nil)...)
			if e.keep {
				if len(closed) != 0 || len(again) != 0 || len(short) != 1 {
					t.Errorf("closed %v, fired again %v, the half-way count fired %d times, want once", closed, again, len(short))
				}
				return
			}
			if diff := cmp.Diff([]Update{{ID: first[0].ID, First: sec(102), Last: sec(102), Count: 1, Closed: true}}, closed); diff != "" {
				t.Errorf("the open episode (-want +got):\n%s", diff)
			}
			if len(again) != 0 || len(short) != 0 {
				t.Errorf("windows of before the edit count: %v %v", again, short)
			}
		})
	}
}

// TestMigrateNumbersFieldsAnew: a value that an inner correlation carries for an
// outer one is found again when the rules read other fields than before.
func TestMigrateNumbersFieldsAnew(t *testing.T) {
	t.Parallel()
	const chain = single + `---
title: many
name: many
correlation:
  type: event_count
  rules: [a]
  group-by: [h]
  timespan: 1m
  condition: {gte: 2}
---
title: both
name: both
correlation:
  type: temporal
  rules: [many, b]
  group-by: [u]
  timespan: 10m
---
title: b
name: b
logsource: {product: x}
detection:
  sel: {f: b}
  condition: sel
`
	for name, text := range map[string]string{"unchanged": chain, "other fields before": other + chain} {
		l := loadRules(t, chain)
		l.feed(100, 0, `{"f":"a","h":"1","u":"x"}`)
		l.feed(101, 1, `{"f":"a","h":"1","u":"y"}`) // completes many, and waits for the watermark
		l = l.reload(text)
		fired := l.feed(110, 2, `{"f":"b","u":"y"}`)
		fired = append(fired, l.c.Advance(event.Instant(sec(1000)), nil)...)
		if len(fired) != 1 || fired[0].Group[0].Value != "y" || fired[0].Correlation.Timespan != 10*time.Minute {
			t.Errorf("%s: fired %+v, want both for y", name, fired)
		}
	}
}
