package ingest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
)

// fillCase is a partition of 600 records, one a second, and what a daemon does
// that begins there. Times are seconds after the first record.
type fillCase struct {
	name                          string
	committed, detected, logStart int64
	lookback                      time.Duration
	max                           int64 // replay_max_events; 0: the default
	unfilled                      bool  // the detector takes nothing from the store

	below, from, end, next float64 // of the position; -1: no time
	replayed               int64   // from this offset on; -1: nothing is
	missing                float64 // -1: nothing is
}

func fillCases() []fillCase {
	const week = 7 * 24 * time.Hour
	return []fillCase{
		{name: "stored as far as detected", committed: 500, detected: 500, lookback: week, below: 439, from: 439, end: 499, next: 500, replayed: 439, missing: -1},
		{name: "storage is behind", committed: 300, detected: 500, lookback: week, below: 300, from: 300, end: 499, next: 500, replayed: 300, missing: -1},
		{name: "storage is ahead", committed: 580, detected: 500, lookback: week, below: 439, from: 439, end: 499, next: 500, replayed: 439, missing: -1},
		{name: "storage is too far behind", committed: 300, detected: 500, lookback: week, max: 50, below: 450, from: 450, end: 499, next: 500, replayed: 450, missing: 450},
		{name: "at most half is for the registries", committed: 500, detected: 500, lookback: week, max: 50, below: 475, from: 475, end: 499, next: 500, replayed: 475, missing: -1},
		{name: "retention has what is stored", committed: 500, detected: 500, logStart: 500, lookback: week, below: 500, from: 500, end: 600, next: 500, replayed: -1, missing: -1},
		{name: "read to its end", committed: 600, detected: 600, lookback: week, below: 539, from: 539, end: 599, next: -1, replayed: 539, missing: -1},
		{name: "new", committed: -1, detected: -1, lookback: week, below: 0, from: 0, end: -1, next: 0, replayed: -1, missing: -1},
		{name: "new, and its beginning is gone", committed: -1, detected: -1, logStart: 100, lookback: week, below: 100, from: 100, end: 600, next: 100, replayed: -1, missing: 100},
		{name: "not filled", unfilled: true, committed: 500, detected: 500, lookback: 3 * time.Minute, below: 439, from: 439, end: 499, next: 500, replayed: 319, missing: -1},
		{name: "not filled, all of it", unfilled: true, committed: 500, detected: 500, lookback: week, below: 439, from: 439, end: 499, next: 500, replayed: 0, missing: -1},
		{name: "not filled, and bounded", unfilled: true, committed: 500, detected: 500, lookback: week, max: 100, below: 450, from: 450, end: 499, next: 500, replayed: 400, missing: 400},
		{name: "not filled, and its beginning is gone", unfilled: true, committed: 500, detected: 500, logStart: 250, lookback: week, below: 439, from: 439, end: 499, next: 500, replayed: 250, missing: 250},
	}
}

// TestWhereWindowsAreFilledFrom: every record comes from one place, and what comes
// from none is told.
func TestWhereWindowsAreFilledFrom(t *testing.T) {
	t.Parallel()
	for _, tc := range fillCases() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { checkFill(t, tc) })
		})
	}
}

func checkFill(t *testing.T, tc fillCase) {
	p := testParts[0]
	w := newWorld(21, p)
	start := event.At(time.Now())
	at := func(s float64) event.Instant {
		if s < 0 {
			return 0
		}
		return start.Add(time.Duration(s * float64(time.Second)))
	}
	for o := range int64(600) {
		w.log[p] = append(w.log[p], goodRecord(o, at(float64(o))))
		w.stored[p][o] = 1
		w.findings[findingID(p, o)] = 1
	}
	w.committed[p], w.logStart[p] = tc.committed, tc.logStart
	if tc.detected >= 0 {
		w.detected[p] = tc.detected
	}
	time.Sleep(600 * time.Second)
	cfg := DefaultConfig()
	if tc.max > 0 {
		cfg.ReplayMaxEvents = tc.max
	}
	det, writer := newFakeDetector(w), newFakeWriter(w, 0)
	det.lookback = tc.lookback
	if !tc.unfilled {
		det.fill = func(context.Context, []event.Standing) ([]event.Standing, error) { return nil, nil }
	}
	pipe, err := New(cfg, Deps{Source: w, Writer: writer, Detector: det, Sink: w, Decoder: newTestDecoder(t)})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{p: pipe, writer: writer, det: det, w: w}
	d.run(false)
	time.Sleep(20 * time.Second)
	d.end(t)
	d.run(true) // a rebalance fills nothing again
	time.Sleep(5 * time.Second)
	d.stop(t)

	want := [][]event.Standing{{{Partition: p, Below: int64(tc.below), From: at(tc.from), End: at(tc.end), Next: at(tc.next)}}}
	if diff := cmp.Diff(want, det.asked); diff != "" {
		t.Errorf("positions (-want +got):\n%s", diff)
	}
	from, replayed := det.from[p]
	if replayed != (tc.replayed >= 0) || replayed && from != tc.replayed {
		t.Errorf("replayed %v from %d, want from %d", replayed, from, tc.replayed)
	}
	if got := det.missing[p]; got != at(tc.missing) {
		t.Errorf("missing before %v, want %v", got, at(tc.missing))
	}
	for _, f := range w.faults {
		if tc.committed >= 0 {
			t.Error(f)
		}
	}
}

