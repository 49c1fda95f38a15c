package correlate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/keysentry/keysentry/detect/memory"
)

// TestRateOfWhatIsMissing: minutes whose events a replay left out are not minutes
// without events, wherever they end before judging goes on.
func TestRateOfWhatIsMissing(t *testing.T) {
	t.Parallel()
	all := week(rand.New(rand.NewPCG(1, 2)), weekEnd-7*86400, weekEnd+3600)
	first := New(newSet(rateAnomaly("down"), 1), remembering())
	_ = first.LoadMemory("corr", "", nil, true)
	var piece memory.Piece
	for _, r := range all {
		if r.ts > sec(weekEnd-1800) {
			break
		}
		first.Advance(r.ts-sec(10), first.Observe(r.input(), nil))
		for _, m := range first.TakeMemory(10) {
			piece = m
		}
	}
	for gap := 300.0; gap <= 1500; gap += 30 {
		c := New(newSet(rateAnomaly("down"), 1), remembering())
		if err := c.LoadMemory("corr", "", kept(t, []memory.Piece{piece}), true); err != nil {
			t.Fatal(err)
		}
		c.Resume(sec(weekEnd), math.MinInt64)
		var fs []Firing
		for _, r := range all {
			if r.ts < sec(weekEnd-2400) || r.ts > sec(weekEnd-gap) && r.ts < sec(weekEnd-1) {
				continue
			}
			if r.ts > sec(weekEnd-1) {
				c.Missing(sec(weekEnd - 1))
			}
			in := r.input()
			in.Silent = r.ts < sec(weekEnd)
			fs = c.Advance(r.ts-sec(10), c.Observe(in, fs))
		}
		if len(fs) != 0 {
			t.Errorf("%v seconds were left out: %d firings, first %v before the end", gap, len(fs), (sec(weekEnd) - fs[0].First).Sub(0))
		}
	}
}
