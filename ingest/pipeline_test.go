package ingest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

var testParts = []event.Partition{{Topic: "auth.events", ID: 0}, {Topic: "auth.events", ID: 1}}

// daemon is one life of the pipeline over a world.
type daemon struct {
	p      *Pipeline
	writer *fakeWriter
	det    *fakeDetector
	w      *world
	reg    *metrics.Registry
	cancel context.CancelFunc
	done   chan error
}

func startDaemon(t *testing.T, w *world, delay time.Duration) *daemon {
	t.Helper()
	d := &daemon{w: w, writer: newFakeWriter(w, delay), det: newFakeDetector(w), reg: metrics.New()}
	p, err := New(DefaultConfig(), Deps{Source: w, Writer: d.writer, Detector: d.det, Sink: w, Decoder: newTestDecoder(t), Metrics: d.reg})
	if err != nil {
		t.Fatal(err)
	}
	d.p = p
	d.run(false)
	return d
}

// run starts a generation.
func (d *daemon) run(resume bool) {
	d.w.mu.Lock()
	a := Assignment{Committed: maps.Clone(d.w.committed), Detected: maps.Clone(d.w.detected), Committer: d.w, Resume: resume}
	d.w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan error, 1)
	go func() { d.done <- d.p.Run(ctx, a) }()
}

// end ends the generation.
func (d *daemon) end(t *testing.T) {
	t.Helper()
	d.cancel()
	if err := <-d.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// crash ends the daemon without mercy: nothing is acknowledged any more.
func (d *daemon) crash(t *testing.T) {
	t.Helper()
	d.writer.set(false, true)
	d.end(t)
	d.writer.close()
}

func (d *daemon) stop(t *testing.T) {
	t.Helper()
	d.end(t)
	d.p.Close()
	d.writer.close()
}

// settle waits until all is stored and committed.
func (d *daemon) settle(t *testing.T) {
	t.Helper()
	for range 6000 {
		d.w.mu.Lock()
		finished := true
		for p, log := range d.w.log {
			finished = finished && d.w.committed[p] == int64(len(log)) && d.w.detected[p] == int64(len(log))
		}
		d.w.mu.Unlock()
		if finished {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("not settled: committed %v, detected %v, status %+v", d.w.committed, d.w.detected, d.p.Status())
}

// verify checks what must hold in the end.
func (w *world) verify(t *testing.T) {
	t.Helper()
	for p, log := range w.log {
		for o := range int64(len(log)) {
			if w.stored[p][o] == 0 && !w.missed(p, o) {
				t.Errorf("%v: offset %d is not stored", p, o)
			}
			if o%10 == 0 && o%17 != 3 && w.findings[findingID(p, o)] == 0 && !w.missed(p, o) {
				t.Errorf("%v: the finding of offset %d is missing", p, o)
			}
		}
	}
	for _, f := range w.faults {
		t.Error(f)
	}
}

func TestPipelineStoresAndFindsEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1, testParts...)
		w.produce(testParts[0], 500)
		d := startDaemon(t, w, time.Millisecond)
		w.produce(testParts[1], 300)
		time.Sleep(2 * time.Second)
		w.produce(testParts[0], 100)
		d.settle(t)
		for _, s := range d.p.Status() {
			if !s.Ready || s.Detached || s.Live != s.End || s.Stored != s.End {
				t.Errorf("status %+v", s)
			}
		}
		if d.det.again != 0 || d.det.replayed != 0 || d.det.assigns != 1 {
			t.Errorf("re-read %d, replayed %d, assigned %d times", d.det.again, d.det.replayed, d.det.assigns)
		}
		d.stop(t)
		for p, offsets := range w.stored {
			for o, n := range offsets {
				if n != 1 {
					t.Errorf("%v: offset %d was handed over %d times", p, o, n)
				}
			}
		}
		w.verify(t)
	})
}

func TestStoreDownDetectionGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2, testParts[0])
		w.produce(testParts[0], 200)
		d := startDaemon(t, w, time.Millisecond)
		d.settle(t)
		d.writer.set(true, false)
		for range 100 {
			w.produce(testParts[0], 100)
			time.Sleep(time.Second)
		}
		w.mu.Lock()
		committed, detected := w.committed[testParts[0]], w.detected[testParts[0]]
		w.mu.Unlock()
		if detected < 10_000 {
			t.Errorf("detection stands at %d of 10200 while the store is down", detected)
		}
		if committed > 200 {
			t.Errorf("committed %d while the store is down", committed)
		}
		if !d.p.Status()[0].Detached {
			t.Error("not detached")
		}
		d.writer.set(false, false)
		d.settle(t)
		w.produce(testParts[0], 50)
		d.settle(t)
		again := d.det.again
		if again == 0 {
			t.Error("nothing was read again")
		}
		if n, _ := counted(t, d.reg, "detaches_total"); n == 0 {
			t.Error("no detach was counted")
		}
		w.produce(testParts[0], 100)
		d.settle(t)
		if d.det.again != again || d.p.Status()[0].Detached {
			t.Error("storage did not join detection again")
		}
		d.stop(t)
		w.verify(t)
		for o, n := range w.stored[testParts[0]] {
			if n != 1 {
				t.Errorf("offset %d was handed over %d times", o, n)
			}
		}
	})
}

func TestSlowStoreCatchesUpUnderLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, testParts[0])
		w.maxFetch = 2000
		d := startDaemon(t, w, 20*time.Millisecond)
		w.produce(testParts[0], 60_000)
		d.writer.set(true, false)
		time.Sleep(10 * time.Second)
		d.writer.set(false, false)
		for range 300 { // a steady flow, while it catches up
			w.produce(testParts[0], 20)
			time.Sleep(50 * time.Millisecond)
		}
		if s := d.p.Status()[0]; s.Detached {
			t.Errorf("still detached under a steady flow: %+v", s)
		}
		d.settle(t)
		d.stop(t)
		w.verify(t)
	})
}

func TestRestartReplaysUpToDetected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(4, testParts[0])
		w.produce(testParts[0], 1000)
		time.Sleep(2 * time.Minute) // older than the lookback
		w.produce(testParts[0], 500)
		w.committed[testParts[0]], w.detected[testParts[0]] = 900, 1400
		for o := range int64(900) {
			w.stored[testParts[0]][o] = 1
		}
		for o := int64(0); o < 1400; o += 10 {
			w.findings[findingID(testParts[0], o)] = 1
		}
		d := startDaemon(t, w, time.Millisecond)
		d.settle(t)
		d.stop(t)
		if d.det.replayed == 0 || d.det.replayed > 400 {
			t.Errorf("%d events were replayed, want those of the last minute before 1400", d.det.replayed)
		}
		if d.det.again == 0 {
			t.Error("storage was behind detection, but read nothing again")
		}
		w.verify(t)
	})
}

func TestReplayIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5, testParts[0])
		w.produce(testParts[0], 1000)
		w.committed[testParts[0]], w.detected[testParts[0]] = -1, 1000
		writer := newFakeWriter(w, 0)
		det := newFakeDetector(w)
		cfg := DefaultConfig()
		cfg.ReplayMaxEvents = 100
		p, err := New(cfg, Deps{Source: w, Writer: writer, Detector: det, Sink: w, Decoder: newTestDecoder(t)})
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{p: p, writer: writer, det: det, w: w}
		d.run(false)
		d.settle(t)
		d.stop(t)
		if det.replayed > 100 || det.replayed < 90 {
			t.Errorf("%d events were replayed, want at most 100", det.replayed)
		}
	})
}

// TestHistoryIsReplayedByItsOwnTime: the windows of an import end where it was
// read up to, not at the reader's now.
func TestHistoryIsReplayedByItsOwnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		w := newWorld(10, p)
		old := event.At(time.Date(2015, 12, 10, 0, 0, 0, 0, time.UTC))
		for o := range int64(600) {
			w.log[p] = append(w.log[p], goodRecord(o, old.Add(time.Duration(o)*time.Second)))
			w.stored[p][o] = 1
			w.findings[findingID(p, o)] = 1
		}
		// Times of the bubble begin in 2000, so the reader's clock is set.
		later := func() time.Time { return old.Time().AddDate(5, 0, 0) }
		w.committed[p], w.detected[p] = 500, 500
		writer, det := newFakeWriter(w, 0), newFakeDetector(w)
		cfg := DefaultConfig()
		cfg.Topics[0].Observed = ObservedProducer
		pl, err := New(cfg, Deps{Source: w, Writer: writer, Detector: det, Sink: w, Decoder: newTestDecoder(t, cfg.Topics...), Now: later})
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{p: pl, writer: writer, det: det, w: w}
		d.run(false)
		d.settle(t)
		d.stop(t)
		if det.replayed < 60 || det.replayed > 61 {
			t.Errorf("%d events were replayed, want those of the last minute before 500", det.replayed)
		}
		w.verify(t)
	})
}

func TestRetentionGapIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		w := newWorld(6, p)
		w.produce(p, 1000)
		w.committed[p], w.detected[p], w.logStart[p] = 100, 300, 500
		w.gaps[p] = [][2]int64{{0, 500}}
		d := startDaemon(t, w, time.Millisecond)
		d.settle(t)
		d.stop(t)
		w.verify(t)
		now := event.At(time.Now())
		for _, f := range []string{gapFinding(p, 300, 500, readerLive, now).ID, gapFinding(p, 100, 500, readerStore, now).ID} {
			if w.findings[f] != 1 {
				t.Errorf("a gap was told %d times, want once", w.findings[f])
			}
		}
		if n, _ := counted(t, d.reg, "lost_offsets_total", readerLive); n != 200 {
			t.Errorf("%v offsets lost to detection, want 200", n)
		}
		if n, _ := counted(t, d.reg, "lost_offsets_total", readerStore); n != 400 {
			t.Errorf("%v offsets lost to storage, want 400", n)
		}
	})
}

// queueingSink takes every delivery into a queue that a crash forgets, as a journal
// does that nobody can write to; it makes findings durable once it is let.
type queueingSink struct {
	*world
	open chan struct{}
}

