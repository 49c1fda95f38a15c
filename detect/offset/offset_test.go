package offset_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
)

var start = event.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

// host simulates one host's records.
type host struct {
	name   string
	fast   time.Duration // its clock is ahead by this
	drift  float64       // and gains this many seconds per hour
	delay  time.Duration // from happening to append
	jitter time.Duration // more delay, drawn evenly
	sent   bool          // records carry sent_at, stamped when they leave
	linger time.Duration // from leaving to append, when sent
}

func (h host) at(i int, every time.Duration, rng *rand.Rand) event.Event {
	var e event.Event
	appended := start.Add(time.Duration(i) * every)
	truth := h.fast + time.Duration(h.drift*float64(time.Duration(i)*every)/float64(time.Hour)*1e9)
	delay := h.delay
	if h.jitter > 0 {
		delay += time.Duration(rng.Int64N(int64(h.jitter)))
	}
	e.SetString(event.FieldHost, h.name)
	e.ObservedAt = appended
	e.SetInstant(event.FieldTime, appended.Add(truth-delay))
	if h.sent {
		e.SetInstant(event.FieldSentAt, appended.Add(truth-h.linger))
	}
	return e
}

// heartbeat makes e a heartbeat that knows its own offset.
func heartbeat(e event.Event, off time.Duration) event.Event {
	e.Type = event.TypeHeartbeat
	e.ClockOffset, e.ClockError = off.Seconds(), 0.01
	e.Present = e.Present.Set(event.FieldClockOffset).Set(event.FieldClockError)
	return e
}

// feed gives n records to a new Estimator and returns the host's estimate.
func feed(h host, n int, every time.Duration, anchored bool) offset.Estimate {
	rng := rand.New(rand.NewPCG(1, 2))
	est := offset.New(0)
	for i := range n {
		e := h.at(i, every, rng)
		est.Observe(&e)
		if anchored && i%20 == 0 {
			b := heartbeat(h.at(i, every, rng), h.fast)
			est.Observe(&b)
		}
	}
	got, _ := est.Estimate(h.name)
	return got
}

func TestEstimateWithin200Events(t *testing.T) {
	t.Parallel()
	for _, fast := range []time.Duration{0, 2 * time.Second, 30 * time.Second, 312 * time.Second, -45 * time.Second} {
		for _, delay := range []time.Duration{0, time.Second, 30 * time.Second, 120 * time.Second} {
			for _, shipped := range []bool{false, true} {
				for _, anchored := range []bool{false, true} {
					name := fmt.Sprintf("fast %v delay %v shipped %v anchored %v", fast, delay, shipped, anchored)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						h := host{name: "h", fast: fast, delay: delay, jitter: 300 * time.Millisecond, sent: shipped, linger: 20 * time.Millisecond}
						got := feed(h, 200, 2*time.Second, anchored)
						known := anchored || fast > 0 && (shipped || delay == 0)
						limit := max(time.Second, time.Duration(0.05*math.Abs(float64(fast))))
						if known && (got.Offset-fast).Abs() > limit {
							t.Errorf("offset %v, want %v within %v", got.Offset, fast, limit)
						}
						if known && fast.Abs() >= 2*time.Second && !got.Confident {
							t.Errorf("not confident: %+v", got)
						}
						if !anchored && got.Offset > fast {
							t.Errorf("offset %v is more than the truth %v, which no delay can do", got.Offset, fast)
						}
						if !anchored && got.Offset < 0 && (got.Confident || !got.SlowOrDelayed) {
							t.Errorf("claims to know a slow clock from a delay: %+v", got)
						}
						if fast == 0 && got.Confident {
							t.Errorf("a right clock is corrected: %+v", got)
						}
					})
				}
			}
		}
	}
}

func TestSlope(t *testing.T) {
	t.Parallel()
	got := feed(host{name: "h", fast: 10 * time.Second, drift: 7.2, jitter: 50 * time.Millisecond}, 3000, time.Second, false)
	if math.Abs(got.Slope-7.2) > 0.5 {
		t.Errorf("slope %v s/h, want 7.2", got.Slope)
	}
}

// TestBatchingDoesNotLookSlow: records of a fast host that are shipped every few
// seconds come in bursts; the largest differences still tell.
func TestBatchingDoesNotLookSlow(t *testing.T) {
	t.Parallel()
	got := feed(host{name: "h", fast: 60 * time.Second, jitter: 10 * time.Second}, 600, time.Second, false)
	if (got.Offset-60*time.Second).Abs() > time.Second || !got.Confident {
		t.Errorf("got %+v, want 60 s", got)
	}
}

