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

// result is what a run gave.
type result struct {
	lines  []byte // the events as canonical lines
	labels []simulate.Label
}

func run(t testing.TB, o simulate.Options, each func(*event.Event, simulate.Truth)) result {
	t.Helper()
	var r result
	err := simulate.Generate(o, func(e *event.Event, truth simulate.Truth) error {
		if each != nil {
			each(e, truth)
		} else {
			r.lines = append(event.Append(r.lines, e), '\n')
		}
		return nil
	}, func(l simulate.Label) error { r.labels = append(r.labels, l); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lines numbers the events of each process of a host.
type lines map[[2]string]uint64

// checker holds what is true of every event.
type checker struct {
	t     *testing.T
	ids   map[string]bool
	seqs  lines
	last  event.Instant
	n     int
	first map[int]string // of each attack
	count map[int]int
}

func newChecker(t *testing.T) *checker {
	return &checker{t: t, ids: map[string]bool{}, seqs: lines{}, first: map[int]string{}, count: map[int]int{}}
}

func (c *checker) see(e *event.Event, truth simulate.Truth) {
	c.n++
	if err := e.Validate(); err != nil {
		c.t.Fatalf("event %s of type %s: %v", e.ID, e.Type, err)
	}
	if c.ids[e.ID] {
		c.t.Fatalf("id %s comes twice", e.ID)
	}
	c.ids[e.ID] = true
	if e.ObservedAt < c.last {
		c.t.Fatalf("event %s arrives at %s, after one that arrived at %s", e.ID, e.ObservedAt, c.last)
	}
	c.last = e.ObservedAt
	if e.Origin == event.OriginNone || e.SentAt < e.Time {
		c.t.Fatalf("event %s: origin %q, time %s, sent at %s", e.ID, e.Origin, e.Time, e.SentAt)
	}
	if e.Seq > 0 {
		who := [2]string{e.Host, e.Boot}
		if want := c.seqs[who] + 1; e.Seq != want {
			c.t.Fatalf("event %s of %v has seq %d, want %d", e.ID, who, e.Seq, want)
		}
		c.seqs[who] = e.Seq
	}
	if e.Refused() != (truth.Cause != event.CauseNone) {
		c.t.Fatalf("event %s of type %s: the true cause is %q", e.ID, e.Type, truth.Cause)
	}
	if truth.Attack >= 0 {
		if c.count[truth.Attack]++; c.count[truth.Attack] == 1 {
			c.first[truth.Attack] = e.ID
		}
	}
}

func (c *checker) labels(list []simulate.Label) {
	for _, l := range list {
		if l.Hostile != c.count[l.Index] || l.FirstID != c.first[l.Index] {
			c.t.Errorf("%s: %d hostile events of which the first is %q, the label says %d and %q", l.Scenario, c.count[l.Index], c.first[l.Index], l.Hostile, l.FirstID)
		}
		if l.Kind != "none" && (l.Field == "" || l.Value == "") {
			c.t.Errorf("%s: the label has no subject: %+v", l.Scenario, l)
		}
	}
}

func TestEveryScenario(t *testing.T) {
	t.Parallel()
	for _, s := range simulate.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			c := newChecker(t)
			r := run(t, opt(s.Name), c.see)
			c.labels(r.labels)
			if len(r.labels) != 1 || r.labels[0].Scenario != s.Name {
				t.Fatalf("labels %+v", r.labels)
			}
			if c.n < 40_000 || c.n > 90_000 {
				t.Errorf("%d events in 20 min at 50/s", c.n)
			}
			label := r.labels[0]
			if hostile := s.Name != simulate.Ordinary; hostile != (label.Hostile > 0) || hostile != (label.Kind != "none") {
				t.Errorf("label %+v", label)
			}
			out := run(t, opt(s.Name), nil).lines
			if size := len(out) / c.n; size < 380 || size > 480 {
				t.Errorf("an event has %d bytes on average, want about 440", size)
			}
			if again := run(t, opt(s.Name), nil).lines; !bytes.Equal(out, again) {
				t.Error("the same options gave other events")
			}
			o := opt(s.Name)
			o.Seed++
			if other := run(t, o, nil).lines; sha256.Sum256(other) == sha256.Sum256(out) {
				t.Error("another seed gave the same events")
			}
		})
	}
}

