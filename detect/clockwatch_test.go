package detect

import (
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

// TestClocksAreToldBeforeTokensFail: a host that drifts towards the leeway is told of
// once a day, with when; others are not.
func TestClocksAreToldBeforeTokensFail(t *testing.T) {
	t.Parallel()
	s := time.Second
	table := estimates{
		"drifts":  {Offset: 50 * s, Error: s, Slope: 1, SlopeError: 0.1, Minutes: 60, Confident: true, AsOf: start, Records: 900},
		"beyond":  {Offset: -80 * s, Error: s, Minutes: 60, Confident: true, Anchored: true, AsOf: start},
		"someday": {Offset: 30 * s, Error: s, Slope: 1, SlopeError: 0.1, Minutes: 60, Confident: true, AsOf: start},
		"delayed": {Offset: -500 * s, Error: s, SlowOrDelayed: true, Minutes: 60, AsOf: start},
		"stale":   {Offset: 500 * s, Error: s, Confident: true, Minutes: 60, AsOf: at(-3600)},
		"stopped": {Offset: 500 * s, Error: s, Confident: true, Minutes: 60, AsOf: start},
		"nobody":  {Offset: 500 * s, Error: s, Confident: true, Minutes: 60, AsOf: start},
	}
	reg := metrics.New()
	e, err := New(DefaultConfig(), Deps{Rules: shipped(t), Clocks: table, Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	e.Assign([]event.Partition{part0})
	for i, h := range []string{"drifts", "beyond", "someday", "delayed", "stale", "stopped"} {
		observe(e, int64(i), minted(at(-60), h, "k1"))
	}
	observe(e, 10, ev{typ: event.TypeHostStopped, ts: at(-1), origin: event.OriginBackend, fields: fields("host", "stopped")})
	got := map[string]finding.Finding{}
	for _, f := range e.Tick(at(1)) {
		if f.RuleID == finding.RuleClockOff {
			got[f.Subject.Value] = f
		}
	}
	if len(got) != 2 {
		t.Fatalf("%d findings, want those of drifts and beyond: %+v", len(got), got)
	}
	f := got["drifts"]
	if f.Kind != finding.ClockSkew || f.Severity != finding.Ticket || f.Subject != (finding.Subject{Network: "n1", Field: "host", Value: "drifts"}) ||
		f.Summary != "The clock of a host that mints is 50 s +- 1.0 s fast, drifting +1.0 s/h; its tokens will be refused from 2026-11-23T19:00:01Z on. The platform tolerates 60 s." {
		t.Errorf("%+v", f)
	}
	if now := got["beyond"]; !strings.Contains(now.Summary, "80 s +- 1.0 s slow; its tokens are refused now") {
		t.Errorf("%+v", now)
	}
	if again := e.Tick(at(90)); len(again) != 0 {
		t.Errorf("told again within the day: %+v", again)
	}
	table["drifts"] = offset.Estimate{Offset: 55 * s, Error: s, Slope: 1, SlopeError: 0.1, Minutes: 60, Confident: true, AsOf: at(86_400)}
	if next := e.Tick(at(86_400)); len(next) != 1 || next[0].ID == f.ID || next[0].Subject.Value != "drifts" {
		t.Errorf("the next day: %+v", next)
	}
	families, err := reg.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{}
	for _, m := range families {
		series[m.GetName()] = len(m.GetMetric())
	}
	if series["keysentry_clock_offset_seconds"] != 1 || series["keysentry_clock_hosts_beyond_leeway"] != 1 {
		t.Errorf("a day later one host has an estimate; metrics: %v", series)
	}
}

func TestClocksOfManyHostsAreBounded(t *testing.T) {
	t.Parallel()
	table := estimates{}
	e, err := New(DefaultConfig(), Deps{Rules: shipped(t), Clocks: table, Metrics: metrics.New()})
	if err != nil {
		t.Fatal(err)
	}
	e.Assign([]event.Partition{part0})
	for i := range 3 * clocksPerDay {
		name := "pod-" + strings.Repeat("x", i)
		table[name] = offset.Estimate{Offset: 500 * time.Second, Error: time.Second, Confident: true, AsOf: start}
		observe(e, int64(i), minted(at(-60), name, "k1"))
	}
	n := 0
	for _, f := range e.Tick(at(1)) {
		if f.RuleID == finding.RuleClockOff {
			n++
		}
	}
	if n != clocksPerDay {
		t.Errorf("%d findings, want %d a day", n, clocksPerDay)
	}
}
