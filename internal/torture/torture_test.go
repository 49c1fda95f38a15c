package torture

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/stage/stagetest"
)

func TestMain(m *testing.M) { stagetest.Main(m) }

// TestFaults plays one fault of each kind in short; make torture plays them all,
// and long.
func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault          string
		rounds, events int
	}{
		{"kill", 2, 3000},
		{"kill-after-insert", 1, 2000},
		{"kill-during-rebalance", 1, 2000},
		{"broker-restart", 1, 3000},
		{"clickhouse-down", 1, 3000},
		{"answers-lost", 1, 2000},
		{"broker-answers-lost", 1, 2000},
		{"paused-leader", 1, 2000},
		{"retention", 2, 4000},
		{"standbys", 3, 3000},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			if testing.Short() && tt.fault != "kill" {
				t.Skip("SKIP: too slow for -short")
			}
			var got []Result
			o := Options{Fault: tt.fault, Broker: "kfake", Rounds: tt.rounds, Events: tt.events, Seed: 7, Progress: logWriter{t}}
			err := Run(t.Context(), o, func(r Result) error { got = append(got, r); return nil })
			devstacktest.Check(t, err)
			if len(got) != 1 {
				t.Fatalf("%d results, want one", len(got))
			}
			r := got[0]
			// How long recovery takes is the machine's matter, and no test's.
			r.RecoveryBarS = math.Inf(1)
			if r.Gaps != nil {
				r.Gaps.ToldSMax = 0
			}
			if r.judge(); !r.OK {
				t.Fatalf("a promise was broken: %+v", r)
			}
			if r.Events < o.Events || !strings.HasPrefix(tt.fault, "broker-") && r.Events != o.Events {
				t.Errorf("%d records, %d were to be produced", r.Events, o.Events)
			}
			if r.RecoverySMax <= 0 {
				t.Errorf("recovery took %v s: nothing was broken", r.RecoverySMax)
			}
			if (r.Gaps != nil) != (tt.fault == "retention") {
				t.Errorf("gaps: %+v", r.Gaps)
			}
		})
	}
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		o    Options
		want string
	}{
		"an unknown fault":  {Options{Fault: "earthquake", Broker: "kfake", Rounds: 1, Events: 1000}, `"earthquake"`},
		"rounds below zero": {Options{Fault: "kill", Broker: "kfake", Rounds: -1, Events: 1000}, "negative"},
		"too few events":    {Options{Fault: "kill", Broker: "kfake", Rounds: 20, Events: 1000}, "20 rounds want 2100, got 1000"},
		"too few for some":  {Options{Fault: "all", Broker: "kfake", Events: 2200}, "standbys"},
		"no load":           {Options{Fault: "clickhouse-outage", Broker: "kfake", Rate: 0.1}, "clickhouse-outage"},
		"an unknown broker": {Options{Fault: "kill", Broker: "rabbit", Rounds: 1, Events: 1000}, `"rabbit"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Run(t.Context(), tt.o, func(Result) error { return errors.New("there must be no result") })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want something about %s", err, tt.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	gaps := GapFigures{Records: 10, ToldSMax: 1}
	outage := OutageFigures{CatchUpRatio: 6, AlertP50MSBefore: 20, AlertP50MS: 30, AlertP99MS: 200, PeakRSSMBBefore: 100, PeakRSSMBDuring: 200}
	tests := map[string]struct {
		change func(r *Result)
		want   string // what is broken
	}{
		"all well":              {func(*Result) {}, ""},
		"one lost":              {func(r *Result) { r.Lost = 1 }, "lost 1"},
		"more rows than events": {func(r *Result) { r.Lost = -1 }, "lost -1"},
		"one too much":          {func(r *Result) { r.Duplicates = 1 }, "duplicates"},
		"a finding twice":       {func(r *Result) { r.FindingsTwice = 1 }, "findings twice"},
		"an offset went back":   {func(r *Result) { r.OffsetWentBack = 1 }, "offset went back"},
		"a slow recovery":       {func(r *Result) { r.RecoverySMax = 5.01 }, "recovery took"},
		"a wrong gap":           {func(r *Result) { r.Gaps.Wrong = 1 }, "gaps are wrong"},
		"no gap":                {func(r *Result) { r.Gaps.Records = 0 }, "no gap"},
		"a late gap":            {func(r *Result) { r.Gaps.ToldSMax = 10.5 }, "a gap was told"},
		"a slow catching up":    {func(r *Result) { r.Outage.CatchUpRatio = 4.9 }, "caught up"},
		"memory":                {func(r *Result) { r.Outage.PeakRSSMBDuring = 1061 }, "memory rose"},
		"memory at its bar":     {func(r *Result) { r.Outage.PeakRSSMBDuring = 1060 }, ""},
		"slow alerts":           {func(r *Result) { r.Outage.AlertP50MS = 121 }, "the median alert"},
		"a slow alert":          {func(r *Result) { r.Outage.AlertP99MS = 1001 }, "the slowest alerts"},
	}
	for name, tt := range tests {
		g, o := gaps, outage
		r := Result{RecoverySMax: 4, RecoveryBarS: 5, Gaps: &g, Outage: &o}
		tt.change(&r)
		r.judge()
		broken := strings.Join(r.Broken, "; ")
		if r.OK != (tt.want == "") || len(r.Broken) > 1 || !strings.Contains(broken, tt.want) {
			t.Errorf("%s: ok is %v, broken are %q; want %q", name, r.OK, broken, tt.want)
		}
	}
}

func TestResultKeys(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(Result{Fault: "kill"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"fault":"kill","rounds":0,"events":0,"seed":0,"lost":0,"duplicates":0,"findings_twice":0,"offset_went_back":0,"peak_rss_mb":0,"recovery_s_max":0,"ok":false,"recovery_bar_s":0}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestFaultsAreComplete: every fault can be named, explained and judged.
func TestFaultsAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range faults() {
		if seen[f.name] || f.name == "" || f.what == "" || f.bar <= 0 || f.daemons < 1 || f.rounds < 1 || f.play == nil {
			t.Errorf("%q is twice, or lacks something: %+v", f.name, f)
		}
		seen[f.name] = true
		if _, err := f.options(Options{}); err != nil {
			t.Errorf("%s with its defaults: %v", f.name, err)
		}
	}
}

func TestOffsetWatch(t *testing.T) {
	t.Parallel()
	p, q := event.Partition{Topic: topic}, event.Partition{Topic: topic, ID: 1}
	type look = map[event.Partition]int64
	tests := map[string]struct {
		looks []look
		want  int
	}{
		"forward":           {[]look{{p: 1}, {p: 1, q: 4}, {p: 3, q: 4}}, 0},
		"one falls":         {[]look{{p: 5, q: 4}, {p: 4, q: 5}}, 1},
		"one is forgotten":  {[]look{{p: 5}, {q: 1}}, 1},
		"falls, then rises": {[]look{{p: 5}, {p: 3}, {p: 6}}, 1},
	}
	for name, tt := range tests {
		w := newOffsetWatch(nil, "g")
		for _, l := range tt.looks {
			w.take(l)
		}
		if w.back != tt.want {
			t.Errorf("%s: went back %d times, want %d", name, w.back, tt.want)
		}
	}
}

func TestEpisodes(t *testing.T) {
	t.Parallel()
	f := func(id, group string) finding.Finding {
		return finding.Finding{ID: id, RuleID: "r", Group: []finding.Pair{{Field: "key_id", Value: group}}}
	}
	tests := map[string]struct {
		findings []finding.Finding
		closed   string // after the first
		want     int
	}{
		"different groups":        {[]finding.Finding{f("a", "k1"), f("b", "k2")}, "", 0},
		"the same id":             {[]finding.Finding{f("a", "k1"), f("a", "k1")}, "", 1},
		"while the first goes on": {[]finding.Finding{f("a", "k1"), f("b", "k1")}, "", 1},
		"after the first":         {[]finding.Finding{f("a", "k1"), f("b", "k1")}, "a", 0},
		"after another's end":     {[]finding.Finding{f("a", "k1"), f("b", "k1")}, "x", 1},
		"the same id again":       {[]finding.Finding{f("a", "k1"), f("a", "k1")}, "a", 1},
		"the id in another group": {[]finding.Finding{f("a", "k1"), f("a", "k2")}, "", 1},
	}
	for name, tt := range tests {
		e := newEpisodes()
		for _, x := range tt.findings {
			e.add(x)
			e.closed(tt.closed)
		}
		if e.again != tt.want {
			t.Errorf("%s: %d again, want %d", name, e.again, tt.want)
		}
	}
}

func TestPresent(t *testing.T) {
	t.Parallel()
	now := event.At(time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC))
	e := event.Event{Time: 100, SentAt: 150, ExpiresAt: 400}
	present(&e, now)
	want := event.Event{Time: now, SentAt: now + 50, ExpiresAt: now + 300}
	if diff := cmp.Diff(want.Time, e.Time); diff != "" {
		t.Error(diff)
	}
	if e.SentAt != want.SentAt || e.ExpiresAt != want.ExpiresAt || e.IssuedAt != 0 {
		t.Errorf("distances changed: %+v", e)
	}
}