func TestFirstHostileEventIsTheFirst(t *testing.T) {
	t.Parallel()
	for scenario, hostile := range map[string]func(*event.Event) bool{
		"unauthorized-spike": func(e *event.Event) bool { return e.Type == event.TypeAuthTokenDenied },
		"retired-key":        func(e *event.Event) bool { return e.Type == event.TypeAuthTokenDenied },
		"key-theft":          func(e *event.Event) bool { return e.SourceIP.String() == "203.0.113.66" },
		"secure-mode-off":    func(e *event.Event) bool { return e.Type == event.TypeSecureModeDisabled },
	} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			var first string
			n := 0
			r := run(t, opt(scenario), func(e *event.Event, _ simulate.Truth) {
				if hostile(e) {
					if n++; n == 1 {
						first = e.ID
					}
				}
			})
			if l := r.labels[0]; first != l.FirstID || n != l.Hostile {
				t.Errorf("first %s of %d, the label says %s of %d", first, n, l.FirstID, l.Hostile)
			}
		})
	}
}

// month is a network of the size that detection is judged on, for as long as a
// test may take.
func month(seed uint64) simulate.Options {
	return simulate.Options{Seed: seed, Duration: 30 * 24 * time.Hour, Rate: 1, Hosts: 200, Users: 1_000_000, Heartbeat: 10 * time.Minute, Calendar: true}
}

// TestMonth: a month of ordinary life has every ordinary cause, at least 50 times,
// and every look-alike.
func TestMonth(t *testing.T) {
	t.Parallel()
	attacksOnly := map[event.Cause]bool{event.CauseRetiredKeyForeign: true, event.CauseSecureModeOff: true, event.CauseUnknown: true}
	for _, seed := range []uint64{4} {
		c := newChecker(t)
		causes, looks, revoked := map[event.Cause]int{}, map[string]int{}, 0
		r := run(t, month(seed), func(e *event.Event, truth simulate.Truth) {
			c.see(e, truth)
			causes[truth.Cause]++
			looks[truth.LookAlike]++
			if e.Type == event.TypeSessionRevoked && e.Origin == event.OriginKeysentry {
				revoked++
			}
		})
		c.labels(r.labels)
		if len(r.labels) != 1 || r.labels[0].Kind != "none" {
			t.Errorf("labels %+v", r.labels)
		}
		for _, cause := range event.Causes() {
			if n := causes[cause]; attacksOnly[cause] && n > 0 || !attacksOnly[cause] && n < 50 {
				t.Errorf("seed %d: %d events refused as %s", seed, n, cause)
			}
		}
		for _, look := range []string{simulate.LookAlikeDeploy, simulate.LookAlikeRotation, simulate.LookAlikeSweep, simulate.LookAlikeStorm, simulate.LookAlikePeak,
			simulate.LookAlikeNAT, simulate.LookAlikeJob, simulate.LookAlikeSleeper, simulate.LookAlikeClock, simulate.LookAlikeCert, simulate.LookAlikeRelease,
			simulate.LookAlikeKey, simulate.LookAlikeRegion, simulate.LookAlikeDevice} {
			if looks[look] == 0 {
				t.Errorf("seed %d: nothing looks like %s", seed, look)
			}
		}
		if revoked != 50_000 {
			t.Errorf("seed %d: the sweep revoked %d sessions, want 50000", seed, revoked)
		}
	}
}

// TestAllAttacks plays all of them in one run, for both visibilities.
func TestAllAttacks(t *testing.T) {
	t.Parallel()
	blind := map[string]bool{"enumeration": true, "infrastructure-key": true, "dormant-token": true, "stolen-admin-session": true,
		"integration-token": true, "thief-in-rotation": true, "first-day": true}
	for _, v := range simulate.Visibilities() {
		o := month(3)
		o.Duration, o.Scripts, o.Visibility = 12*24*time.Hour, simulate.Attacks(), v
		c := newChecker(t)
		seen := map[event.Origin]int{}
		r := run(t, o, func(e *event.Event, truth simulate.Truth) { c.see(e, truth); seen[e.Origin]++ })
		c.labels(r.labels)
		if len(r.labels) != len(o.Scripts) || len(r.labels) < 12 {
			t.Fatalf("%d labels of %d scenarios", len(r.labels), len(o.Scripts))
		}
		for i, l := range r.labels {
			hour := l.Began.Time().Hour()
			if l.Scenario == "off-schedule" && (hour < 5 || hour > 20) || l.Scenario == "stolen-admin-session" && hour < 19 {
				t.Errorf("%s began at %s", l.Scenario, l.Began)
			}
			if l.Index != i || (l.Hostile == 0) != (blind[l.Scenario] && v == simulate.VisibilityBackend) {
				t.Errorf("%s: %+v", v, l)
			}
		}
		if v == simulate.VisibilityBackend && seen[event.OriginGateway]+seen[event.OriginConsole]+seen[event.OriginPlatform] > 0 {
			t.Errorf("without platform events there are %v", seen)
		}
	}
}

