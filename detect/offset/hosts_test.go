package offset_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/keysentry/keysentry/detect/offset"
)

// TestErrorOverManyHosts: the bar of the estimator, over hosts with offsets of up to
// ten minutes either way, drifts, and constant delays of 0 to 120 s. After 200 events
// the error is at most 1 s or 5 %: of records that carry sent_at for every clock, of
// others with an anchor, and without one the figure is a lower bound. It prints what
// it saw.
func TestErrorOverManyHosts(t *testing.T) {
	t.Parallel()
	type figures struct {
		hosts, over int
		errs        []float64 // seconds
	}
	kinds := []string{"shipped", "direct, anchored", "direct, no anchor"}
	seen := map[string]*figures{}
	for _, kind := range kinds {
		seen[kind] = &figures{}
	}
	rng := rand.New(rand.NewPCG(20261201, 5))
	for i := range 1500 {
		kind := kinds[i%3]
		h := host{name: fmt.Sprint("h", i), fast: time.Duration(rng.Int64N(int64(20*time.Minute))) - 10*time.Minute, drift: rng.NormFloat64() * 2,
			delay: time.Duration(rng.Int64N(int64(120 * time.Second))), jitter: time.Duration(1 + rng.Int64N(int64(500*time.Millisecond))),
			sent: kind == "shipped", linger: time.Duration(rng.Int64N(int64(100 * time.Millisecond)))}
		every := time.Duration(1+rng.Int64N(10)) * time.Second
		est, truth := estimateOf(h, 200, every, kind == "direct, anchored", rng)
		f := seen[kind]
		f.hosts++
		off := (est.Offset - truth).Seconds()
		if kind == "direct, no anchor" {
			// x - d is what the records prove; more is not known.
			if off > 0.2 {
				t.Errorf("%s: %v is more than the truth %v, which no delay can do", h.name, est.Offset, truth)
			}
			if est.Offset < 0 && (est.Confident || !est.SlowOrDelayed) {
				t.Errorf("%s: claims to know a slow clock from a delay: %+v", h.name, est)
			}
			off += h.delay.Seconds()
		}
		f.errs = append(f.errs, math.Abs(off))
		if math.Abs(off) > math.Max(1, 0.05*math.Abs(truth.Seconds())) {
			f.over++
			t.Errorf("%s, %s: offset %v +- %v, truth %v (delay %v, drift %.1f s/h, one record each %v)", kind, h.name, est.Offset, est.Error, truth, h.delay, h.drift, every)
		}
		if kind == "shipped" && truth > 0 && truth.Seconds() > 2 && !est.Confident {
			t.Errorf("%s: fast by %v and not confident: %+v", h.name, truth, est)
		}
	}
	for _, kind := range kinds {
		f := seen[kind]
		slices.Sort(f.errs)
		what := ""
		if kind == "direct, no anchor" {
			what = " (of offset minus delay)"
		}
		t.Logf("%-18s %d hosts, 200 events each: error%s median %.3f s, 95th percentile %.3f s, worst %.3f s; over the bar %d", kind, f.hosts, what,
			f.errs[len(f.errs)/2], f.errs[len(f.errs)*95/100], f.errs[len(f.errs)-1], f.over)
	}
}

// estimateOf feeds n records and says what is estimated and what is true by the end.
func estimateOf(h host, n int, every time.Duration, anchored bool, rng *rand.Rand) (est offset.Estimate, truth time.Duration) {
	e := offset.New(0)
	for i := range n {
		truth = h.fast + time.Duration(h.drift*float64(time.Duration(i)*every)/float64(time.Hour)*1e9)
		r := h.at(i, every, rng)
		e.Observe(&r)
		if anchored && i%10 == 0 {
			b := heartbeat(h.at(i, every, rng), truth)
			e.Observe(&b)
		}
	}
	est, _ = e.Estimate(h.name)
	return est, truth
}

