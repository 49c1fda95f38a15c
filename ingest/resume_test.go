package ingest

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

// TestWindowsReachBackFromWhereDetectionStood: after a long outage the windows
// end where detection had got, not at the reader's now.
func TestWindowsReachBackFromWhereDetectionStood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		w := newWorld(11, p)
		start := event.At(time.Now())
		for o := range int64(600) {
			w.log[p] = append(w.log[p], goodRecord(o, start.Add(time.Duration(o)*time.Second)))
			w.stored[p][o] = 1
			w.findings[findingID(p, o)] = 1
		}
		w.committed[p], w.detected[p] = 500, 500
		time.Sleep(3 * 24 * time.Hour)
		d := startDaemon(t, w, 0)
		d.settle(t)
		d.stop(t)
		if d.det.replayed < 60 || d.det.replayed > 61 {
			t.Errorf("%d events were replayed, want those of the last minute before 500", d.det.replayed)
		}
		w.verify(t)
	})
}

// tickOnce finds something the first time that the clock is let pass, as a window
// that closes does.
type tickOnce struct {
	*fakeDetector
	told bool
}

func (d *tickOnce) Tick(event.Instant) []finding.Finding {
	if d.told {
		return nil
	}
	d.told = true
	return []finding.Finding{{ID: "absence"}}
}

// stuckSink takes nothing until it is let.
type stuckSink struct {
	*world
	open atomic.Bool
}

func (s *stuckSink) Deliver(ctx context.Context, found []finding.Finding, p event.Partition, position int64) error {
	if !s.open.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.world.Deliver(ctx, found, p, position)
}

func (s *stuckSink) Journal(ctx context.Context, found []finding.Finding) error {
	return s.Deliver(ctx, found, event.Partition{}, 0)
}

// TestFindingOfTheClockSurvivesARebalance: detection tells it once, so ingest has
// to keep it while nobody takes it.
func TestFindingOfTheClockSurvivesARebalance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(12, testParts[0])
		sink, det := &stuckSink{world: w}, &tickOnce{fakeDetector: newFakeDetector(w)}
		writer := newFakeWriter(w, 0)
		p, err := New(DefaultConfig(), Deps{Source: w, Writer: writer, Detector: det, Sink: sink, Decoder: newTestDecoder(t)})
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{p: p, writer: writer, det: det.fakeDetector, w: w}
		d.run(false)
		time.Sleep(5 * time.Second)
		d.end(t)
		sink.open.Store(true)
		d.run(true)
		time.Sleep(5 * time.Second)
		d.stop(t)
		if w.findings["absence"] != 1 {
			t.Errorf("the finding came %d times, want once", w.findings["absence"])
		}
	})
}

// TestRejectsAreTheSameWhenReadAgain: storage knows a row by its coordinates and
// its time, so that the time must not be the reader's.
func TestRejectsAreTheSameWhenReadAgain(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(t)
	decode := func(now event.Instant) []Reject {
		f := &Fetched{Next: 9, Unreadable: []Unreadable{{From: 0, To: 5, Reason: "bad CRC"}}, Records: []Record{
			{Offset: 5, Time: testNow.Add(-40 * 366 * 24 * time.Hour), Value: []byte("{")},
			{Offset: 6, Time: testNow.Add(48 * time.Hour), Value: []byte("{")},
			{Offset: 7, Value: []byte("{")},
			{Offset: 8, Time: testNow, Value: []byte("{")}}}
		b, err := d.Decode(testPart, f, 0, NewClock(0), now)
		if err != nil {
			t.Fatal(err)
		}
		return b.Rejects
	}
	first := decode(testNow)
	if len(first) != 5 || first[4].ObservedAt != testNow {
		t.Fatalf("got %+v", first)
	}
	if diff := cmp.Diff(first, decode(testNow.Add(time.Hour))); diff != "" {
		t.Errorf("an hour later (-first +again):\n%s", diff)
	}
}

// slowReread holds what storage reads from offset 0, once detection is live.
type slowReread struct {
	*world
	pipeline *Pipeline
	release  chan struct{}
}

func (s *slowReread) Fetch(ctx context.Context, p event.Partition, from int64) (*Fetched, error) {
	if from == 0 && s.pipeline.Status()[0].Ready {
		select {
		case <-s.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.world.Fetch(ctx, p, from)
}

// TestRetentionSparesWhatIsQueued: storage reads up to where detection began and
// finds that gone; what detection has read since lies in the queue and is stored,
// though the log begins behind it.
func TestRetentionSparesWhatIsQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		part := testParts[0]
		w := newWorld(13, part)
		w.produce(part, 1)
		w.committed[part], w.detected[part] = 0, 1
		w.gaps[part] = [][2]int64{{0, 1}}
		source := &slowReread{world: w, release: make(chan struct{})}
		writer, det, reg := newFakeWriter(w, 0), newFakeDetector(w), metrics.New()
		p, err := New(DefaultConfig(), Deps{Source: source, Writer: writer, Detector: det, Sink: w, Decoder: newTestDecoder(t), Metrics: reg})
		if err != nil {
			t.Fatal(err)
		}
		source.pipeline = p
		d := &daemon{p: p, writer: writer, det: det, w: w}
		d.run(false)
		time.Sleep(time.Second)
		w.produce(part, 2)
		time.Sleep(time.Second)
		w.mu.Lock()
		w.logStart[part] = 3
		w.mu.Unlock()
		close(source.release)
		d.settle(t)
		d.stop(t)
		if w.stored[part][1] != 1 || w.stored[part][2] != 1 {
			t.Errorf("stored %v, want offsets 1 and 2", w.stored[part])
		}
		if n, _ := counted(t, reg, "lost_offsets_total", readerStore); n != 1 {
			t.Errorf("%v offsets lost to storage, want 1: the writer leaves out what lies below a gap", n)
		}
	})
}
