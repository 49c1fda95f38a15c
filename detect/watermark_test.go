package detect

import (
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
)

func TestWatermark(t *testing.T) {
	t.Parallel()
	const L, idle = 10 * time.Second, 5 * time.Second
	type step func(*watermarks) event.Instant
	saw := func(p event.Partition, ts float64) step {
		return func(w *watermarks) event.Instant { w.saw(p, at(ts)); return w.advance(0) }
	}
	fetch := func(p event.Partition, pos, end int64, now float64) step {
		return func(w *watermarks) event.Instant { w.fetched(p, pos, end, at(now)); return w.advance(at(now)) }
	}
	tick := func(now float64) step {
		return func(w *watermarks) event.Instant { return w.advance(at(now)) }
	}
	for _, tc := range []struct {
		name  string
		steps []step
		want  []event.Instant
	}{
		{"the slowest partition counts", []step{saw(part0, 100), saw(part1, 50), saw(part1, 120)},
			[]event.Instant{noTS, at(40), at(90)}},
		{"it never moves back", []step{saw(part0, 100), saw(part1, 100), saw(part0, 20)},
			[]event.Instant{noTS, at(90), at(90)}},
		{"a drained partition leaves after idle", []step{saw(part0, 100), fetch(part1, 7, 7, 100), fetch(part1, 7, 7, 104), fetch(part1, 7, 7, 105)},
			[]event.Instant{noTS, noTS, noTS, at(90)}},
		{"one with lag holds", []step{saw(part0, 100), fetch(part1, 6, 7, 100), fetch(part1, 6, 7, 106)},
			[]event.Instant{noTS, noTS, noTS}},
		{"one that cannot be fetched holds", []step{saw(part0, 100), fetch(part1, 7, 7, 100), tick(106)},
			[]event.Instant{noTS, noTS, noTS}},
		{"one with new events is not drained", []step{saw(part0, 100), fetch(part1, 7, 7, 100), saw(part1, 80), fetch(part1, 8, 8, 104), fetch(part1, 8, 8, 106), fetch(part1, 8, 8, 109)},
			[]event.Instant{noTS, noTS, at(70), at(70), at(70), at(90)}},
		{"records that are no events do not hold", []step{saw(part0, 100), fetch(part1, 7, 7, 100), fetch(part1, 8, 8, 104), fetch(part1, 9, 9, 106)},
			[]event.Instant{noTS, noTS, noTS, at(90)}},
		{"one that comes back counts again", []step{saw(part0, 100), fetch(part1, 7, 7, 100), fetch(part1, 7, 7, 105), saw(part1, 95), saw(part0, 200), saw(part1, 150)},
			[]event.Instant{noTS, noTS, at(90), at(90), at(90), at(140)}},
		{"when all are drained it follows the clock", []step{fetch(part0, 3, 3, 100), fetch(part1, 7, 7, 100), fetch(part0, 3, 3, 105), fetch(part1, 7, 7, 105), tick(106)},
			[]event.Instant{noTS, noTS, noTS, at(90), at(91)}},
		{"and stops when fetches stop", []step{fetch(part0, 3, 3, 100), fetch(part1, 7, 7, 100), fetch(part0, 3, 3, 105), fetch(part1, 7, 7, 105), tick(110)},
			[]event.Instant{noTS, noTS, noTS, at(90), at(90)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.Lateness, cfg.IdleAfter = L, idle
			w := newWatermarks(cfg)
			w.assign([]event.Partition{part0, part1})
			for i, s := range tc.steps {
				if got := s(&w); got != tc.want[i] {
					t.Errorf("after step %d: %s, want %s", i+1, got, tc.want[i])
				}
			}
		})
	}
}

func TestAssignForgetsPartitionsThatAreGone(t *testing.T) {
	t.Parallel()
	w := newWatermarks(DefaultConfig())
	w.assign([]event.Partition{part0, part1})
	w.saw(part0, at(100))
	if w.advance(0) != noTS {
		t.Fatal("a partition that was never read does not hold the watermark")
	}
	w.assign([]event.Partition{part0})
	if got := w.advance(0); got != at(90) {
		t.Errorf("got %s", got)
	}
}

func TestImportedHistoryHasAWatermarkOfItsOwn(t *testing.T) {
	t.Parallel()
	old := event.Partition{Topic: "sshd", ID: 0}
	cfg := DefaultConfig()
	e, err := New(cfg, Deps{Rules: shipped(t), Imported: func(topic string) bool { return topic == old.Topic }})
	if err != nil {
		t.Fatal(err)
	}
	e.Assign([]event.Partition{part0, old})
	for s := range 60 { // everything is drained, and the clock goes on
		e.Progress(part0, 0, 0, at(float64(s)))
		e.Progress(old, 0, 0, at(float64(s)))
		e.Tick(at(float64(s)))
	}
	var vs []ev
	for i := range 40 { // years ago
		vs = append(vs, ev{typ: event.TypeSessionDenied, ts: at(float64(i) - 3e8), source: "203.0.113.77", fields: fields("reason", "Failed password for root")})
	}
	b := batch(0, vs...)
	for i := range b {
		b[i].Ref.Topic = old.Topic
	}
	if got := rule(e.Observe(old, b), "unauthorized_spike_source"); len(got) != 1 || got[0].Fired >= at(-1e8) {
		t.Errorf("got %+v", got)
	}
	if s := e.Stats(); s.TooLate != 0 || s.Late != 0 {
		t.Errorf("history counts as late: %+v", s)
	}
}
