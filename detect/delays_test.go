package detect

import (
	"testing"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

func TestDelays(t *testing.T) {
	t.Parallel()
	d := newDelays()
	group := []finding.Pair{{Field: "token_id", Value: "n1"}, {Field: "network", Value: "n1"}}
	if got := d.ofGroup(group); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	saw := func(n int, from event.Instant, late time.Duration) {
		for i := range n {
			seen := from.Add(time.Duration(i) * time.Millisecond)
			d.saw(&event.Event{Network: "n1", TS: seen.Add(-late), ObservedAt: seen})
		}
	}
	saw(2000, at(0), 300*time.Millisecond)
	saw(1, at(2), time.Hour)
	if got, want := d.ofGroup(group), time.Second; got != want {
		t.Errorf("one of two thousand is late: got %v, want %v", got, want)
	}
	saw(100, at(3), 90*time.Second)
	if got, want := d.ofGroup(group), 128*time.Second; got != want {
		t.Errorf("one in twenty takes 90 s: got %v, want %v", got, want)
	}
	saw(1, at(400), 0)
	saw(1, at(800), 0)
	if got, want := d.ofGroup(group), time.Second; got != want {
		t.Errorf("ten minutes later: got %v, want %v", got, want)
	}
	if got := d.ofGroup(group[:1]); got != 0 {
		t.Errorf("a group without a network: %v", got)
	}
}
