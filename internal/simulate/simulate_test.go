package simulate_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/simulate"
)

func opt(scenario string) simulate.Options {
	return simulate.Options{Scenario: scenario, Seed: 7, Duration: 20 * time.Minute, Rate: 50}
}

// run generates and returns the events as canonical lines, and the label.
func run(t *testing.T, o simulate.Options, each func(*event.Event)) ([]byte, simulate.Label) {
	t.Helper()
	var out []byte
	var label simulate.Label
	labels := 0
	err := simulate.Generate(o, func(e *event.Event, _ simulate.Truth) error {
		if each != nil {
			each(e)
		}
		out = append(event.Append(out, e), '\n')
		return nil
	}, func(l simulate.Label) error { label = l; labels++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if labels != 1 || label.Scenario != o.Scenario {
		t.Errorf("%d labels, the last of scenario %q; want 1 of %q", labels, label.Scenario, o.Scenario)
	}
	return out, label
}

func TestEveryScenario(t *testing.T) {
	t.Parallel()
	for _, s := range simulate.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			ids := map[string]bool{}
			n, size := 0, 0
			var first event.Instant
			out, label := run(t, opt(s.Name), func(e *event.Event) {
				n++
				if err := e.Validate(); err != nil {
					t.Fatalf("event %s of type %s: %v", e.ID, e.Type, err)
				}
				if ids[e.ID] {
					t.Fatalf("id %s comes twice", e.ID)
				}
				ids[e.ID] = true
				if first == 0 {
					first = e.Time
				}
			})
			size = len(out) / n
			if n < 40_000 || n > 90_000 {
				t.Errorf("%d events in 20 min at 50/s", n)
			}
			if size < 340 || size > 440 {
				t.Errorf("an event has %d bytes on average, want about 400", size)
			}
			if hostile := s.Name != "ordinary"; hostile != (label.Hostile > 0) || hostile != (label.Kind != "none") {
				t.Errorf("label %+v", label)
			}
			if label.Hostile > 0 && !ids[label.FirstID] {
				t.Errorf("the first hostile event %q is not among the events", label.FirstID)
			}
			again, _ := run(t, opt(s.Name), nil)
			if !bytes.Equal(out, again) {
				t.Error("the same options gave other events")
			}
			o := opt(s.Name)
			o.Seed++
			if other, _ := run(t, o, nil); sha256.Sum256(other) == sha256.Sum256(out) {
				t.Error("another seed gave the same events")
			}
		})
	}
}

// TestLabels: the label tells of the first event that is marked, and of how many.
func TestLabels(t *testing.T) {
	t.Parallel()
	for _, s := range simulate.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			marked, refusedWithout := map[string]event.Instant{}, 0
			var label simulate.Label
			err := simulate.Generate(opt(s.Name), func(e *event.Event, truth simulate.Truth) error {
				if truth.Attack >= 0 {
					marked[e.ID] = e.ObservedAt
				}
				if e.Refused() != (truth.Cause != event.CauseNone) {
					refusedWithout++
				}
				return nil
			}, func(l simulate.Label) error { label = l; return nil })
			if err != nil {
				t.Fatal(err)
			}
			if len(marked) != label.Hostile || refusedWithout > 0 {
				t.Errorf("%d events are marked, the label says %d; the truth of %d events does not say why they were refused, or says it of others", len(marked), label.Hostile, refusedWithout)
			}
			if s.Name == simulate.Ordinary {
				return
			}
			if first, ok := marked[label.FirstID]; !ok || first < label.First || label.Value == "" {
				t.Errorf("label %+v", label)
			}
			for id, at := range marked {
				if at < label.First {
					t.Errorf("%s arrived at %s, before the first happened", id, at)
				}
			}
		})
	}
}

func TestFaultyOptions(t *testing.T) {
	t.Parallel()
	none := func(*event.Event, simulate.Truth) error { return nil }
	for name, o := range map[string]simulate.Options{
		"no scenario": {Scenario: "none", Duration: time.Second, Rate: 1},
		"no duration": {Scenario: "ordinary", Rate: 1},
		"no rate":     {Scenario: "ordinary", Duration: time.Second},
	} {
		if err := simulate.Generate(o, none, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := simulate.Generate(simulate.Options{Scenario: "none", Duration: time.Second, Rate: 1}, none, nil); !errors.Is(err, simulate.ErrScenario) {
		t.Errorf("an unknown scenario: %v, want ErrScenario", err)
	}
	full := errors.New("full")
	if err := simulate.Generate(opt("ordinary"), func(*event.Event, simulate.Truth) error { return full }, nil); !errors.Is(err, full) {
		t.Errorf("the error of emit is lost: %v", err)
	}
}

func BenchmarkGenerate(b *testing.B) {
	for _, s := range []string{"ordinary", "key-theft"} {
		b.Run(s+"/append", func(b *testing.B) {
			events := 0
			var buf []byte
			for b.Loop() {
				err := simulate.Generate(simulate.Options{Scenario: s, Seed: 1, Duration: time.Minute, Rate: 2000}, func(e *event.Event, _ simulate.Truth) error {
					events++
					buf = event.Append(buf[:0], e)
					return nil
				}, nil)
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func ExampleScenarios() {
	for _, s := range simulate.Scenarios() {
		fmt.Println(s.Name)
	}
	// Output:
	// ordinary
	// clock-skew
	// dormant-token
	// enumeration
	// first-day
	// forged-tokens
	// hijacked-session
	// infostealer
	// infrastructure-key
	// integration-token
	// key-theft
	// off-schedule
	// published-secret
	// retired-key
	// stolen-admin-session
	// thief-in-rotation
	// unauthorized-spike
}