func (s *queueingSink) Deliver(ctx context.Context, _ []finding.Finding, p event.Partition, position int64) error {
	return s.world.Deliver(ctx, nil, p, position)
}

func (s *queueingSink) Journal(ctx context.Context, found []finding.Finding) error {
	select {
	case <-s.open:
		return s.world.Journal(ctx, found)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestNoCommitPassesAGapThatIsNotJournaled: a process that dies with the finding
// in its queue has to meet the gap again.
func TestNoCommitPassesAGapThatIsNotJournaled(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]struct{ committed, detected int64 }{
		"storage is behind":        {100, 1000},
		"detection is where it is": {100, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := testParts[0]
				w := newWorld(6, p)
				w.produce(p, 1000)
				w.committed[p], w.detected[p], w.logStart[p] = at.committed, at.detected, 500
				w.gaps[p] = [][2]int64{{0, 500}}
				sink := &queueingSink{world: w, open: make(chan struct{})}
				writer, det := newFakeWriter(w, 0), newFakeDetector(w)
				pl, err := New(DefaultConfig(), Deps{Source: w, Writer: writer, Detector: det, Sink: sink, Decoder: newTestDecoder(t), Metrics: metrics.New()})
				if err != nil {
					t.Fatal(err)
				}
				d := &daemon{p: pl, writer: writer, det: det, w: w}
				d.run(false)
				time.Sleep(time.Minute)
				w.mu.Lock()
				if got := w.committed[p]; got != at.committed {
					t.Errorf("offset %d is committed though the gap before it is not journaled", got)
				}
				w.mu.Unlock()
				close(sink.open)
				d.settle(t)
				d.stop(t)
				if got := w.committed[p]; got != 1000 {
					t.Errorf("committed %d in the end, want 1000", got)
				}
				if len(w.findings) == 0 {
					t.Error("the gap was not told")
				}
			})
		})
	}
}

func TestRecreatedTopicEndsTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(7, testParts[0])
		w.produce(testParts[0], 10)
		w.committed[testParts[0]] = 1000
		d := startDaemon(t, w, 0)
		err := <-d.done
		if err == nil || !strings.Contains(err.Error(), "made again") {
			t.Errorf("Run returned %v", err)
		}
		d.p.Close()
		d.writer.close()
	})
}

func TestResumeKeepsStateAndPositions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(8, testParts...)
		w.flaky = true
		d := startDaemon(t, w, 30*time.Millisecond)
		for range 20 {
			w.produce(testParts[0], 70)
			w.produce(testParts[1], 30)
			time.Sleep(time.Duration(w.roll(400)) * time.Millisecond)
			d.end(t)
			d.run(true)
		}
		d.settle(t)
		d.stop(t)
		if d.det.assigns != 1 || d.det.replayed != 0 || d.det.again != 0 {
			t.Errorf("assigned %d times, replayed %d, re-read %d: the state was not kept", d.det.assigns, d.det.replayed, d.det.again)
		}
		w.verify(t)
	})
}

func TestPartitionTakenAwayAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(9, testParts...)
		w.produce(testParts[0], 100)
		w.produce(testParts[1], 100)
		d := startDaemon(t, w, time.Millisecond)
		d.settle(t)
		d.end(t)
		away := w.committed[testParts[1]]
		delete(w.committed, testParts[1])
		d.run(true)
		time.Sleep(time.Second)
		if got := len(d.p.Status()); got != 1 || d.det.assigns != 2 {
			t.Errorf("%d partitions, assigned %d times", got, d.det.assigns)
		}
		d.end(t)
		w.committed[testParts[1]] = away
		clear(d.det.next)
		clear(d.det.live)
		d.run(false)
		w.produce(testParts[1], 50)
		d.settle(t)
		d.stop(t)
		w.verify(t)
	})
}

// TestPipelineSurvivesAnything lets daemons live and die over one world, with a
// flaky broker and a store that is slow, down, or killed in the middle of an
// insert, and checks that nothing is lost and no position goes back.
func TestPipelineSurvivesAnything(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { anything(t, seed) })
		})
	}
}

func anything(t *testing.T, seed uint64) {
	w := newWorld(seed, testParts...)
	w.flaky = true
	roll := w.roll
	pause := func(ms int) { time.Sleep(time.Duration(roll(ms)) * time.Millisecond) }
	for range 4 {
		d := startDaemon(t, w, time.Duration(roll(60))*time.Millisecond)
		for range 6 {
			for _, p := range testParts {
				w.produce(p, roll(300))
			}
			pause(1500)
			switch roll(5) {
			case 0:
				d.writer.set(true, false)
				pause(8000)
				d.writer.set(false, false)
			case 1:
				d.end(t)
				d.run(true)
			case 2:
				d.writer.set(true, false)
				pause(4000)
				d.end(t)
				d.writer.set(false, false)
				d.run(true)
			}
		}
		if roll(2) == 0 {
			d.crash(t)
		} else {
			d.stop(t)
		}
	}
	d := startDaemon(t, w, time.Millisecond)
	d.settle(t)
	d.stop(t)
	w.verify(t)
}
