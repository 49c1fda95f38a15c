package app

import (
	"slices"
	"testing"
	"time"

	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// TestClocksOfOthers: a producer that speaks for one network says nothing about the
// clock of another's host, whatever it calls its own.
func TestClocksOfOthers(t *testing.T) {
	t.Parallel()
	said := func(off time.Duration, records uint64, anchored bool) offset.Snapshot {
		var s offset.Snapshot
		s.Hosts = slices.Grow(s.Hosts, 1)[:1]
		s.Hosts[0].Name, s.Hosts[0].Current = "api-1", offset.Estimate{Offset: off, Confident: true, Anchored: anchored, Records: records, AsOf: 1}
		return s
	}
	c := &clocks{
		speaks: speakers([]ingest.TopicConfig{{Name: "acme", Allow: ingest.AllowConfig{Networks: []string{"acme"}}},
			{Name: "liar", Allow: ingest.AllowConfig{Networks: []string{"other*"}}}, {Name: "all"}}),
		source: func() map[event.Partition]offset.Snapshot {
			return map[event.Partition]offset.Snapshot{
				{Topic: "acme", ID: 0}: said(time.Second, 50, false), {Topic: "acme", ID: 1}: said(2*time.Second, 500, false),
				{Topic: "liar", ID: 0}: said(time.Hour, 5000, true),
				{Topic: "gone", ID: 0}: said(3*time.Hour, 9000, true),
			}
		},
	}
	for network, want := range map[string]time.Duration{"acme": 2 * time.Second, "other-1": time.Hour} {
		if off, _, ok := c.Offset(network, "api-1"); !ok || off != want {
			t.Errorf("%s: %v, %v; want %v", network, off, ok, want)
		}
	}
	if off, _, ok := c.Offset("third", "api-1"); ok {
		t.Errorf("a network that nobody speaks of: %v", off)
	}
}