// TestFillEnds: a store that does not answer keeps nobody waiting for longer than
// fill_timeout, and a stop in the middle is not followed by a second filling.
func TestFillEnds(t *testing.T) {
	t.Parallel()
	for _, stopped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(22, testParts...)
			for _, p := range testParts {
				w.produce(p, 50)
			}
			det, writer := newFakeDetector(w), newFakeWriter(w, 0)
			det.fill = func(ctx context.Context, _ []event.Standing) ([]event.Standing, error) {
				<-ctx.Done()
				return nil, nil
			}
			pipe, err := New(DefaultConfig(), Deps{Source: w, Writer: writer, Detector: det, Sink: w, Decoder: newTestDecoder(t)})
			if err != nil {
				t.Fatal(err)
			}
			d := &daemon{p: pipe, writer: writer, det: det, w: w}
			d.run(false)
			if stopped {
				time.Sleep(time.Second)
				d.end(t)
				d.run(true)
			}
			time.Sleep(DefaultConfig().FillTimeout + 3*time.Second)
			for _, s := range pipe.Status() {
				if !s.Ready || s.Live != 50 {
					t.Errorf("%+v", s)
				}
			}
			d.stop(t)
			if len(det.asked) != 1 || len(det.asked[0]) != len(testParts) {
				t.Errorf("asked %d times: %v", len(det.asked), det.asked)
			}
		})
	}
}

// TestSlowReplayLeavesOutItsMiddle: detection is live ten seconds after the
// assignment, however long it would take to read everything again.
func TestSlowReplayLeavesOutItsMiddle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(23, testParts...)
		start := event.At(time.Now())
		for i, p := range testParts {
			for o := range int64(600) {
				w.log[p] = append(w.log[p], goodRecord(o, start.Add(time.Duration(o)*time.Second)))
				w.stored[p][o] = 1
				w.findings[findingID(p, o)] = 1
			}
			w.committed[p], w.detected[p] = 600, 600
			if i == 1 {
				w.detected[p] = 5 // little to read again
			}
		}
		time.Sleep(600 * time.Second)
		det, writer := newFakeDetector(w), newFakeWriter(w, 0)
		det.lookback, det.pace = time.Hour, 100*time.Millisecond
		pipe, err := New(DefaultConfig(), Deps{Source: w, Writer: writer, Detector: det, Sink: w, Decoder: newTestDecoder(t)})
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{p: pipe, writer: writer, det: det, w: w}
		began := time.Now()
		d.run(false)
		ready := func() bool {
			st := pipe.Status()
			return len(st) == 2 && st[0].Ready && st[1].Ready
		}
		for !ready() {
			if time.Sleep(100 * time.Millisecond); time.Since(began) > time.Minute {
				t.Fatal("not ready after a minute")
			}
		}
		// One fetch of up to 40 records may have been under way, and half a second of
		// records is still read.
		if took := time.Since(began); took > liveWithin+5*time.Second {
			t.Errorf("live after %v", took)
		}
		d.stop(t)
		missing := det.missing[testParts[0]]
		if missing <= start.Add(100*time.Second) || missing >= start.Add(600*time.Second) {
			t.Errorf("missing before %v, want a time in the middle", missing)
		}
		if got := det.missing[testParts[1]]; got != 0 {
			t.Errorf("of the other partition missing before %v", got)
		}
		for _, f := range w.faults {
			t.Error(f)
		}
	})
}
