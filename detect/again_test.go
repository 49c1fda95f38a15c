package detect

import (
	"testing"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// TestEarlierEpisodesDoNotFireAfterARestart: the journal's reader remembers the
// last episode of a rule and group, and the replay reaches back to earlier ones.
func TestEarlierEpisodesDoNotFireAfterARestart(t *testing.T) {
	t.Parallel()
	story := func() (all []event.Event) {
		all = batch(0, settled()...)
		for _, burst := range []float64{0, 3000, 6000} {
			for i := range 40 {
				all = append(all, refused(at(burst+float64(i)), "", "k9", "198.51.100.9").event(int64(len(all))))
			}
		}
		return all
	}
	first := newEngine(t, nil)
	var before []finding.Finding
	for _, e := range story() {
		before = append(before, first.Observe(part0, []event.Event{e})...)
	}
	before = append(before, drain(first, 200, 6060)...)
	last := map[string]finding.Finding{}
	for _, f := range before {
		last[finding.MakeID(f.RuleID, f.Group, 0)] = f
	}
	var known []finding.Finding
	for _, f := range last {
		known = append(known, f)
	}
	if len(known) == len(before) {
		t.Fatalf("no rule fired twice: %d findings", len(before))
	}
	second := newEngine(t, nil)
	second.Restore(known, first.TakeEpisodeUpdates())
	second.Replay(part0, story())
	after := second.Observe(part0, batch(200, minted(at(6400), "h1", "k2")))
	after = append(after, drain(second, 201, 6400)...)
	for _, f := range after {
		t.Errorf("%s of %s fired again", f.RuleTitle, f.First)
	}
}
