package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

func TestSilentErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"no answer in time":           {fmt.Errorf("fetch: %w", context.DeadlineExceeded), true},
		"no answer to a read":         {&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, true},
		"nobody takes the connection": {&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, false},
		"refused":                     {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, false},
		"reset":                       {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, false},
		"closed":                      {io.EOF, false},
		"an answer":                   {errors.New("not the leader"), false},
	} {
		if got := silent(tt.err); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// sight is how things stand from a second on.
type sight struct {
	at              int
	steps, troubles int64
	idle            bool
	local           bool // it does not wait for Kafka
	want            Advice
	then            string // what the one who acts says: reconnected, away, standing by
}

func TestWatchdog(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		looks  []sight
		counts [3]float64 // stuck, reconnects, away
	}{
		{"steps", []sight{{at: 0}, {at: 29, steps: 1}, {at: 58, steps: 2}, {at: 87, steps: 3}}, [3]float64{}},
		{"nothing to do", []sight{{at: 0, idle: true}, {at: 100, idle: true}, {at: 200, idle: true}, {at: 229}}, [3]float64{}},
		{"failures that are answers", []sight{{at: 0}, {at: 29, troubles: 1}, {at: 58, troubles: 2}}, [3]float64{}},
		{"stuck, helped", []sight{{at: 0}, {at: 29}, {at: 30, want: Reconnect, then: "reconnected"}, {at: 40, idle: true}, {at: 50}, {at: 60, steps: 1}, {at: 89, steps: 1}},
			[3]float64{1, 1, 0}},
		{"stuck, helped, and much later again", []sight{{at: 0}, {at: 30, want: Reconnect, then: "reconnected"}, {at: 40, steps: 1}, {at: 70, steps: 1, want: Reconnect}},
			[3]float64{2, 1, 0}},
		{"stuck, not helped", []sight{{at: 0}, {at: 30, want: Reconnect, then: "reconnected"}, {at: 59}, {at: 60, want: GiveUp}}, [3]float64{2, 1, 0}},
		{"stuck, not helped, beginning anew", []sight{{at: 0, steps: 50}, {at: 30, steps: 50, want: Reconnect, then: "reconnected"}, {at: 35, idle: true, steps: 50}, {at: 40}, {at: 70, want: GiveUp}},
			[3]float64{2, 1, 0}},
		{"stuck, then troubles, then stuck", []sight{{at: 0}, {at: 30, want: Reconnect, then: "reconnected"}, {at: 40, troubles: 1}, {at: 69, troubles: 1}, {at: 70, troubles: 1, want: GiveUp}},
			[3]float64{2, 1, 0}},
		{"nobody there", []sight{{at: 0}, {at: 30, want: Reconnect, then: "away"}, {at: 59}, {at: 60, want: Reconnect, then: "away"}, {at: 61, steps: 1}}, [3]float64{2, 0, 2}},
		{"nobody there after a new connection", []sight{{at: 0}, {at: 30, want: Reconnect, then: "reconnected"}, {at: 60, want: GiveUp, then: "away"}, {at: 89}, {at: 90, want: GiveUp}},
			[3]float64{3, 1, 1}},
		{"not kafka's fault", []sight{{at: 0, local: true}, {at: 29, local: true}, {at: 30, local: true, want: GiveUp}}, [3]float64{1, 0, 0}},
		{"another member took over", []sight{{at: 0}, {at: 30, want: Reconnect, then: "reconnected"}, {at: 31, idle: true}, {at: 100, idle: true, then: "standing by"}, {at: 130, want: Reconnect}},
			[3]float64{2, 1, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reg := metrics.New()
			w := NewWatchdog(reg)
			for _, s := range tt.looks {
				now := event.Instant(time.Hour) + event.Instant(s.at)*event.Instant(time.Second)
				rejoining := Watched{Kind: WatchGroup, Name: "keysentry", Busy: s.at == 35 || s.at == 40, Patience: time.Minute, Kafka: true, Steps: 7}
				got, stuck := w.Look(now, []Watched{rejoining, {Kind: WatchDetection, Name: "auth.events/0", Busy: !s.idle, Steps: s.steps, Troubles: s.troubles, Patience: 30 * time.Second,
					Kafka: !s.local, Detail: "reading from Kafka at offset 5 of 9"}})
				if got != s.want || (len(stuck) > 0) != (s.want != Wait) {
					t.Fatalf("at %d s: advice %d for %v, want %d", s.at, got, stuck, s.want)
				}
				if s.want == GiveUp {
					if text := StuckError(stuck).Error(); !strings.Contains(text, "auth.events/0") || !strings.Contains(text, "offset 5") || !strings.Contains(text, "look at") {
						t.Errorf("the error says %q", text)
					}
				}
				switch s.then {
				case "reconnected":
					w.Reconnected(now, stuck)
				case "standing by":
					w.StandsBy()
				case "away":
					w.Away(now)
				}
			}
			for i, name := range []string{"stuck_total", "reconnects_total", "kafka_away_total"} {
				if n, _ := counted(t, reg, name); n != tt.counts[i] {
					t.Errorf("%s: %v, want %v", name, n, tt.counts[i])
				}
			}
		})
	}
}

