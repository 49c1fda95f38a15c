package correlate

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

func firstSeen(lookback, learn time.Duration) *rules.Correlation {
	return &rules.Correlation{Type: rules.FirstSeen, Field: []string{"v"}, Lookback: lookback, Learn: learn}
}

func rateAnomaly(direction string) *rules.Correlation {
	return &rules.Correlation{Type: rules.RateAnomaly, Timespan: 15 * time.Minute, Threshold: 5.5, Direction: direction}
}

func remembering() Config {
	c := quiet()
	c.Remembers = true
	return c
}

// kept is memory as it comes back from where it was kept.
func kept(t testing.TB, in []memory.Piece) (out []memory.Piece) {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestValuesSurviveARestart: what fires after a restart is what would have fired
// without one.
func TestValuesSurviveARestart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rule := func() *rules.Correlation { return firstSeen(40*time.Second, 5*time.Second) }
		all := sortedRecords(drawRecords(t, 1), nil)
		cut := rapid.IntRange(0, len(all)).Draw(t, "cut")
		cfg := remembering()
		cfg.Lateness = 0
		whole := New(newSet(rule(), 1), cfg)
		_ = whole.LoadMemory("corr", "", nil, true)
		var want []string
		var took []memory.Piece
		for i, r := range all {
			if i == cut {
				whole.Advance(r.ts, nil)
				took = whole.TakeMemory(1 << 20)
			}
			fs := whole.Advance(r.ts, nil)
			fs = whole.Observe(r.input(), fs)
			if i >= cut {
				want = append(want, ids(fs)...)
			}
		}
		want = append(want, ids(whole.Advance(math.MaxInt64, nil))...)
		if cut == len(all) {
			return
		}

		second := New(newSet(rule(), 1), cfg)
		if err := second.LoadMemory("corr", "", took, true); err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, r := range all {
			in := r.input()
			// The two minutes before the cut are replayed, which is more than what was
			// not told.
			if in.Silent = i < cut; in.Silent && all[cut].ts-r.ts > event.Instant(replaySeen) {
				continue
			}
			fs := second.Advance(r.ts, nil)
			fs = second.Observe(in, fs)
			if i >= cut {
				got = append(got, ids(fs)...)
			}
		}
		got = append(got, ids(second.Advance(math.MaxInt64, nil))...)
		// An episode before the cut that nobody journaled may fire again, see Restore;
		// none after it is missing.
		for _, id := range want {
			if !slices.Contains(got, id) {
				t.Fatalf("after a restart %s is missing from %v", id, got)
			}
		}
	})
}

func ids(fs []Firing) (out []string) {
	for _, f := range fs {
		out = append(out, f.Group[0].Value+" "+strconv.FormatInt(int64(f.First), 10))
	}
	return out
}

func TestARuleWithoutMemoryLearns(t *testing.T) {
	t.Parallel()
	c := New(newSet(firstSeen(time.Hour, 0), 1), remembering())
	if fs := append(feed(c, rec(1000, 0, "x")), c.Advance(sec(1100), nil)...); len(fs) != 0 {
		t.Fatalf("fired before its memory was loaded: %+v", fs)
	}
	if l := c.Forgetful(); len(l) != 1 || l[0].ID != "corr" {
		t.Errorf("learning: %v", l)
	}
	pieces := []memory.Piece{{RuleID: "corr", Group: []finding.Pair{{Field: "g", Value: "a"}}, Value: "y", First: sec(500), Last: sec(900)},
		{RuleID: "corr", Group: []finding.Pair{{Field: "another", Value: "a"}}, Value: "z", First: sec(500), Last: sec(900)}}
	if err := c.LoadMemory("corr", "", pieces, true); err == nil {
		t.Error("memory of another group was taken without a word")
	}
	if err := c.LoadMemory("gone", "", pieces, true); err != nil {
		t.Errorf("memory of a rule that is gone: %v", err)
	}
	fs := append(feed(c, rec(1200, 1, "y"), rec(1201, 2, "x"), rec(1202, 3, "z")), c.Advance(math.MaxInt64, nil)...)
	if len(fs) != 1 || fs[0].First != sec(1202) || fs[0].Value != 1 {
		t.Errorf("of y (remembered), x (seen while learning) and z only z is new: %+v", fs)
	}
	if len(c.Forgetful()) != 0 {
		t.Error("still learning")
	}
}