func TestFaultyOptions(t *testing.T) {
	t.Parallel()
	none := func(*event.Event, simulate.Truth) error { return nil }
	for name, o := range map[string]simulate.Options{
		"no scenario":   {Scenario: "none", Duration: time.Second, Rate: 1},
		"bad moment":    {Scenario: "key-theft@later", Duration: time.Second, Rate: 1},
		"no duration":   {Scenario: "ordinary", Rate: 1},
		"no rate":       {Scenario: "ordinary", Duration: time.Second},
		"visibility":    {Duration: time.Second, Rate: 1, Visibility: "all"},
		"too many":      {Duration: time.Second, Rate: 1, Hosts: 1e6},
		"negative user": {Duration: time.Second, Rate: 1, Users: -1},
	} {
		if err := simulate.Generate(o, none, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := simulate.Describe(o); err == nil {
			t.Errorf("%s: it can be described", name)
		}
	}
	if err := simulate.Generate(simulate.Options{Scenario: "none", Duration: time.Second, Rate: 1}, none, nil); !errors.Is(err, simulate.ErrScenario) {
		t.Errorf("an unknown scenario: %v, want ErrScenario", err)
	}
	if err := simulate.Generate(opt("ordinary"), nil, nil); err == nil {
		t.Error("nobody takes the events, and no error")
	}
	full := errors.New("full")
	if err := simulate.Generate(opt("ordinary"), func(*event.Event, simulate.Truth) error { return full }, nil); !errors.Is(err, full) {
		t.Errorf("the error of emit is lost: %v", err)
	}
	if err := simulate.Generate(opt("ordinary"), none, func(simulate.Label) error { return full }); !errors.Is(err, full) {
		t.Errorf("the error of label is lost: %v", err)
	}
}

func TestMoments(t *testing.T) {
	t.Parallel()
	o := opt("")
	o.Scenarios = []string{"key-theft@25%", "unauthorized-spike@2m"}
	r := run(t, o, func(*event.Event, simulate.Truth) {})
	start := event.At(time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC))
	for i, want := range []time.Duration{5 * time.Minute, 2 * time.Minute} {
		if got := r.labels[i].Began.Sub(start); got != want {
			t.Errorf("%s began after %s, want %s", r.labels[i].Scenario, got, want)
		}
		if d := r.labels[i].First.Sub(start) - want; d < 0 || d > time.Second {
			t.Errorf("%s: the first hostile event comes %s after its beginning", r.labels[i].Scenario, d)
		}
	}
}

func BenchmarkGenerate(b *testing.B) {
	hour := func(s string) simulate.Options {
		return simulate.Options{Scenario: s, Seed: 1, Duration: time.Minute, Rate: 2000}
	}
	for _, c := range []struct {
		name string
		o    simulate.Options
	}{
		{"ordinary/append", hour("ordinary")},
		{"key-theft/append", hour("key-theft")},
		{"200_hosts_1000000_users_7_days/append", simulate.Options{Seed: 1, Duration: 7 * 24 * time.Hour, Rate: 2, Hosts: 200, Users: 1_000_000, Calendar: true, Scripts: simulate.Attacks()}},
	} {
		b.Run(c.name, func(b *testing.B) {
			events := 0
			var buf []byte
			for b.Loop() {
				err := simulate.Generate(c.o, func(e *event.Event, _ simulate.Truth) error {
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
	// unauthorized-spike
	// retired-key
	// clock-skew
	// key-theft
	// secure-mode-off
	// dormant-token
	// enumeration
	// first-day
	// forged-tokens
	// hijacked-session
	// infostealer
	// infrastructure-key
	// integration-token
	// off-schedule
	// published-secret
	// stolen-admin-session
	// thief-in-rotation
}