// TestWatchedSides: what an outage of ClickHouse, or of the journal, or a detector
// that hangs looks like.
func TestWatchedSides(t *testing.T) {
	t.Parallel()
	c := DefaultConfig().Watchdog
	s := Status{Partition: testParts[0], Live: 100, Stored: 40, End: 120, Ready: true, Running: true, Progress: Progress{Doing: DoingRead, Steps: 9, Failure: "i/o timeout"}}
	for name, tt := range map[string]struct {
		change                      func(*Status)
		storing                     bool
		detects, stores, waitsKafka bool
	}{
		"all is well":               {func(*Status) {}, true, true, true, true},
		"clickhouse is down":        {func(*Status) {}, false, true, false, true},
		"nothing to store":          {func(s *Status) { s.Stored = 100 }, true, true, false, true},
		"not live yet":              {func(s *Status) { s.Ready = false }, true, true, false, true},
		"no run":                    {func(s *Status) { s.Running = false }, true, false, false, true},
		"the journal takes nothing": {func(s *Status) { s.Progress.Doing = DoingDeliver }, true, true, true, true},
		"detection hangs":           {func(s *Status) { s.Progress.Doing = DoingJudge }, true, true, true, false},
	} {
		st := s
		tt.change(&st)
		list := st.Watched(c, tt.storing)
		if list[0].Busy != tt.detects || list[1].Busy != tt.stores || list[0].Kafka != tt.waitsKafka || list[1].Kafka {
			t.Errorf("%s: %+v", name, list)
		}
		if list[0].Steps != 9 || list[1].Steps != st.Stored || !strings.Contains(list[0].Detail, "i/o timeout") {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// hangingDetector never returns from Observe until it is let.
type hangingDetector struct {
	*fakeDetector
	open chan struct{}
}

func (d *hangingDetector) Observe(p event.Partition, events []event.Event) []finding.Finding {
	<-d.open
	return d.fakeDetector.Observe(p, events)
}

// TestProgressOfAReader: what a reader is at, and that waiting counts no steps.
func TestProgressOfAReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		w := newWorld(31, p)
		w.produce(p, 10)
		det := &hangingDetector{newFakeDetector(w), make(chan struct{})}
		d := &daemon{w: w, writer: newFakeWriter(w, time.Millisecond), det: det.fakeDetector}
		sink := &stuckSink{world: w}
		var err error
		d.p, err = New(DefaultConfig(), Deps{Source: w, Writer: d.writer, Detector: det, Sink: sink, Decoder: newTestDecoder(t)})
		if err != nil {
			t.Fatal(err)
		}
		d.run(false)
		at := func(want Doing) {
			t.Helper()
			time.Sleep(time.Minute)
			before := d.p.Status()[0]
			time.Sleep(time.Minute)
			after := d.p.Status()[0]
			if after.Progress.Doing != want || !after.Running {
				t.Errorf("it is %v (running %v), want %v", after.Progress.Doing, after.Running, want)
			}
			if moved := before.Progress.Steps != after.Progress.Steps; moved != (want == DoingRead) {
				t.Errorf("while it is %v its steps went from %d to %d", want, before.Progress.Steps, after.Progress.Steps)
			}
		}
		at(DoingJudge)
		close(det.open)
		at(DoingDeliver)
		sink.open.Store(true)
		d.end(t)
		if d.p.Status()[0].Running {
			t.Error("it runs after the end")
		}
		d.run(true)
		at(DoingRead)
		d.stop(t)
	})
}

// TestWatchdogForgetsAHelpedGroup: a member that works again without a record of
// the journal is helped again the next time, not given up.
func TestWatchdogForgetsAHelpedGroup(t *testing.T) {
	t.Parallel()
	w := NewWatchdog(nil)
	now := event.Instant(0)
	look := func(busy bool) Advice {
		advice, stuck := w.Look(now, []Watched{{Kind: WatchGroup, Name: "g", Busy: busy, Steps: 7, Patience: 30 * time.Second, Kafka: true}})
		if advice == Reconnect {
			w.Reconnected(now, stuck)
		}
		now = now.Add(time.Minute)
		return advice
	}
	var got []Advice
	for _, busy := range []bool{true, true, false, true, true} {
		got = append(got, look(busy))
	}
	want := []Advice{Wait, Reconnect, Wait, Reconnect, GiveUp}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
