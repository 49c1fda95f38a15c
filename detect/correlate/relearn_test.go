package correlate

import (
	"math/rand/v2"
	"testing"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/detect/season"
)

// TestRelearn: seasons that were read off the stored events go to groups that know
// less, and to those that are gone, while there is room.
func TestRelearn(t *testing.T) {
	t.Parallel()
	const from = weekEnd - 7*86400
	state := func(days int64) *season.State {
		m := &season.Model{}
		for minute := int64(weekEnd)/60 - days*1440; minute < int64(weekEnd)/60; minute++ {
			m.Add(minute, 1)
		}
		s := m.State()
		return &s
	}
	piece := func(group string, days int64) memory.Piece {
		return memory.Piece{RuleID: "corr", Group: []finding.Pair{{Field: "g", Value: group}}, Last: sec(weekEnd - 60), Season: state(days)}
	}
	build := func(days float64) *Correlator {
		cfg := remembering()
		cfg.MaxGroups = 2
		c := New(newSet(rateAnomaly("up"), 1), cfg)
		if added, n, err := c.Relearn("corr", "", []memory.Piece{piece("a", 7)}); len(added)+n != 0 || err != nil {
			t.Errorf("a rule that waits for its memory took %v, %d, %v", added, n, err)
		}
		_ = c.LoadMemory("corr", "", nil, true)
		for _, r := range week(rand.New(rand.NewPCG(1, 2)), max(from, weekEnd-days*86400), weekEnd) {
			c.Advance(r.ts-sec(10), c.Observe(r.input(), nil))
		}
		return c
	}
	fires := func(c *Correlator) bool {
		var fs []Firing
		for i := range 60 {
			r := rec(weekEnd+float64(i)*5, int64(1e9)+int64(i), "")
			fs = c.Advance(r.ts-sec(10), c.Observe(r.input(), fs))
		}
		return len(fs) > 0
	}
	if fires(build(1)) {
		t.Fatal("a rule of one day fires: the test shows nothing")
	}

	c := build(1)
	added, n, err := c.Relearn("corr", "", []memory.Piece{piece("a", 6), piece("b", 6), piece("c", 6)})
	if err != nil || n != 1 || len(added) != 1 || added[0].Group[0].Value != "b" {
		t.Errorf("adopted %d, added %v, %v; want one, and b, for which there is room", n, added, err)
	}
	if c.Stats().Evicted != 0 {
		t.Error("a group was dropped to make room")
	}
	if told := c.TakeMemory(10); len(told) == 0 {
		t.Error("nothing to be kept")
	}
	if !fires(c) {
		t.Error("with six days of history a burst is not told")
	}

	c = build(7)
	if added, n, err := c.Relearn("corr", "", []memory.Piece{piece("a", 3)}); n != 0 || len(added) != 0 || err != nil {
		t.Errorf("a week gave way to three days: %d, %v, %v", n, added, err)
	}
	bad, alien, stale := piece("a", 7), piece("a", 7), piece("z", 6)
	bad.Season.Weekday = nil
	alien.Group[0].Field = "another"
	stale.Last = sec(weekEnd - 20*86400)
	if _, n, err := c.Relearn("corr", "", []memory.Piece{bad, alien, stale}); err == nil || n != 0 || c.Stats().Groups != 1 {
		t.Errorf("took %d of pieces that do not fit, %d groups, %v", n, c.Stats().Groups, err)
	}
	if added, n, err := c.Relearn("corr", "edited", []memory.Piece{piece("a", 7)}); len(added)+n != 0 || err != nil {
		t.Errorf("a rule that was edited took %v, %d, %v", added, n, err)
	}
}
