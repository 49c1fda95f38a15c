package e2ebench

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

// TestRun goes through all of it in small: every figure must be there. How large
// it is says nothing here.
func TestRun(t *testing.T) {
	t.Parallel()
	r, err := Run(t.Context(), Options{Broker: "kfake", Events: 10_000, Samples: 5, Progress: logWriter{t}})
	if errors.Is(err, errLoad) {
		t.Skip(err)
	}
	devstacktest.Check(t, err)
	if r.Broker != "kfake" || r.Events != 10_000 || r.Rules == 0 {
		t.Errorf("got %+v", r)
	}
	for name, v := range map[string]float64{
		"events_per_s": r.EventsPerS, "floor_events_per_s": r.FloorEventsPerS, "floor_ratio": r.FloorRatio,
		"alert_p50_ms": r.AlertP50MS, "alert_p99_ms": r.AlertP99MS,
		"cpu_us_per_event": r.CPUUsPerEvent, "server_us_per_event": r.ServerUsPerEvent, "peak_rss_mb": r.PeakRSSMB,
	} {
		if v <= 0 {
			t.Errorf("%s is %v", name, v)
		}
	}
}

// TestPeer goes through the comparison in small: both sides must hold the topic.
func TestPeer(t *testing.T) {
	t.Parallel()
	r, err := Peer(t.Context(), Options{Events: 10_000, Progress: logWriter{t}})
	devstacktest.Check(t, err)
	if r.OurRows != 10_000 || r.TheirRows != 10_000 || r.Ours <= 0 || r.Theirs <= 0 {
		t.Errorf("got %+v", r)
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
		"too few events":    {Options{Broker: "kfake", Events: 100}, "too few"},
		"too many samples":  {Options{Broker: "kfake", Events: 10_000, Samples: 1000}, "1 to 250"},
		"an unknown broker": {Options{Broker: "rabbit", Events: 10_000}, `"rabbit"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Run(t.Context(), tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want something about %s", err, tt.want)
			}
		})
	}
}

func TestResultKeys(t *testing.T) {
	t.Parallel()
	r := Result{Broker: "kfake", EventsPerS: 100_000.4, FloorEventsPerS: 200_000, AlertP50MS: 1.26}
	r.round()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"broker":"kfake","events":0,"rules":0,"events_per_s":100000,"floor_events_per_s":200000,"floor_ratio":0.5,"cpu_us_per_event":0,"server_us_per_event":0,"peak_rss_mb":0,"alert_p50_ms":1.3,"alert_p99_ms":0}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestArrived(t *testing.T) {
	t.Parallel()
	about := func(network, field, value string) finding.Finding {
		return finding.Finding{Group: []finding.Pair{{Field: "network", Value: network}, {Field: field, Value: value}}}
	}
	tm := &timings{seen: map[string]event.Instant{}}
	tm.arrived(about("another", "key_id", "k1"), time.Unix(0, 1))
	tm.arrived(about(victim, "host", "k1"), time.Unix(0, 2)) // not about a key
	tm.arrived(about(victim, "key_id", "k1"), time.Unix(0, 3))
	tm.arrived(about(victim, "key_id", "k1"), time.Unix(0, 4)) // again: the first counts
	if diff := cmp.Diff(map[string]event.Instant{"k1": 3}, tm.seen); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestJudgeAlerts(t *testing.T) {
	t.Parallel()
	b := &bench{opt: Options{Samples: 100, Progress: logWriter{t}}}
	all := []time.Duration{time.Second}
	for i := range 98 {
		all = append(all, time.Duration(98-i)*time.Millisecond)
	}
	if err := b.judgeAlerts(all); err == nil || !strings.Contains(err.Error(), "99 of 100") {
		t.Errorf("got %v, want a complaint about the alert that is missing", err)
	}
	if err := b.judgeAlerts(append(all, 99*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if b.result.AlertP50MS != 50 || b.result.AlertP99MS != 99 {
		t.Errorf("p50 %v, p99 %v; want 50, 99", b.result.AlertP50MS, b.result.AlertP99MS)
	}
}
