package app

import (
	"strconv"
	"testing"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// TestMemoryKeepsTheLastEpisodes: so many of one rule and group, and so many at
// all.
func TestMemoryKeepsTheLastEpisodes(t *testing.T) {
	t.Parallel()
	m := newMemory()
	keep := func(group, id string) {
		f := finding.Finding{ID: id, RuleID: "r", Group: []finding.Pair{{Field: "g", Value: group}}}
		m.keepFinding(f)
		m.keepFinding(f) // told twice
		m.episodes[id] = journal.Episode{FindingID: id}
	}
	for i := range maxGroupEpisodes + 5 {
		keep("busy", "b"+strconv.Itoa(i))
	}
	if len(m.findings) != maxGroupEpisodes || m.has("b4") || !m.has("b5") || len(m.episodes) != maxGroupEpisodes {
		t.Errorf("%d findings and %d ends of one group, want the last %d", len(m.findings), len(m.episodes), maxGroupEpisodes)
	}
	for i := range maxEpisodes {
		keep("g"+strconv.Itoa(i), "f"+strconv.Itoa(i))
	}
	if len(m.findings) != maxEpisodes || m.has("b20") || !m.has("f0") || len(m.groups) != maxEpisodes || len(m.episodes) != maxEpisodes {
		t.Errorf("%d findings, %d groups, %d in order, %d ends; want %d of each", len(m.findings), len(m.groups), len(m.order), len(m.episodes), maxEpisodes)
	}
	for i := range 2 * maxEpisodes {
		keep("busy", "c"+strconv.Itoa(i))
	}
	if len(m.order) > 2*maxEpisodes || len(m.findings) != maxEpisodes || !m.has("f"+strconv.Itoa(maxEpisodes-1)) || m.has("f0") {
		t.Errorf("%d in order and %d findings after a storm in one group", len(m.order), len(m.findings))
	}
}

// TestKeptPositions: what rests on positions is covered once each of them is kept.
func TestKeptPositions(t *testing.T) {
	t.Parallel()
	busy, idle := event.Partition{Topic: "t", ID: 0}, event.Partition{Topic: "t", ID: 1}
	k := &keptPositions{}
	upTo := map[event.Partition]int64{busy: 5, idle: 0} // nothing of idle was observed
	if k.covers(upTo) {
		t.Error("nothing is kept yet")
	}
	k.note(map[event.Partition]int64{busy: 4})
	if k.covers(upTo) {
		t.Error("4 is not 5")
	}
	k.note(map[event.Partition]int64{busy: 5})
	if !k.covers(upTo) {
		t.Error("a partition without events holds the others up")
	}
}
