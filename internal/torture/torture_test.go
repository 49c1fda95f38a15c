package torture

import (
	"encoding/json"
	"errors"
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

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault  string
		rounds int
	}{
		{"kill", 2},
		{"broker-restart", 1},
		{"clickhouse-down", 1},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			var got []Result
			o := Options{Fault: tt.fault, Broker: "kfake", Rounds: tt.rounds, Events: 3000, Seed: 7, Progress: logWriter{t}}
			err := Run(t.Context(), o, func(r Result) error { got = append(got, r); return nil })
			devstacktest.Check(t, err)
			if len(got) != 1 || !got[0].OK {
				t.Fatalf("a promise was broken: %+v", got)
			}
			r := got[0]
			if r.Events < o.Events || tt.fault != "broker-restart" && r.Events != o.Events {
				t.Errorf("%d records, %d were to be produced", r.Events, o.Events)
			}
			if r.RecoverySMax <= 0 {
				t.Errorf("recovery took %v s: nothing was broken", r.RecoverySMax)
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
		"no rounds":         {Options{Fault: "kill", Broker: "kfake", Events: 1000}, "at least one round"},
		"too few events":    {Options{Fault: "kill", Broker: "kfake", Rounds: 20, Events: 1000}, "100 events"},
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
	tests := map[string]struct {
		r    Result
		want bool
	}{
		"all well":              {Result{RecoverySMax: 4}, true},
		"one lost":              {Result{Lost: 1}, false},
		"one too much":          {Result{Duplicates: 1}, false},
		"a finding twice":       {Result{FindingsTwice: 1}, false},
		"an offset went back":   {Result{OffsetWentBack: 1}, false},
		"more rows than events": {Result{Lost: -1}, false},
	}
	for name, tt := range tests {
		tt.r.judge()
		if tt.r.OK != tt.want {
			t.Errorf("%s: ok is %v", name, tt.r.OK)
		}
	}
}

func TestResultKeys(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(Result{Fault: "kill"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"fault":"kill","rounds":0,"events":0,"seed":0,"lost":0,"duplicates":0,"findings_twice":0,"offset_went_back":0,"peak_rss_mb":0,"recovery_s_max":0,"ok":false}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
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
