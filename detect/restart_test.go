package detect

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

func batch(off int64, vs ...ev) []event.Event {
	var out []event.Event
	for i, v := range vs {
		out = append(out, v.event(off+int64(i)))
	}
	return out
}

// drain lets the clock pass until the watermark has passed everything.
func drain(e *Engine, pos int64, from float64) (fs []finding.Finding) {
	for s := from; s < from+60; s++ {
		e.Progress(part0, pos, pos, at(s))
		fs = append(fs, e.Tick(at(s))...)
	}
	return fs
}

func TestNothingFiresTwiceAfterARestart(t *testing.T) {
	t.Parallel()
	first := newEngine(t, nil)
	first.Observe(part0, batch(0, settled()...))
	before := first.Observe(part0, batch(100, refused(at(1), "", "k1", "198.51.100.7")))
	before = append(before, first.Tick(at(1))...)
	if len(rule(before, "retired_key_foreign")) != 1 {
		t.Fatalf("nothing fired before the restart: %+v", before)
	}
	ups := first.TakeEpisodeUpdates()

	t.Run("what was detected is replayed", func(t *testing.T) {
		second := newEngine(t, nil)
		second.Restore(before, ups)
		second.Replay(part0, batch(0, settled()...))
		second.Replay(part0, batch(100, refused(at(1), "", "k1", "198.51.100.7")))
		after := second.Observe(part0, batch(101, refused(at(3), "", "k1", "198.51.100.7")))
		after = append(after, drain(second, 102, 3)...)
		if len(after) != 0 {
			t.Errorf("fired again: %+v", after)
		}
	})
	t.Run("journaled, but the position was not yet", func(t *testing.T) {
		second := newEngine(t, nil)
		second.Restore(before, ups)
		second.Replay(part0, batch(0, settled()...))
		after := second.Observe(part0, batch(100, refused(at(1), "", "k1", "198.51.100.7")))
		after = append(after, drain(second, 101, 3)...)
		if len(after) != 0 {
			t.Errorf("fired again: %+v", after)
		}
	})
	t.Run("not journaled", func(t *testing.T) {
		second := newEngine(t, nil)
		second.Replay(part0, batch(0, settled()...))
		after := second.Observe(part0, batch(100, refused(at(1), "", "k1", "198.51.100.7")))
		if got := rule(after, "retired_key_foreign"); len(got) != 1 || got[0].ID != rule(before, "retired_key_foreign")[0].ID {
			t.Errorf("the finding is lost or has another id: %+v", after)
		}
	})
}

func TestRatioIsJudgedWhenTheWatermarkPasses(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	var vs []ev
	for i := range 200 {
		vs = append(vs, minted(at(float64(i)), "h1", "k2"))
	}
	for i := range 5 {
		vs = append(vs, refused(at(200+float64(i)), "h1", "k2", "10.0.0.1"))
	}
	if fs := rule(e.Observe(part0, batch(0, vs...)), "token_failure_ratio"); len(fs) != 0 {
		t.Errorf("judged before more events could not undo it: %+v", fs)
	}
	got := rule(drain(e, int64(len(vs)), 205), "token_failure_ratio")
	if len(got) != 1 {
		t.Fatalf("%d findings, want 1", len(got))
	}
	f := got[0]
	if f.Value < 2 || f.Value > 2.5 || !strings.Contains(f.Threshold, "gte 2 % in 15m") || f.Window == 0 {
		t.Errorf("value %v, threshold %q", f.Value, f.Threshold)
	}
	for _, x := range f.Evidence {
		if x.Type != event.TypeAuthTokenDenied || x.Host != "h1" {
			t.Errorf("a mint that worked is no evidence: %+v", x)
		}
	}
	if len(f.Evidence) == 0 || len(f.Evidence) > finding.MaxEvidence {
		t.Errorf("%d events of evidence", len(f.Evidence))
	}
}

func TestSwapKeepsTheStateOfUnchangedRules(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	var vs []ev
	for i := range 30 {
		vs = append(vs, refused(at(float64(i)), "", "k9", "198.51.100.9"))
	}
	fs := e.Observe(part0, batch(0, vs[:29]...))
	if got := rule(fs, "unauthorized_spike_source"); len(got) != 0 {
		t.Fatalf("fired early: %+v", got)
	}
	if err := e.SwapRules(shipped(t)); err != nil {
		t.Fatal(err)
	}
	fs = e.Observe(part0, batch(29, vs[29]))
	got := rule(fs, "unauthorized_spike_source")
	if len(got) != 1 || got[0].Value != 30 || len(got[0].Evidence) != finding.MaxEvidence {
		t.Errorf("the thirtieth did not fire: %+v", got)
	}
	for _, set := range []*rules.Set{nil, {}} {
		if err := e.SwapRules(set); err == nil {
			t.Error("a set that was never compiled was taken")
		}
	}
}

func TestEngineIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	parts := []event.Partition{part0, part1}
	e.Assign(parts)
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() {
			for i := range 200 {
				b := batch(int64(i), minted(at(float64(i)), "h"+strconv.Itoa(i%7), "k1"), refused(at(float64(i)), "", "k9", "198.51.100.9"))
				for j := range b {
					b[j].Ref.Partition = p.ID
				}
				e.Observe(p, b)
				e.Progress(p, int64(i), int64(i), at(float64(i)))
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			e.Tick(at(float64(i)))
			e.KeyUse("n1", at(float64(i)))
			e.ForeignUse("n1")
			e.Keys("")
			e.TakeEpisodeUpdates()
			e.Diagnose(batch(0, refused(at(1), "", "k9", "198.51.100.9")))
			e.Stats()
		}
	})
	wg.Go(func() {
		for range 5 {
			if err := e.SwapRules(shipped(t)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if uses := e.ForeignUse("n1"); len(uses) != 1 || uses[0].Refused != 400 {
		t.Errorf("foreign uses: %+v", uses)
	}
}

func BenchmarkObserve(b *testing.B) {
	for _, tc := range []struct {
		name string
		make func(i int, ts event.Instant) ev
	}{
		{"shipped_rules/ordinary_mints", func(i int, ts event.Instant) ev {
			return minted(ts, "h"+strconv.Itoa(i%200), "k1")
		}},
		{"shipped_rules/refused", func(i int, ts event.Instant) ev {
			return refused(ts, "", "k9", "198.51.100."+strconv.Itoa(i%250))
		}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			e := newEngine(b, nil)
			const size = 1000
			events := make([]event.Event, size)
			for i := range events {
				events[i] = tc.make(i, start).event(int64(i))
			}
			ts, off := start, int64(0)
			b.ReportAllocs()
			for b.Loop() {
				for i := range events {
					ts += 1e5 // 10,000 events a second
					off++
					events[i].TS, events[i].Ref.Offset = ts, off
				}
				e.Observe(part0, events)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/event")
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