// TestAnEmptyValueIsAValue: it is told, and known again, like any other.
func TestAnEmptyValueIsAValue(t *testing.T) {
	t.Parallel()
	piece := memory.Piece{RuleID: "corr", Group: []finding.Pair{{Field: "g", Value: "a"}}, First: sec(1000), Last: sec(1000)}
	set := newSet(firstSeen(time.Hour, 0), 1)
	set.Correlations[0].Inputs[0].FieldSlots = []int{2}
	c := New(set, remembering())
	_ = c.LoadMemory("corr", "", nil, true)
	in := rec(1000, 0, "").input()
	in.Values = emptyField{rec(1000, 0, "")}
	fs := c.Advance(sec(1001), c.Observe(in, nil))
	if diff := cmp.Diff([]memory.Piece{piece}, c.TakeMemory(10)); diff != "" || len(fs) != 1 {
		t.Errorf("%d findings, told (-want +got):\n%s", len(fs), diff)
	}
}

// emptyField is a record whose field in slot 2 is there, and empty.
type emptyField struct{ record }

func (r emptyField) Text(slot int) (string, bool) {
	if slot == 2 {
		return "", true
	}
	return r.record.Text(slot)
}

// TestEvidenceOfANewValue: the event with the new value is shown, however many
// ordinary ones came after it.
func TestEvidenceOfANewValue(t *testing.T) {
	t.Parallel()
	c := New(newSet(firstSeen(time.Hour, time.Minute), 1), quiet())
	feed(c, rec(1000, 0, "x"))
	c.Advance(sec(1050), nil)
	feed(c, rec(1100, 1, "new"))
	for i := range 100 {
		feed(c, rec(1101, int64(2+i), "x"))
	}
	fs := c.Advance(math.MaxInt64, nil)
	if len(fs) != 1 || !slices.ContainsFunc(fs[0].Refs, func(r event.Ref) bool { return r.Offset == 1 }) {
		t.Errorf("%+v", fs)
	}
}

// TestADroppedGroupIsNotNew: of a group that may have been dropped for room nothing
// is called new.
func TestADroppedGroupIsNotNew(t *testing.T) {
	t.Parallel()
	cfg := quiet()
	cfg.MaxGroups = 2
	c := New(newSet(firstSeen(time.Hour, 0), 1), cfg)
	var fs []Firing
	for i := range 9 {
		r := rec(1000+float64(i)*20, int64(i), "x")
		r.group = strconv.Itoa(i % 3)
		fs = append(fs, feed(c, r)...)
		fs = c.Advance(r.ts+1, fs)
	}
	if s := c.Stats(); len(fs) > 3 || s.Evicted == 0 || s.Unknown != uint64(9-len(fs)) {
		t.Errorf("%d findings about three groups with one value each, %+v", len(fs), s)
	}
	late := rec(1e4, 100, "y")
	late.group = "3"
	if fs := append(feed(c, late), c.Advance(math.MaxInt64, nil)...); len(fs) != 1 {
		t.Errorf("when the lookback has passed, a new group is new: %+v", fs)
	}
}

func TestValuesOfAGroupAreBounded(t *testing.T) {
	t.Parallel()
	c := New(newSet(firstSeen(time.Hour, time.Minute), 1), quiet())
	for i := range maxSeen + 1 {
		feed(c, rec(1000+float64(i)/1000, int64(i), strconv.Itoa(i)))
	}
	c.Advance(sec(2000), nil)
	w := c.specs[0].slab[0].w.(*seenWindow)
	if n := len(w.known); n > maxSeen || n < maxSeen/2 {
		t.Errorf("%d values are known", n)
	}
	if fs := append(feed(c, rec(2001, 1e6, strconv.Itoa(maxSeen))), c.Advance(sec(2002), nil)...); slices.ContainsFunc(fs, func(f Firing) bool { return f.First == sec(2001) }) {
		t.Error("the value seen last was forgotten")
	}
}

// TestAbsenceIsNotGuessed: what was dropped for room, what lies before the first
// record, and what coverage does not vouch for, is not called absent.
func TestAbsenceIsNotGuessed(t *testing.T) {
	t.Parallel()
	rule := func() *rules.Correlation { return &rules.Correlation{Type: rules.Absence, Timespan: time.Minute} }
	run := func(rule *rules.Correlation, cfg Config, rs ...record) (int, uint64) {
		c := New(newSet(rule, 2), cfg)
		fs := append(feed(c, rs...), c.Advance(math.MaxInt64, nil)...)
		return len(fs), c.Stats().Unknown
	}
	a, b := rec(1000, 0, ""), rec(990, 1, "")
	b.matched = []int32{1}
	other := rec(1001, 2, "")
	other.group = "b"
	for name, tc := range map[string]struct {
		cfg     func(*Config, *rules.Correlation)
		rs      []record
		fired   int
		unknown uint64
	}{
		"absent":      {nil, []record{a}, 1, 0},
		"there":       {nil, []record{b, a}, 0, 0},
		"other group": {nil, []record{a, other}, 2, 0},
		"dropped":     {func(c *Config, _ *rules.Correlation) { c.MaxGroups = 1 }, []record{a, other}, 0, 1},
		"too early":   {func(c *Config, _ *rules.Correlation) { c.Remembers = true }, []record{b, other}, 0, 1},
		"covered": {func(c *Config, k *rules.Correlation) {
			k.MinCoverage = 0.9
			c.Coverage = func(g []finding.Pair, from, to event.Instant) (float64, bool) {
				return 0.95, g[0].Value == "a" && from == sec(940) && to == sec(1000)
			}
		}, []record{a, other}, 1, 1},
		"not covered": {func(c *Config, k *rules.Correlation) {
			k.MinCoverage = 0.96
			c.Coverage = func([]finding.Pair, event.Instant, event.Instant) (float64, bool) { return 0.95, true }
		}, []record{a}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, cfg := rule(), quiet()
			if tc.cfg != nil {
				tc.cfg(&cfg, k)
			}
			fired, unknown := run(k, cfg, tc.rs...)
			if fired != tc.fired || unknown != tc.unknown {
				t.Errorf("%d fired, %d unknown, want %d and %d", fired, unknown, tc.fired, tc.unknown)
			}
		})
	}
}