// TestDriftIsFollowed: half an hour behind, a clock that gains two minutes an hour
// would be a minute off.
func TestDriftIsFollowed(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 9))
	for _, drift := range []float64{-40, -6, 6, 120} {
		h := host{name: "h", fast: 90 * time.Second, drift: drift, jitter: 300 * time.Millisecond, sent: true, linger: 20 * time.Millisecond}
		got, truth := estimateOf(h, 3600, time.Second, false, rng)
		if (got.Offset-truth).Abs() > 2*time.Second+time.Duration(math.Abs(drift)/30*1e9) || math.Abs(got.Slope-drift) > math.Max(0.5, 0.05*math.Abs(drift)) {
			t.Errorf("drift %v s/h: %v, drifting %.2f +- %.2f; truth %v", drift, got.Offset, got.Slope, got.SlopeError, truth)
		}
	}
}

// TestSteps: a clock that jumps ahead is believed after three minutes. Records that
// are suddenly late do not make it look slower.
func TestSteps(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 9))
	est := offset.New(0)
	right, ahead := host{name: "h", jitter: 100 * time.Millisecond}, host{name: "h", fast: 300 * time.Second, jitter: 100 * time.Millisecond}
	for i := range 3600 {
		r := right.at(i, time.Second, rng)
		if i >= 3000 {
			r = ahead.at(i, time.Second, rng)
		}
		est.Observe(&r)
		got, _ := est.Estimate("h")
		switch {
		case i > 60 && i < 3000 && got.Confident:
			t.Fatalf("second %d: %+v", i, got)
		case i >= 3000+4*60 && ((got.Offset-300*time.Second).Abs() > time.Second || !got.Confident):
			t.Fatalf("second %d: %+v, want 300 s", i, got)
		}
	}
	late := host{name: "h", fast: 300 * time.Second, delay: 90 * time.Second, jitter: 100 * time.Millisecond}
	for i := 3600; i < 7200; i++ { // the hour that is remembered is fast by now
		r := ahead.at(i, time.Second, rng)
		est.Observe(&r)
	}
	for i := 7200; i < 7200+15*60; i++ {
		r := late.at(i, time.Second, rng)
		est.Observe(&r)
	}
	if got, _ := est.Estimate("h"); got.Offset > 301*time.Second || got.Offset < 209*time.Second {
		t.Errorf("%+v", got)
	}
}

func TestReaches(t *testing.T) {
	t.Parallel()
	s := time.Second
	for name, tc := range map[string]struct {
		e    offset.Estimate
		in   time.Duration
		want bool
	}{
		"far off already":           {offset.Estimate{Offset: 70 * s, Error: 2 * s, Confident: true}, 0, true},
		"perhaps, within its error": {offset.Estimate{Offset: 61 * s, Error: 4 * s, Confident: true}, 0, false},
		"in ten hours":              {offset.Estimate{Offset: 50 * s, Error: s, Slope: 1, SlopeError: 0.1, Confident: true, Minutes: 60}, 10 * time.Hour, true},
		"after a few minutes":       {offset.Estimate{Offset: 50 * s, Error: s, Slope: 1, SlopeError: 0.1, Confident: true, Minutes: 5}, 0, false},
		"delays that shrink":        {offset.Estimate{Offset: 0, Error: s, Slope: 6, SlopeError: 0.1, Minutes: 60}, 0, false},
		"drift within its error":    {offset.Estimate{Offset: 50 * s, Error: s, Slope: 1, SlopeError: 0.6, Confident: true, Minutes: 60}, 0, false},
		"it comes back":             {offset.Estimate{Offset: 50 * s, Error: s, Slope: -1, SlopeError: 0.1, Confident: true, Minutes: 60}, 0, false},
		"slow, anchored":            {offset.Estimate{Offset: -50 * s, Error: s, Slope: -1, SlopeError: 0.1, Confident: true, Anchored: true, Minutes: 60}, 10 * time.Hour, true},
		"hardly slow, and delayed":  {offset.Estimate{Offset: -2 * s, Error: s, Slope: -9, SlopeError: 0.1, Confident: true, Anchored: true, Minutes: 60}, 0, false},
		"slow, or delayed":          {offset.Estimate{Offset: -500 * s, Error: s, Slope: -9, SlowOrDelayed: true, Minutes: 60}, 0, false},
		"nothing is known":          {offset.Estimate{}, 0, false},
	} {
		if in, ok := tc.e.Reaches(60 * s); ok != tc.want || (in-tc.in).Abs() > time.Minute {
			t.Errorf("%s: in %v, %v; want in %v, %v", name, in, ok, tc.in, tc.want)
		}
	}
}
