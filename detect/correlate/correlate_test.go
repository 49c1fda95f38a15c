package correlate

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

func sec(s float64) event.Instant { return event.Instant(s * 1e9) }

// rec is one record of group a that matches rule 0.
func rec(ts float64, off int64, value string) record {
	return record{ts: sec(ts), off: off, matched: []int32{0}, group: "a", value: value}
}

func gte(n float64) []rules.Bound { return []rules.Bound{{Op: "gte", Value: n}} }

func corr(typ rules.CorrelationType, span time.Duration, bounds []rules.Bound) *rules.Correlation {
	c := &rules.Correlation{Type: typ, Timespan: span, Bounds: bounds}
	if typ != rules.EventCount && typ != rules.EventRatio && typ != rules.Temporal && typ != rules.TemporalOrdered {
		c.Field = []string{"v"}
	}
	return c
}

func quiet() Config {
	c := DefaultConfig()
	c.Standalone = false
	return c
}

func feed(c *Correlator, rs ...record) (fs []Firing) {
	for _, r := range rs {
		fs = c.Observe(r.input(), fs)
	}
	return fs
}

func TestFiringOnArrival(t *testing.T) {
	t.Parallel()
	c := New(newSet(corr(rules.EventCount, time.Minute, gte(3)), 1), quiet())
	if fs := feed(c, rec(10, 0, ""), rec(11, 1, "")); len(fs) != 0 {
		t.Fatalf("two are not three: %+v", fs)
	}
	fs := feed(c, rec(12, 2, ""))
	if len(fs) != 1 {
		t.Fatalf("the third did not fire")
	}
	f := fs[0]
	want := Firing{Correlation: f.Correlation, ID: f.ID, Group: []finding.Pair{{Field: "g", Value: "a"}},
		First: sec(12), Last: sec(12), Fired: sec(12), Count: 1, Value: 3,
		Refs: []event.Ref{{Topic: "t", Offset: 0}, {Topic: "t", Offset: 1}, {Topic: "t", Offset: 2}}}
	if diff := cmp.Diff(want, f, cmp.Comparer(func(a, b *rules.Correlation) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if f.ID != finding.MakeID("corr", f.Group, sec(12)) || f.Meta().ID != "corr" {
		t.Errorf("id %s", f.ID)
	}
	if more := feed(c, rec(13, 3, ""), rec(70, 4, ""), rec(72, 5, "")); len(more) != 0 {
		t.Errorf("one episode fired again: %+v", more)
	}
	c.Advance(math.MaxInt64, nil)
	if diff := cmp.Diff([]Update{{ID: f.ID, First: sec(12), Last: sec(72), Count: 4, Closed: true}}, closedOnly(c.TakeUpdates())); diff != "" {
		t.Error(diff)
	}
}

func closedOnly(us []Update) (out []Update) {
	for _, u := range us {
		if u.Closed {
			out = append(out, u)
		}
	}
	return out
}

func TestNewEpisodeSoonAfterAnEarlierOneWaitsForTheWatermark(t *testing.T) {
	t.Parallel()
	c := New(newSet(corr(rules.EventCount, time.Minute, gte(1)), 1), quiet())
	if fs := feed(c, rec(1000, 0, "")); len(fs) != 1 {
		t.Fatal("the first did not fire")
	}
	c.Advance(sec(1100), nil)
	if fs := feed(c, rec(1110, 1, "")); len(fs) != 0 {
		t.Errorf("fired although an event between could still join the two: %+v", fs)
	}
	if fs := c.Advance(sec(1110), nil); len(fs) != 0 {
		t.Errorf("the watermark has not passed 1110: %+v", fs)
	}
	if fs := c.Advance(sec(1110.5), nil); len(fs) != 1 || fs[0].First != sec(1110) {
		t.Errorf("got %+v", fs)
	}
	if s := c.Stats(); s.Held != 1 {
		t.Errorf("%d held", s.Held)
	}
	c.Advance(sec(1200), nil)
	if fs := feed(c, rec(1241, 2, "")); len(fs) != 1 {
		t.Errorf("more than two timespans and the lateness later, it fires at once: %+v", fs)
	}
}

func TestRefireRepeatsWhileItLasts(t *testing.T) {
	t.Parallel()
	k := corr(rules.EventCount, time.Minute, gte(1))
	k.Refire = 2 * time.Minute
	c := New(newSet(k, 1), quiet())
	var fs []Firing
	for i := range 10 {
		fs = append(fs, feed(c, rec(1000+30*float64(i), int64(i), ""))...)
	}
	fs = c.Advance(math.MaxInt64, fs)
	var got []string
	ids := map[string]bool{}
	for _, f := range fs {
		got = append(got, fmt.Sprint(int64(f.Fired/1e9), f.Repeat))
		ids[f.ID] = true
	}
	if diff := cmp.Diff([]string{"1000 false", "1120 true", "1240 true"}, got); diff != "" || len(ids) != 3 {
		t.Errorf("%s %v", diff, ids)
	}
}

func TestLateEvents(t *testing.T) {
	t.Parallel()
	c := New(newSet(corr(rules.EventCount, time.Minute, gte(3)), 1), quiet())
	feed(c, rec(1000, 0, ""), rec(1030, 1, ""))
	c.Advance(sec(1040), nil)
	fs := feed(c, rec(1010, 2, ""))
	if len(fs) != 1 || fs[0].Fired != sec(1030) {
		t.Errorf("a late event within reach completes the window: %+v", fs)
	}
	if fs := feed(c, rec(900, 3, "")); len(fs) != 0 {
		t.Errorf("%+v", fs)
	}
	if s := c.Stats(); s.Late != 1 || s.TooLate != 1 {
		t.Errorf("late %d, too late %d", s.Late, s.TooLate)
	}
}

func TestMissingFieldsAreCounted(t *testing.T) {
	t.Parallel()
	c := New(newSet(corr(rules.ValueSum, time.Minute, gte(1)), 1), quiet())
	nogroup := rec(10, 0, "5")
	nogroup.group = ""
	feed(c, nogroup, rec(11, 1, "many"), rec(12, 2, ""))
	if s := c.Stats(); s.MissingGroup != 1 || s.MissingField != 2 || s.Pending != 0 {
		t.Errorf("%+v", s)
	}
}

func TestProblemsNameWhatIsNotEvaluated(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		c    *rules.Correlation
		n    int
		want string
	}{
		"no lookback":        {corr(rules.FirstSeen, time.Minute, nil), 1, "lookback"},
		"absence of one":     {corr(rules.Absence, time.Minute, nil), 1, "two rules"},
		"another type":       {corr("moon_phase", time.Minute, nil), 1, "moon_phase"},
		"no timespan":        {corr(rules.EventCount, 0, gte(1)), 1, "timespan"},
		"no condition":       {corr(rules.EventCount, time.Minute, nil), 1, "condition"},
		"no field":           {&rules.Correlation{Type: rules.ValueCount, Timespan: 1, Bounds: gte(1)}, 1, "field"},
		"ratio of one":       {corr(rules.EventRatio, time.Minute, gte(1)), 1, "two rules"},
		"too many to be bit": {corr(rules.Temporal, time.Minute, nil), 65, "65 rules"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.c.File, tc.c.Line = "r.yml", 7
			c := New(newSet(tc.c, tc.n), quiet())
			ps := c.Problems()
			if len(ps) != 1 || !strings.HasPrefix(ps[0].Error(), "r.yml:7: ") || !strings.Contains(ps[0].Error(), tc.want) {
				t.Fatalf("got %v", ps)
			}
			if fs := c.Advance(math.MaxInt64, feed(c, rec(1, 0, "1"))); len(fs) != 0 {
				t.Error("it fired all the same")
			}
		})
	}
}