// week is a record every minute or so for a week, in order of time.
func week(rng *rand.Rand, from, to float64) (out []record) {
	for s := from; s < to; s += 10 + 60*rng.Float64() {
		out = append(out, rec(s, int64(s*10), ""))
	}
	return out
}

const weekEnd = 7 * 86400 * 10.0

func TestRateAnomaly(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	const from = weekEnd - 7*86400
	ordinary := week(rng, from, weekEnd)
	var burst []record
	for i := range 60 {
		burst = append(burst, rec(weekEnd+float64(i)*10, int64(1e9)+int64(i), ""))
	}
	after := week(rng, weekEnd+3600, weekEnd+2*3600)
	for _, tc := range []struct {
		direction string
		rs        []record
		want      []float64 // times at which it fires, to a quarter of an hour
	}{
		{"up", burst, []float64{weekEnd}},
		{"up", after, nil},
		{"down", after, []float64{weekEnd}}, // an hour without events
		{"down", burst, nil},
		{"both", burst, []float64{weekEnd}},
	} {
		t.Run(tc.direction, func(t *testing.T) {
			t.Parallel()
			c := New(newSet(rateAnomaly(tc.direction), 1), quiet())
			var fs []Firing
			for _, r := range slices.Concat(ordinary, tc.rs) {
				fs = c.Observe(r.input(), fs)
				fs = c.Advance(r.ts-sec(10), fs)
			}
			fs = c.Advance(math.MaxInt64, fs) // which is no silence
			if len(fs) != len(tc.want) {
				t.Fatalf("%d firings, want %d: %+v", len(fs), len(tc.want), fs)
			}
			for i, f := range fs {
				if d := f.Fired - sec(tc.want[i]); d < 0 || d > event.Instant(45*time.Minute) || f.Value < 5.5 {
					t.Errorf("fired %s after the start, value %v", time.Duration(d), f.Value)
				}
			}
		})
	}
}

// TestSeasonSurvivesARestart: an anomaly is seen after a restart, and the season
// is that of one that never ended.
func TestSeasonSurvivesARestart(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	all := week(rng, weekEnd-7*86400, weekEnd+86400)
	first, whole := New(newSet(rateAnomaly("up"), 1), remembering()), New(newSet(rateAnomaly("up"), 1), quiet())
	_ = first.LoadMemory("corr", "", nil, true)
	var pieces []memory.Piece
	cut := len(all) - 500
	play := func(c *Correlator, r record, silent bool) {
		in := r.input()
		in.Silent = silent
		c.Observe(in, nil)
		c.Advance(r.ts-sec(10), nil)
	}
	for _, r := range all[:cut] {
		play(first, r, false)
		for _, m := range first.TakeMemory(10) { // the store keeps the newest
			pieces = []memory.Piece{m}
		}
	}
	for _, r := range all {
		play(whole, r, false)
	}
	second := New(newSet(rateAnomaly("up"), 1), remembering())
	if err := second.LoadMemory("corr", "", kept(t, pieces), true); err != nil {
		t.Fatal(err)
	}
	for i, r := range all {
		if r.ts >= all[cut].ts-event.Instant(replaySeason) {
			play(second, r, i < cut)
		}
	}
	state := func(c *Correlator) any { return c.specs[0].slab[0].w.(*rateWindow).m.State() }
	if diff := cmp.Diff(state(whole), state(second)); diff != "" {
		t.Errorf("the season after a restart (-whole +restarted):\n%s", diff)
	}
	bad := kept(t, pieces)
	bad[0].Season.Weekday = nil
	if err := New(newSet(rateAnomaly("up"), 1), remembering()).LoadMemory("corr", "", bad, true); err == nil {
		t.Error("a season of another shape was taken")
	}
}