func TestFewWildRecordsMoveNothing(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	est := offset.New(0)
	h := host{name: "h", fast: 20 * time.Second, jitter: 100 * time.Millisecond}
	for i := range 1200 {
		e := h.at(i, time.Second, rng)
		if i%40 == 0 {
			e.SetInstant(event.FieldTime, e.Time.Add(24*time.Hour))
		}
		est.Observe(&e)
	}
	got, _ := est.Estimate("h")
	if (got.Offset - 20*time.Second).Abs() > time.Second {
		t.Errorf("got %v, want 20 s", got.Offset)
	}
}

func TestAnchorThatTheRecordsDisprove(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	est := offset.New(0)
	h := host{name: "h", fast: 300 * time.Second}
	for i := range 300 {
		e := heartbeat(h.at(i, time.Second, rng), 0) // says its clock is right
		est.Observe(&e)
	}
	got, _ := est.Estimate("h")
	if got.Anchored || (got.Offset-300*time.Second).Abs() > time.Second || !got.Confident {
		t.Errorf("got %+v: a record cannot be appended before it was sent", got)
	}
}

func TestAnchorAges(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	est := offset.New(0)
	h := host{name: "h", fast: -30 * time.Second}
	for i := range 1800 {
		e := h.at(i, time.Second, rng)
		if i == 0 {
			e = heartbeat(e, h.fast)
		}
		est.Observe(&e)
		got, ok := est.Estimate("h")
		if want := i < 840; ok && got.Anchored != want && (i < 780 || i > 1020) {
			t.Fatalf("after %d s anchored is %v", i, got.Anchored)
		}
	}
}

func TestNothingIsSaidBeforeAMinuteCloses(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 8))
	est := offset.New(0)
	h := host{name: "h", fast: 100 * time.Second}
	for i := range 60 {
		e := h.at(i, time.Second, rng)
		if got := est.Observe(&e); got != (offset.Estimate{}) {
			t.Fatalf("record %d: %+v", i, got)
		}
	}
	if _, ok := est.Estimate("h"); ok {
		t.Error("an estimate within the first minute")
	}
	e := h.at(60, time.Second, rng)
	if got := est.Observe(&e); !got.Confident {
		t.Errorf("after the first minute: %+v", got)
	}
}

func TestRecordsWithoutHostOrTimeAreIgnored(t *testing.T) {
	t.Parallel()
	est := offset.New(0)
	for _, e := range []event.Event{{ObservedAt: start, Time: start}, {Host: "h", Time: start}, {Host: "h", ObservedAt: start}} {
		if got := est.Observe(&e); got != (offset.Estimate{}) || est.Hosts() != 0 {
			t.Errorf("%+v: %+v, %d hosts", e, got, est.Hosts())
		}
	}
}

func TestHostsAreBounded(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(9, 9))
	est := offset.New(10)
	for i := range 100 {
		e := host{name: fmt.Sprint("h", i)}.at(i, time.Second, rng)
		est.Observe(&e)
		kept := host{name: "h0"}.at(i, time.Second, rng)
		est.Observe(&kept)
	}
	if est.Hosts() != 10 || est.Evicted() != 90 {
		t.Errorf("%d hosts, %d evicted, want 10 and 90", est.Hosts(), est.Evicted())
	}
	if _, ok := est.Estimate("h0"); !ok {
		t.Error("the host that speaks most was forgotten")
	}
}

// TestRestoreGoesOnAlike cuts a stream at every place: a restored Estimator says
// exactly what the first one goes on to say.
func TestRestoreGoesOnAlike(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(11, 12))
	var records []event.Event
	for i := range 2000 {
		h := host{name: fmt.Sprint("h", i%7), fast: time.Duration(i%7) * time.Second, jitter: 2 * time.Second, sent: i%3 == 0}
		e := h.at(i, 200*time.Millisecond, rng)
		if i%90 == 0 {
			e = heartbeat(e, h.fast)
		}
		records = append(records, e)
	}
	for _, cut := range []int{0, 1, 137, 299, 300, 301, 1024, 1999} {
		first := offset.New(5)
		for i := range cut {
			first.Observe(&records[i])
		}
		text, err := json.Marshal(first.Snapshot(int64(cut)))
		if err != nil {
			t.Fatal(err)
		}
		var s offset.Snapshot
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		second := offset.Restore(s, 5)
		for i := cut; i < len(records); i++ {
			a, b := first.Observe(&records[i]), second.Observe(&records[i])
			if a != b {
				t.Fatalf("cut at %d, record %d: %+v, restored %+v", cut, i, a, b)
			}
		}
		if d := cmp.Diff(first.Snapshot(9), second.Snapshot(9)); d != "" {
			t.Errorf("cut at %d: %s", cut, d)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	est := offset.New(0)
	var records []event.Event
	for i := range 20_000 {
		records = append(records, host{name: fmt.Sprint("h", i%200), jitter: time.Second}.at(i, time.Millisecond, rng))
	}
	b.Run("200_hosts", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			est.Observe(&records[i%len(records)])
			i++
		}
	})
}