// chainSet is event_count gte 2 per user under value_count of users per network.
func chainSet() *rules.Set {
	inner := corr(rules.EventCount, 10*time.Second, gte(2))
	set := newSet(inner, 1)
	inner.ID, inner.Inner = "inner", true
	outer := &rules.Correlation{Type: rules.EventCount, Timespan: time.Minute, Bounds: gte(2), Index: 1}
	outer.ID, outer.GroupBy = "outer", []string{"v"}
	outer.Inputs = []rules.Input{{Name: "inner", Correlation: inner, GroupSlots: []int{1}, GroupNames: []string{"v"}}}
	set.Correlations = append(set.Correlations, outer)
	return set
}

func TestCorrelationOfCorrelations(t *testing.T) {
	t.Parallel()
	c := New(chainSet(), quiet())
	if want := 70*time.Second + DefaultConfig().Lateness; c.Lookback() != want {
		t.Errorf("lookback %s, want %s", c.Lookback(), want)
	}
	at := func(ts float64, off int64, user string) record {
		r := rec(ts, off, "net")
		r.group = user
		return r
	}
	fs := feed(c, at(100, 0, "u1"), at(101, 1, "u1"), at(110, 2, "u2"), at(111, 3, "u2"), at(112, 4, "u3"))
	if len(fs) != 0 {
		t.Errorf("an inner correlation emits nothing by itself: %+v", fs)
	}
	fs = c.Advance(sec(200), nil)
	if len(fs) != 1 || fs[0].Meta().ID != "outer" || fs[0].First != sec(111) || fs[0].Group[0].Value != "net" {
		t.Errorf("got %+v", fs)
	}
}