// TestMemorySurvivesAReload: an unchanged rule goes on with what it knows.
func TestMemorySurvivesAReload(t *testing.T) {
	t.Parallel()
	set := newSet(firstSeen(time.Hour, 0), 1)
	c := New(set, remembering())
	_ = c.LoadMemory("corr", "", nil, true)
	feed(c, rec(1000, 0, "x"))
	c.Advance(sec(1001), nil)
	next := New(set, remembering())
	next.Migrate(c)
	if len(next.Forgetful()) != 0 {
		t.Error("an unchanged rule learns again")
	}
	if m := next.TakeMemory(10); len(m) != 1 || m[0].Value != "x" {
		t.Errorf("what was not told is lost: %+v", m)
	}
	if fs := append(feed(next, rec(1010, 1, "x")), next.Advance(math.MaxInt64, nil)...); len(fs) != 0 {
		t.Errorf("x is new again: %+v", fs)
	}
}

// TestMemoryThatNobodyTakes: what is to be told is bounded, and what had no room is
// told when it is seen again.
func TestMemoryThatNobodyTakes(t *testing.T) {
	t.Parallel()
	c := New(newSet(firstSeen(time.Minute, 0), 1), remembering())
	_ = c.LoadMemory("corr", "", nil, true)
	c.dirty = make([]news, maxMarks)
	see := func(i int) {
		feed(c, rec(1000+20*float64(i), int64(i), "x"))
		c.Advance(sec(1001+20*float64(i)), nil)
	}
	for i := range 100 {
		see(i)
	}
	w := c.specs[0].slab[0].w.(*seenWindow)
	if len(w.changed) != 0 || len(c.dirty) != maxMarks {
		t.Errorf("%d values and %d marks wait to be told", len(w.changed), len(c.dirty))
	}
	c.dirty = nil
	see(100)
	if took := c.TakeMemory(10); len(took) != 1 || took[0].First != sec(1000) || took[0].Last != sec(3000) {
		t.Errorf("told %+v", took)
	}
}

// TestMemoryOfAnEditedRule: memory that was asked for before a rule was edited is
// not the edited rule's, and it goes on learning until its own comes.
func TestMemoryOfAnEditedRule(t *testing.T) {
	t.Parallel()
	before, after := firstSeen(time.Hour, 0), firstSeen(time.Hour, 0)
	before.Logic, after.Logic = "before", "after"
	old := New(newSet(before, 1), remembering())
	c := New(newSet(after, 1), remembering())
	c.Migrate(old)
	pieces := []memory.Piece{{RuleID: "corr", RuleHash: "before", Group: []finding.Pair{{Field: "g", Value: "a"}}, Value: "x", First: sec(1), Last: sec(999)}}
	if err := c.LoadMemory("corr", "before", pieces, true); err != nil {
		t.Fatal(err)
	}
	if fs := c.Advance(sec(1001), feed(c, rec(1000, 0, "y"))); len(fs) != 0 || len(c.Forgetful()) != 1 {
		t.Errorf("it fires by another rule's memory: %+v, learning %v", fs, c.Forgetful())
	}
	if err := c.LoadMemory("corr", "after", nil, true); err != nil {
		t.Fatal(err)
	}
	if fs := c.Advance(sec(1003), feed(c, rec(1002, 1, "x"))); len(fs) != 1 {
		t.Errorf("x was never seen by this rule, got %+v", fs)
	}
}

// TestRateOfEpisodes: the episodes of another correlation have a season as
// records have, and too few of them are noticed.
func TestRateOfEpisodes(t *testing.T) {
	t.Parallel()
	for direction, want := range map[string]int{"down": 1, "both": 1, "up": 0} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			inner := corr(rules.EventCount, time.Second, gte(1))
			set := newSet(inner, 1)
			inner.ID, inner.Inner = "inner", true
			outer := rateAnomaly(direction)
			outer.ID, outer.GroupBy, outer.Index = "outer", []string{"g"}, 1
			outer.Inputs = []rules.Input{{Name: "inner", Correlation: inner, GroupSlots: []int{-1}, GroupNames: []string{"g"}}}
			set.Correlations = append(set.Correlations, outer)
			c := New(set, quiet())
			var fs []Firing
			for _, r := range week(rand.New(rand.NewPCG(1, 2)), weekEnd-7*86400, weekEnd) {
				fs = c.Observe(r.input(), fs)
				fs = c.Advance(r.ts-sec(10), fs)
			}
			if fs = c.Advance(sec(weekEnd+3600), fs); len(fs) != want {
				t.Errorf("%d firings, want %d: %+v", len(fs), want, fs)
			}
		})
	}
}
