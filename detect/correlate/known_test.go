package correlate

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

var groupA = []finding.Pair{{Field: "g", Value: "a"}}

// TestKnownEpisodeIsNotForgottenBeforeItIsReached: the replay begins with old events
// of the group, whose end is long before the firing that the journal knows.
func TestKnownEpisodeIsNotForgottenBeforeItIsReached(t *testing.T) {
	t.Parallel()
	c := New(newSet(corr(rules.EventCount, time.Minute, gte(1)), 1), quiet())
	c.Restore([]Episode{{ID: "known", RuleID: "corr", Group: groupA, First: sec(9000), Last: sec(9000), Count: 1}})
	c.Resume(sec(9000), math.MinInt64)
	c.Observe(silent(rec(1000, 0, "")), nil)
	for s := 2000.0; s < 9000; s += 100 { // lets groups go that are over
		c.Advance(sec(s), nil)
	}
	c.Observe(silent(rec(9000, 1, "")), nil)
	c.GoLive()
	if fs := c.Advance(math.MaxInt64, nil); len(fs) != 0 {
		t.Errorf("fired twice: %+v", fs)
	}
}

// TestWaitingEpisodeOfAReplayFiresWhenItEnds: before the restart it had not fired,
// because it might have reached a firing ahead; it ends only now.
func TestWaitingEpisodeOfAReplayFiresWhenItEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		resumed float64
		want    int
	}{"ends after": {1030, 1}, "ended before": {2000, 0}} {
		c := New(newSet(corr(rules.EventCount, time.Minute, gte(1)), 1), quiet())
		c.Restore([]Episode{{ID: "ahead", RuleID: "corr", Group: groupA, First: sec(1100), Last: sec(1100), Count: 1}})
		c.Resume(sec(tc.resumed), math.MinInt64)
		c.Observe(silent(rec(1000, 0, "")), nil)
		c.Observe(silent(rec(1100, 1, "")), nil)
		c.GoLive()
		fs := c.Advance(sec(1050), nil)
		fs = c.Advance(math.MaxInt64, fs)
		if len(fs) != tc.want {
			t.Errorf("%s where judging goes on: %d firings, want %d: %+v", name, len(fs), tc.want, fs)
		}
	}
}