func TestStandaloneRules(t *testing.T) {
	t.Parallel()
	set := newSet(corr(rules.EventCount, time.Minute, gte(100)), 1)
	r := &rules.Rule{Index: 1}
	r.ID, r.Risk.Subject, r.Suppress = "alone", "host", 10*time.Minute
	set.Rules = append(set.Rules, r)
	cfg := DefaultConfig()
	c := New(set, cfg)
	observe := func(ts float64, off int64, host string) []Firing {
		e := event.Event{TS: sec(ts), Ref: event.Ref{Topic: "t", Offset: off}}
		e.SetString(event.FieldNetwork, "n")
		if host != "" {
			e.SetString(event.FieldHost, host)
		}
		return c.Observe(Input{Matched: []int32{1}, Event: &e, TS: e.TS, Ref: e.Ref}, nil)
	}
	fs := observe(1000, 0, "h1")
	if want := []finding.Pair{{Field: "network", Value: "n"}, {Field: "host", Value: "h1"}}; len(fs) != 1 || fs[0].Rule != r || !cmp.Equal(fs[0].Group, want) {
		t.Fatalf("got %+v", fs)
	}
	if fs := observe(1500, 1, "h1"); len(fs) != 0 {
		t.Error("fired again within suppress")
	}
	if fs := observe(1500, 2, "h2"); len(fs) != 1 {
		t.Error("another host is another episode")
	}
	observe(1500, 3, "")
	if s := c.Stats(); s.MissingGroup != 1 {
		t.Errorf("an event without the subject is counted: %+v", s)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	t.Parallel()
	cfg := quiet()
	cfg.MaxGroups = 100
	c := New(newSet(corr(rules.EventCount, time.Minute, gte(3)), 1), cfg)
	for i := range 1000 {
		r := rec(1000, int64(i), "")
		r.group = strconv.Itoa(i)
		feed(c, r)
	}
	if s := c.Stats(); s.Groups != 100 || s.Evicted != 900 || s.Bytes <= 0 {
		t.Errorf("%+v", s)
	}
	c.Advance(sec(1e6), nil)
	if s := c.Stats(); s.Orphaned != 900 || s.Pending != 0 {
		t.Errorf("%+v", s)
	}
	for range 10 {
		c.Advance(c.watermark+1, nil)
	}
	if s := c.Stats(); s.Groups != 0 || s.Bytes != 0 || s.Expired != 100 {
		t.Errorf("what can matter no more is kept: %+v", s)
	}
}

// TestExpiryKeepsPace: however often the watermark moves, groups are dropped
// within an eighth of the time that they are kept, and none before.
func TestExpiryKeepsPace(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]int{"a thousand small steps": 1000, "few large steps": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := New(newSet(corr(rules.EventCount, time.Minute, gte(3)), 1), quiet())
			c.Advance(sec(1000), nil)
			const n = 200
			for i := range n {
				r := rec(1000, int64(i), "")
				r.group = strconv.Itoa(i)
				feed(c, r)
			}
			hold := c.specs[0].hold
			advance := func(from, to event.Instant) {
				for i := range steps {
					c.Advance(from+(to-from)*event.Instant(i+1)/event.Instant(steps), nil)
				}
			}
			advance(sec(1000), sec(1000)+hold)
			if s := c.Stats(); s.Groups != n {
				t.Errorf("%d of %d groups are left before their time", s.Groups, n)
			}
			advance(sec(1000)+hold, sec(1000)+hold+hold/sweepsPerHold+hold/100)
			if s := c.Stats(); s.Groups != 0 || s.Expired != n {
				t.Errorf("%d groups are left after it, %d expired", s.Groups, s.Expired)
			}
		})
	}
}

