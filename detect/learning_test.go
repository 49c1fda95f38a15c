package detect

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

const shortAndLong = `title: denied
name: denied
logsource: {product: keysentry}
detection: {s: {type: session.denied}, condition: s}
---
title: created
name: created
logsource: {product: keysentry}
detection: {s: {type: session.created}, condition: s}
---
title: short
name: short
correlation: {type: event_count, rules: [denied], group-by: [user_id], timespan: 5m, condition: {gte: 3}}
---
title: long
name: long
correlation: {type: event_count, rules: [denied], group-by: [user_id], timespan: 7d, condition: {gte: 6}}
---
title: few
name: few
correlation: {type: event_count, rules: [denied], group-by: [user_id], timespan: 5m, condition: {lt: 3}}
---
title: share
name: share
correlation: {type: event_ratio, rules: [denied, created], group-by: [user_id], timespan: 5m, condition: {gte: 50}}
`

// said is an event about user u at a time, in seconds after start.
func said(typ event.Type, at float64, off int64) event.Event {
	v := ev{typ: typ, ts: start.Add(time.Duration(at * float64(time.Second))), fields: fields("user_id", "u")}
	return v.event(off)
}

// denials are one at each of the times, with offsets from first.
func denials(first int64, at ...float64) (out []event.Event) {
	for i, s := range at {
		out = append(out, said(event.TypeSessionDenied, s, first+int64(i)))
	}
	return out
}

const hours = 3600.0

// standing is part0 with everything below an offset stored, and detected up to
// the same place, at s seconds after start.
func standing(below int64, s float64) []event.Standing {
	return []event.Standing{{Partition: part0, Below: below, From: at(s), End: at(s)}}
}

// firedBy lists the rules that fired.
func firedBy(fs []finding.Finding) (out []string) {
	for _, f := range fs {
		out = append(out, f.RuleTitle)
	}
	slices.Sort(out)
	return out
}

// observeAt shows denials and lets the watermark pass them.
func observeAt(e *Engine, first int64, at ...float64) []finding.Finding {
	fs := e.Observe(part0, denials(first, at...))
	last := at[len(at)-1]
	for s := last; s < last+60; s++ {
		now := start.Add(time.Duration(s * float64(time.Second)))
		e.Progress(part0, first+int64(len(at)), first+int64(len(at)), now)
		fs = append(fs, e.Tick(now)...)
	}
	return fs
}

