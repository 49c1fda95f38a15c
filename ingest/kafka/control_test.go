package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// clocksOf is what a partition knows of the clocks of n hosts after an hour.
func clocksOf(t *testing.T, n int) json.RawMessage {
	t.Helper()
	est := offset.New(n)
	start := event.At(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	for m := range 61 {
		for h := range n {
			for k := range 3 {
				var e event.Event
				at := start.Add(time.Duration(m)*time.Minute + time.Duration(k)*time.Second)
				e.Host, e.Time, e.ObservedAt = fmt.Sprintf("login-api-%d", h), at.Add(-time.Duration(h*7919+m*104729+k)*time.Microsecond), at
				est.Observe(&e)
			}
		}
	}
	b, err := json.Marshal(est.Snapshot(1))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestControlOfManyHosts: the clocks of a fleet are larger than one message may
// be, and must not keep the positions from being saved.
func TestControlOfManyHosts(t *testing.T) {
	t.Parallel()
	clocks := clocksOf(t, 2000)
	if len(clocks) < 2<<20 {
		t.Fatalf("%d bytes of clocks prove nothing", len(clocks))
	}
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		topic := devstacktest.CreateTopic(t, addr, 1, map[string]string{"cleanup.policy": "compact"})
		c := testClient(t, addr, func(c *Config) { c.Topics.Control = topic })
		ctl := NewControl(c)
		a, b := event.Partition{Topic: "auth.events", ID: 1}, event.Partition{Topic: "auth.events", ID: 10}
		for i := range int64(3) {
			err := ctl.Save(ctx, map[event.Partition]Checkpoint{a: {Detected: i, Clocks: clocks, At: 1}, b: {Detected: i, At: 2}})
			if err != nil {
				t.Fatal(err)
			}
		}
		got, err := NewControl(c).Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(map[event.Partition]Checkpoint{a: {Detected: 2, Clocks: clocks, At: 1}, b: {Detected: 2, At: 2}}, got); d != "" {
			t.Errorf("loaded (-want +got):\n%.2000s", d)
		}
	})
}