func TestBytesAreBounded(t *testing.T) {
	t.Parallel()
	cfg := quiet()
	cfg.MaxBytes = 1 << 20
	c := New(newSet(corr(rules.EventCount, time.Minute, gte(3)), 1), cfg)
	for i := range 10_000 {
		r := rec(1000, int64(i), "")
		r.group = strconv.Itoa(i)
		feed(c, r)
	}
	if s := c.Stats(); s.Bytes > cfg.MaxBytes || s.Evicted == 0 {
		t.Errorf("%+v", s)
	}
}

func TestWhatWaitsIsBounded(t *testing.T) {
	t.Parallel()
	cfg := quiet()
	cfg.MaxPending = 1024
	c := New(newSet(corr(rules.EventCount, 10*time.Minute, gte(5000)), 1), cfg)
	var fs []Firing
	for i := range 5000 {
		fs = append(fs, feed(c, rec(1000+float64(i)/10, int64(i), ""))...)
	}
	if s := c.Stats(); s.Pending > 1024 || s.Forced == 0 || s.Late != 0 {
		t.Errorf("%+v", s)
	}
	if len(fs) != 1 {
		t.Errorf("a watermark that stands still cost a firing: %d", len(fs))
	}
}

func TestReplayFiresNothingButWhatTheWatermarkHadNotPassed(t *testing.T) {
	t.Parallel()
	build := func() *Correlator { return New(newSet(corr(rules.EventCount, time.Minute, gte(2)), 1), quiet()) }
	t.Run("old episodes are taken as fired", func(t *testing.T) {
		t.Parallel()
		c := build()
		var fs []Firing
		for i, ts := range []float64{1000, 1001, 1100} {
			fs = c.Observe(silent(rec(ts, int64(i), "")), fs)
		}
		fs = c.Advance(sec(1090), fs)
		if fs = append(fs, feed(c, rec(1130, 3, ""))...); len(fs) != 0 {
			t.Errorf("one timespan after the last episode it waits: %+v", fs)
		}
		if fs = c.Advance(math.MaxInt64, nil); len(fs) != 1 || fs[0].First != sec(1130) {
			t.Errorf("the windows were not filled, or the old episode fired: %+v", fs)
		}
	})
	t.Run("an episode at the end of the replay fires", func(t *testing.T) {
		t.Parallel()
		c := build()
		fs := c.Observe(silent(rec(1000, 0, "")), nil)
		fs = c.Observe(silent(rec(1001, 1, "")), fs)
		if fs = c.Advance(sec(1002), fs); len(fs) != 0 {
			t.Errorf("fired during the replay: %+v", fs)
		}
		c.GoLive()
		if fs = c.Advance(sec(1100), nil); len(fs) != 1 || fs[0].First != sec(1001) {
			t.Errorf("lost: %+v", fs)
		}
	})
	t.Run("unless the journal knows it", func(t *testing.T) {
		t.Parallel()
		c := build()
		c.Restore([]Episode{{ID: "known", RuleID: "corr", Group: []finding.Pair{{Field: "g", Value: "a"}}, First: sec(1001), Last: sec(1001), Count: 1},
			{ID: "other rule", RuleID: "gone"}, {ID: "other group", RuleID: "corr"}})
		c.Observe(silent(rec(1000, 0, "")), nil)
		c.Observe(silent(rec(1001, 1, "")), nil)
		c.GoLive()
		fs := feed(c, rec(1030, 2, ""))
		if fs = c.Advance(math.MaxInt64, fs); len(fs) != 0 {
			t.Errorf("fired twice: %+v", fs)
		}
		if diff := cmp.Diff([]Update{{ID: "known", First: sec(1001), Last: sec(1030), Count: 2, Closed: true}}, closedOnly(c.TakeUpdates())); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMigrateKeepsUnchangedRulesAndForgetsChangedOnes(t *testing.T) {
	t.Parallel()
	build := func(hash string) *Correlator {
		k := corr(rules.EventCount, time.Minute, gte(3))
		k.Logic = hash
		return New(newSet(k, 1), quiet())
	}
	for hash, want := range map[string]int{"same": 1, "changed": 0} {
		old := build("same")
		feed(old, rec(1000, 0, ""))
		old.Advance(sec(1005), nil)
		feed(old, rec(1010, 1, ""))
		c := build(hash)
		c.Migrate(old)
		fs := feed(c, rec(1020, 2, ""))
		fs = c.Advance(math.MaxInt64, fs)
		if len(fs) != want {
			t.Errorf("%s: %d firings, want %d", hash, len(fs), want)
		}
		if s := c.Stats(); s.Pending != 0 || s.Observed != 3 {
			t.Errorf("%s: %+v", hash, s)
		}
	}
}

func TestManyValuesBecomeApproximate(t *testing.T) {
	t.Parallel()
	for _, typ := range []rules.CorrelationType{rules.ValueAvg, rules.ValueMedian, rules.ValueSum} {
		k := corr(typ, time.Hour, gte(50))
		c := New(newSet(k, 1), quiet())
		var fs []Firing
		for i := range 10_000 {
			v := "49"
			if i >= 4500 {
				v = "100"
			}
			if typ == rules.ValueSum {
				v = "0"
				if i == 9000 {
					v = "50"
				}
			}
			fs = append(fs, feed(c, rec(1e6+float64(i)/10, int64(i), v))...)
		}
		fs = c.Advance(math.MaxInt64, fs)
		if len(fs) != 1 || !fs[0].Approximate {
			t.Errorf("%s: %+v", typ, fs)
			continue
		}
		if typ == rules.ValueMedian && math.Abs(fs[0].Value-100) > 1 {
			t.Errorf("the median is %v, off by more than 1 %%", fs[0].Value)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if errs := DefaultConfig().Validate(); len(errs) != 0 {
		t.Error(errs)
	}
	for _, err := range (Config{Lateness: -1}).Validate() {
		if !strings.Contains(err.Error(), ": ") {
			t.Errorf("%q names no field", err)
		}
	}
	if n := len((Config{Lateness: -1}).Validate()); n != 4 {
		t.Errorf("%d faults told, want 4", n)
	}
}

// TestEvidenceIsOfTheEpisode: a firing shows the events of its window, neither
// older ones of the group nor those that came while it waited for the watermark.
func TestEvidenceIsOfTheEpisode(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]rules.Bound{"looks back": {Op: "gte", Value: 2}, "looks forward": {Op: "eq", Value: 2}} {
		c := New(newSet(&rules.Correlation{Type: rules.EventCount, Timespan: time.Minute, Bounds: []rules.Bound{bound}}, 1), Config{MaxGroups: 10, MaxBytes: 1 << 20, MaxPending: 1024})
		var fired []Firing
		for i, at := range []int64{0, 300, 301, 500} {
			fired = c.Observe(rec(float64(1000+at), int64(i), "").input(), fired)
		}
		fired = c.Advance(sec(2000), fired)
		if len(fired) != 1 {
			t.Fatalf("%s: %d firings", name, len(fired))
		}
		var got []int64
		for _, r := range fired[0].Refs {
			got = append(got, r.Offset)
		}
		if !slices.Equal(got, []int64{1, 2}) {
			t.Errorf("%s: evidence %v, want events 1 and 2", name, got)
		}
	}
}