func TestWindowsFilledFromTheStore(t *testing.T) {
	t.Parallel()
	old := denials(0, 0, 24*hours, 48*hours, 72*hours, 96*hours)
	later := denials(1000, 0, 24*hours, 48*hours, 72*hours, 96*hours) // of a partition that began earlier
	const now = 100 * hours
	for _, tc := range []struct {
		name     string
		table    table
		at       []event.Standing
		timeout  bool
		unfilled int
		learning []string
		fires    []string // on one more denial
	}{
		{name: "whole", table: table{events: old}, at: standing(5, now), fires: []string{"long"}},
		{name: "only below the position", table: table{events: old}, at: standing(4, now)},
		{name: "nothing was judged yet", table: table{events: old}, at: []event.Standing{{Partition: part0, Next: at(now)}}},
		{name: "the store lacks what was before", table: table{events: later}, at: standing(1005, now), learning: []string{"long"}, fires: []string{"long"}},
		{name: "the store is empty", at: standing(5, now), learning: []string{"few", "long", "share", "short"}},
		{name: "down", table: table{events: old, down: errors.New("refused")}, at: standing(5, now), unfilled: 1},
		{name: "broken off at once", table: table{events: denials(0, now-60), broken: -1}, at: standing(1, now), unfilled: 1},
		{name: "broken off", table: table{events: old, broken: 2}, at: standing(5, now), learning: []string{"long"}},
		{name: "out of time", table: table{events: old}, at: standing(5, now), timeout: true, learning: []string{"few", "long", "share", "short"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := engineOf(t, loadRules(t, shortAndLong), &tc.table)
			e.Assign([]event.Partition{part0})
			ctx := t.Context()
			if tc.timeout {
				over, cancel := context.WithCancel(ctx)
				cancel()
				ctx = over
			}
			unfilled, err := e.Fill(ctx, tc.at)
			if len(unfilled) != tc.unfilled || (err != nil) != (tc.unfilled > 0) {
				t.Errorf("unfilled %v, %v; want %d", unfilled, err, tc.unfilled)
			}
			if diff := cmp.Diff(tc.learning, e.Learning()); diff != "" {
				t.Errorf("learning (-want +got):\n%s", diff)
			}
			var got []string
			for _, name := range firedBy(observeAt(e, 2000, now+1)) {
				if name == "long" || name == "short" {
					got = append(got, name)
				}
			}
			if diff := cmp.Diff(tc.fires, got); diff != "" {
				t.Errorf("fired (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLearningEnds: a rule learns until event time has passed what it lacks.
func TestLearningEnds(t *testing.T) {
	t.Parallel()
	e := engineOf(t, loadRules(t, shortAndLong), nil)
	e.Assign([]event.Partition{part0})
	if _, err := e.Fill(t.Context(), standing(0, 0)); err == nil {
		t.Error("filled without a store")
	}
	e.Missing(part0, at(0))
	for _, tc := range []struct {
		at   float64
		want []string
	}{
		{60, []string{"few", "long", "share", "short"}},
		{400, []string{"long"}},
		{8 * 24 * hours, nil},
	} {
		observeAt(e, int64(tc.at), tc.at)
		if diff := cmp.Diff(tc.want, e.Learning()); diff != "" {
			t.Errorf("after %v s (-want +got):\n%s", tc.at, diff)
		}
	}
}

// TestNothingIsInventedWhileLearning: a rule that more events can undo is not
// judged over a time of which events are missing; the others are.
func TestNothingIsInventedWhileLearning(t *testing.T) {
	t.Parallel()
	story := func(e *Engine) (out []string) {
		e.Replay(part0, append(denials(0, 10, 20), said(event.TypeSessionCreated, 20, 2)))
		fs := observeAt(e, 3, 30)
		fs = append(fs, observeAt(e, 4, 20*60)...)
		for _, f := range fs {
			if f.RuleTitle == "few" || f.RuleTitle == "share" || f.RuleTitle == "short" {
				out = append(out, f.RuleTitle+" "+f.Last.Time().Format("15:04:05"))
			}
		}
		fs = observeAt(e, 5, 40*60)
		for _, f := range fs {
			if f.RuleTitle == "few" {
				out = append(out, f.RuleTitle+" "+f.Last.Time().Format("15:04:05"))
			}
		}
		slices.Sort(out)
		return out
	}
	for _, tc := range []struct {
		name    string
		missing event.Instant
		want    []string
	}{
		{"complete", 0, []string{"few 09:25:00", "share 09:00:20", "short 09:00:30"}},
		{"learning", at(15), []string{"few 09:25:00", "short 09:00:30"}},
		{"learning for longer", at(21 * 60), []string{"short 09:00:30"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := engineOf(t, loadRules(t, shortAndLong), nil)
			e.Assign([]event.Partition{part0})
			if tc.missing != 0 {
				e.Missing(part0, tc.missing)
			}
			if diff := cmp.Diff(tc.want, story(e)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestShortRulesReadNoFurther: what a long rule asks for is asked for that rule
// alone, and the newest first.
func TestShortRulesReadNoFurther(t *testing.T) {
	t.Parallel()
	s := &table{}
	set := loadRules(t, shortAndLong)
	e := engineOf(t, set, s)
	if _, err := e.Fill(t.Context(), standing(5, 10)); err != nil {
		t.Fatal(err)
	}
	if len(s.asked) < 5 {
		t.Fatalf("%d questions, want one for each band of time", len(s.asked))
	}
	for i, q := range s.asked {
		if q.From >= q.To || i > 0 && q.To != s.asked[i-1].From {
			t.Errorf("question %d is about [%v, %v), after [%v, %v)", i, q.From, q.To, s.asked[max(i-1, 0)].From, s.asked[max(i-1, 0)].To)
		}
		for _, r := range set.Rules {
			if back := at(10).Sub(q.Since[r.Index]); r.Name == "created" && back > 4*time.Hour || r.Name == "denied" && back < 7*24*time.Hour {
				t.Errorf("%s is read %v back", r.Name, back)
			}
		}
	}
	if last := s.asked[len(s.asked)-1]; at(10).Sub(last.From) < 7*24*time.Hour {
		t.Errorf("the last question begins at %v", last.From)
	}
}

// TestPartitionFarBehindHidesNothing: what the watermark had not passed before the
// restart fires after it, also when another partition has newer records.
func TestPartitionFarBehindHidesNothing(t *testing.T) {
	t.Parallel()
	ahead := []event.Event{said(event.TypeSessionCreated, 100, 0), said(event.TypeSessionDenied, 101, 1), said(event.TypeSessionCreated, 600, 2)}
	behind := said(event.TypeSessionCreated, 50, 0)
	behind.Ref.Partition = part1.ID
	first := engineOf(t, loadRules(t, shortAndLong), nil)
	first.Assign([]event.Partition{part0, part1})
	fs := append(first.Observe(part0, slices.Clone(ahead)), first.Observe(part1, []event.Event{behind})...)
	if slices.Contains(firedBy(fs), "share") {
		t.Fatal("judged before the partition that is behind")
	}
	second := engineOf(t, loadRules(t, shortAndLong), &table{})
	second.Restore(fs, first.TakeEpisodeUpdates())
	second.Assign([]event.Partition{part0, part1})
	if _, err := second.Fill(t.Context(), []event.Standing{{Partition: part0, End: at(600)}, {Partition: part1, End: at(50), Next: at(55)}}); err != nil {
		t.Fatal(err)
	}
	second.Replay(part0, slices.Clone(ahead))
	second.Replay(part1, []event.Event{behind})
	behind.TS, behind.Ref.Offset = at(700), 1
	fs = second.Observe(part1, []event.Event{behind})
	fs = append(fs, observeAt(second, 3, 700)...)
	if n := len(rule(fs, "share")); n != 1 {
		t.Errorf("the finding fired %d times, want once", n)
	}
}

// TestOwnProbesAreNotFilledIn: neither are they when they are stored.
func TestOwnProbesAreNotFilledIn(t *testing.T) {
	t.Parallel()
	own := said(event.TypeSessionDenied, 30, 0)
	own.SetString(event.FieldRequestID, "probe-1")
	s := &table{events: append([]event.Event{own}, denials(1, 40, 50)...)}
	e := engineOf(t, loadRules(t, shortAndLong), s)
	e.Assign([]event.Partition{part0})
	e.ApplyProbe(journal.Probe{RequestID: "probe-1", Until: at(60)})
	if _, err := e.Fill(t.Context(), standing(3, 55)); err != nil {
		t.Fatal(err)
	}
	if got := s.asked[0].Extra; !slices.Contains(got, event.FieldRequestID) {
		t.Errorf("fields asked for: %v", got)
	}
	if fs := rule(observeAt(e, 3, 56), "short"); len(fs) != 1 || fs[0].Value != 3 {
		t.Errorf("want two that are stored and one more: %+v", fs)
	}
}

// TestImportedTopicsAreFilledApart: they have windows and a time of their own.
func TestImportedTopicsAreFilledApart(t *testing.T) {
	t.Parallel()
	imported := event.Partition{Topic: "history", ID: 0}
	past := denials(0, 0, 60)
	for i := range past {
		past[i].Ref.Topic = imported.Topic
	}
	s := &table{events: append(past, denials(0, 500*hours)...)}
	e, err := New(DefaultConfig(), Deps{Rules: loadRules(t, shortAndLong), Stored: s, Imported: func(topic string) bool { return topic == imported.Topic }})
	if err != nil {
		t.Fatal(err)
	}
	e.Assign([]event.Partition{part0, imported})
	positions := append(standing(1, 500*hours), event.Standing{Partition: imported, Below: 2, From: at(60), End: at(60)})
	if unfilled, err := e.Fill(t.Context(), positions); err != nil || unfilled != nil {
		t.Fatal(unfilled, err)
	}
	next := denials(2, 90)
	next[0].Ref.Topic = imported.Topic
	if fs := rule(e.Observe(imported, next), "short"); len(fs) != 1 {
		t.Errorf("the third record of the imported topic: %d findings, want one", len(fs))
	}
	if fs := rule(e.Observe(part0, denials(1, 500*hours+1, 500*hours+2)), "short"); len(fs) != 1 {
		t.Errorf("the third record of the other topic: %d findings, want one", len(fs))
	}
}