// TestKnownEpisodeGoesOn: what the journal has of it is a part of it.
func TestKnownEpisodeGoesOn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		told bool
		want Update
	}{
		"told how it stood":  {true, Update{ID: "known", First: sec(500), Last: sec(1060), Count: 12, Closed: true}},
		"told that it fired": {false, Update{ID: "known", First: sec(500), Last: sec(1060), Count: 3, Closed: true}},
	} {
		c := New(newSet(corr(rules.EventCount, time.Minute, gte(1)), 1), quiet())
		c.Restore([]Episode{{ID: "known", RuleID: "corr", Group: groupA, First: sec(500), Last: sec(1000), Count: 10, Told: tc.told}})
		c.Resume(sec(1010), math.MinInt64)
		c.Observe(silent(rec(1000, 0, "")), nil)
		fs := feed(c, rec(1030, 1, ""), rec(1060, 2, ""))
		if fs = c.Advance(math.MaxInt64, fs); len(fs) != 0 {
			t.Errorf("%s: fired twice: %+v", name, fs)
		}
		if diff := cmp.Diff([]Update{tc.want}, closedOnly(c.TakeUpdates())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestEvidenceIsTheNewest: also when what is older comes later.
func TestEvidenceIsTheNewest(t *testing.T) {
	t.Parallel()
	c := New(newSet(corr(rules.EventCount, time.Hour, gte(40)), 1), quiet())
	for i := range 20 {
		c.Observe(silent(rec(2000+float64(i), int64(100+i), "")), nil)
	}
	for i := range 19 {
		c.Observe(silent(rec(1000+float64(i), int64(i), "")), nil)
	}
	fs := feed(c, rec(2100, 200, ""))
	if len(fs) != 1 || len(fs[0].Refs) != finding.MaxEvidence || fs[0].Refs[0].Offset < 100 {
		t.Errorf("%+v", fs)
	}
}

// TestNewRuleOfAReloadIsLearning: it knows what comes from then on.
func TestNewRuleOfAReloadIsLearning(t *testing.T) {
	t.Parallel()
	build := func(hash string) *Correlator {
		k := corr(rules.EventCount, time.Minute, gte(3))
		k.Logic = hash
		return New(newSet(k, 1), quiet())
	}
	for hash, want := range map[string][2]int{"old": {0, 0}, "new": {1, 0}} {
		old := build("old")
		feed(old, rec(1000, 0, ""))
		old.Advance(sec(1000), nil)
		c := build(hash)
		c.Migrate(old)
		if got := [2]int{len(c.Learning(sec(1030))), len(c.Learning(sec(1100)))}; got != want {
			t.Errorf("%s rule: learning %v, want %v", hash, got, want)
		}
	}
}

// TestInnerEpisodeThatMayHaveBegunEarlierIsNotCounted: the outer rule would count
// it at a time at which it did not begin.
func TestInnerEpisodeThatMayHaveBegunEarlierIsNotCounted(t *testing.T) {
	t.Parallel()
	for missing, want := range map[event.Instant]int{sec(700): 1, sec(990): 0} {
		inner := corr(rules.EventCount, time.Minute, gte(1))
		set := newSet(inner, 1)
		inner.Inner, inner.Name = true, "inner"
		outer := &rules.Correlation{Type: rules.EventCount, Timespan: 10 * time.Minute, Bounds: gte(1), GroupBy: []string{"g"},
			Inputs: []rules.Input{{Name: "inner", Correlation: inner, GroupSlots: []int{-1}, GroupNames: []string{"g"}}}}
		outer.ID, outer.Title = "outer", "outer"
		set.Correlations = append(set.Correlations, outer)
		c := New(set, quiet())
		c.Missing(missing)
		fs := feed(c, rec(1000, 0, ""))
		if fs = c.Advance(math.MaxInt64, fs); len(fs) != want {
			t.Errorf("missing before %v: %d firings, want %d", missing, len(fs), want)
		}
	}
}

// silent is a record of a replay.
func silent(r record) Input {
	in := r.input()
	in.Silent = true
	return in
}

// TestAbsenceAfterARestart: the first event after a restart is judged, as nothing
// that windows were filled with means that nothing was there. What began before
// they were filled, or was not filled in, is not.
func TestAbsenceAfterARestart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		at      float64
		missing event.Instant
		want    int
	}{
		"long after":  {5000, math.MinInt64, 1},
		"just after":  {1010, math.MinInt64, 1},
		"not had":     {1010, sec(1000), 0},
		"had by then": {5000, sec(1000), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quiet()
			cfg.Remembers = true
			c := New(newSet(&rules.Correlation{Type: rules.Absence, Timespan: time.Minute}, 2), cfg)
			c.Resume(sec(1000), math.MinInt64)
			c.Missing(tc.missing)
			if fs := c.Advance(math.MaxInt64, feed(c, rec(tc.at, 0, ""))); len(fs) != tc.want {
				t.Errorf("%d fired, want %d; unknown %d", len(fs), tc.want, c.Stats().Unknown)
			}
		})
	}
}

// TestReplayThatWasIncomplete: what a replay saw is not believed once it is known
// that events were left out of it.
func TestReplayThatWasIncomplete(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule    *rules.Correlation
		missing event.Instant
		want    int
	}{
		"all was there":        {&rules.Correlation{Type: rules.Absence, Timespan: time.Minute}, sec(900), 1},
		"a part was left out":  {&rules.Correlation{Type: rules.Absence, Timespan: time.Minute}, sec(990), 0},
		"it can only add":      {corr(rules.EventCount, time.Minute, gte(1)), sec(990), 1},
		"it could make it few": {corr(rules.EventCount, time.Minute, []rules.Bound{{Op: "lte", Value: 1}}), sec(1000), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := New(newSet(tc.rule, 2), quiet())
			c.Resume(sec(1000), math.MinInt64)
			in := rec(999, 0, "").input()
			in.Silent = true
			fs := c.Advance(sec(1000), c.Observe(in, nil))
			c.Missing(tc.missing)
			c.GoLive()
			if fs = c.Advance(math.MaxInt64, fs); len(fs) != tc.want {
				t.Errorf("%d fired, want %d", len(fs), tc.want)
			}
		})
	}
}
