package ingest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

// fakeVerdicts is a topic with one partition.
type fakeVerdicts struct {
	mu       sync.Mutex
	log      []keptVerdict
	failing  bool // writes fail
	deaf     bool // reads fail
	writes   int
	begunAt  []event.Instant
	perRead  int
	behindBy time.Duration // of the clock of its broker
}

type keptVerdict struct {
	p   event.Partition
	at  event.Instant
	rec []byte
}

var errTopic = errors.New("not authorized")

func (v *fakeVerdicts) Write(_ context.Context, p event.Partition, records [][]byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.writes++
	if v.failing {
		return errTopic
	}
	for _, r := range records {
		v.log = append(v.log, keptVerdict{p, event.At(time.Now().Add(-v.behindBy)), r})
	}
	return nil
}

func (v *fakeVerdicts) Begin(_ context.Context, _ event.Partition, t event.Instant) (int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.deaf {
		return 0, errTopic
	}
	v.begunAt = append(v.begunAt, t)
	for i, k := range v.log {
		if k.at >= t {
			return int64(i), nil
		}
	}
	return int64(len(v.log)), nil
}

func (v *fakeVerdicts) Read(_ context.Context, p event.Partition, position int64) (records [][]byte, next int64, end bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.deaf {
		return nil, 0, false, errTopic
	}
	next = min(position+int64(max(1, v.perRead)), int64(len(v.log)))
	for _, k := range v.log[position:next] {
		if k.p == p {
			records = append(records, k.rec)
		}
	}
	return records, next, next == int64(len(v.log)), nil
}

// judge gives every event a live cause that is told from one made anew, and a
// later judge's from an earlier one's.
type judge struct {
	*fakeDetector
	life int

	mu   sync.Mutex
	live map[event.Ref]decided // of all lives: what was said first
}

type decided struct {
	cause       event.Cause
	confidence  float32
	rediagnosed bool
}

func (j *judge) Observe(p event.Partition, events []event.Event) []finding.Finding {
	found := j.fakeDetector.Observe(p, events)
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range events {
		e := &events[i]
		e.Cause = event.Causes()[e.Ref.Offset%7]
		e.CauseConfidence = float32(j.life) + float32(e.Ref.Offset%3)/4
		if _, again := j.live[e.Ref]; !again {
			j.live[e.Ref] = decided{e.Cause, e.CauseConfidence, false}
		}
	}
	return found
}

func (j *judge) Diagnose(events []event.Event) {
	j.fakeDetector.Diagnose(events)
	for i := range events {
		events[i].Cause, events[i].CauseConfidence = event.CauseUnknown, 0.25
	}
}

// causeWriter remembers the causes of what is durable.
type causeWriter struct {
	*fakeWriter
	mu     sync.Mutex
	stored map[event.Ref]decided
}

func (c *causeWriter) Append(ctx context.Context, b *Batch, acked func(int64)) error {
	causes := map[event.Ref]decided{}
	for i := range b.Events {
		e := &b.Events[i]
		causes[e.Ref] = decided{e.Cause, e.CauseConfidence, e.Rediagnosed}
	}
	return c.fakeWriter.Append(ctx, b, func(next int64) {
		c.mu.Lock()
		for ref, d := range causes {
			c.stored[ref] = d
		}
		c.mu.Unlock()
		acked(next)
	})
}

// court is a world with lives of daemons that keep their verdicts.
type court struct {
	t        *testing.T
	w        *world
	verdicts *fakeVerdicts
	live     map[event.Ref]decided
	stored   map[event.Ref]decided
	cfg      Config
	key      string
	life     int
}

func newCourt(t *testing.T, w *world) *court {
	w.maxFetch = 1 << 20 // what there is: sizes of batches are the test's
	return &court{t: t, w: w, verdicts: &fakeVerdicts{}, live: map[event.Ref]decided{}, stored: map[event.Ref]decided{}, cfg: DefaultConfig(), key: "a key that only the daemons hold"}
}

// begin starts the next life.
func (c *court) begin(down bool) *daemon {
	c.t.Helper()
	c.life++
	writer := &causeWriter{fakeWriter: newFakeWriter(c.w, time.Millisecond), stored: c.stored}
	writer.set(down, false)
	d := &daemon{w: c.w, writer: writer.fakeWriter, det: newFakeDetector(c.w), reg: metrics.New()}
	var err error
	d.p, err = New(c.cfg, Deps{Source: c.w, Writer: writer, Detector: &judge{fakeDetector: d.det, life: c.life, live: c.live}, Sink: c.w,
		Decoder: newTestDecoder(c.t), Metrics: d.reg, Verdicts: c.verdicts, VerdictKey: secret.New(c.key)})
	if err != nil {
		c.t.Fatal(err)
	}
	d.run(false)
	return d
}

// stop ends a life in an orderly way.
func (c *court) stop(d *daemon) { d.stop(c.t) }

// kill ends a life with no last word.
func (c *court) kill(d *daemon) {
	c.verdicts.mu.Lock()
	c.verdicts.failing = true
	c.verdicts.mu.Unlock()
	d.crash(c.t)
	c.verdicts.failing = false
}

// load lets events come for a while.
func (c *court) load(p event.Partition, seconds, perSecond int) {
	for range seconds {
		c.w.produce(p, perSecond)
		time.Sleep(time.Second)
	}
}

// judged compares what is stored with what was decided live.
func (c *court) judged(wantAnew func(int64) bool) {
	c.t.Helper()
	bad, anew := 0, 0
	for ref, want := range c.live {
		got, ok := c.stored[ref]
		if wantAnew(ref.Offset) {
			want = decided{event.CauseUnknown, 0.25, true}
			anew++
		}
		if (!ok || got != want) && bad < 5 {
			bad++
			c.t.Errorf("offset %d: stored %+v (%v), decided live %+v", ref.Offset, got, ok, want)
		}
	}
	c.t.Logf("%d events, %d decided anew", len(c.live), anew)
	c.w.verify(c.t)
}

func never(int64) bool { return false }

// TestCausesOutliveAnOutage: what storage reads again has the causes that
// detection gave it.
func TestCausesOutliveAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		c := newCourt(t, newWorld(21, p))
		c.verdicts.perRead = 3
		d := c.begin(false)
		c.load(p, 5, 10)
		d.settle(t)
		if c.verdicts.writes != 0 {
			t.Errorf("%d writes while storage kept up", c.verdicts.writes)
		}
		for range 2 { // a second outage finds its verdicts behind those of the first
			d.writer.set(true, false)
			c.load(p, 60, 10)
			if !d.p.Status()[0].Detached {
				t.Error("not detached")
			}
			d.writer.set(false, false)
			d.settle(t)
			c.load(p, 5, 10)
			d.settle(t)
		}
		d.stop(t)
		c.judged(never)
		again, _ := counted(t, d.reg, "reread_events_total")
		joined, _ := counted(t, d.reg, "verdicts_joined_total")
		missing, _ := counted(t, d.reg, "verdicts_missing_total")
		if d.det.again != 0 || again == 0 || joined != again || missing != 0 {
			t.Errorf("read again %v, joined %v, missing %v, decided anew %d", again, joined, missing, d.det.again)
		}
	})
}

// TestCausesOutliveADaemon: the next process joins what the former wrote, with
// what it had queued, and a slow trickle that never filled a queue.
func TestCausesOutliveADaemon(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		outage, every int // seconds of it, events a second
		detached      bool
		end           func(*court, *daemon)
	}{
		{"killed when detached", 60, 10, true, (*court).kill},
		{"stopped when detached", 60, 10, true, (*court).stop},
		{"killed before its queue was full", 3, 10, false, (*court).kill},
		{"stopped before its queue was full", 3, 10, false, (*court).stop},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := testParts[0]
				c := newCourt(t, newWorld(22, p))
				d := c.begin(false)
				c.load(p, 5, 10)
				d.settle(t)
				d.writer.set(true, false)
				c.load(p, tt.outage, tt.every)
				if d.p.Status()[0].Detached != tt.detached {
					t.Errorf("status %+v", d.p.Status()[0])
				}
				tt.end(c, d)
				d = c.begin(true) // the outage goes on
				c.load(p, 30, 10)
				tt.end(c, d)
				d = c.begin(false)
				c.load(p, 5, 10)
				d.settle(t)
				d.stop(t)
				c.judged(never)
			})
		})
	}
}

// TestKilledWhileAllWasWell: what was judged and not yet stored has no verdict; it
// is decided anew, and says so.
func TestKilledWhileAllWasWell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		c := newCourt(t, newWorld(23, p))
		d := c.begin(false)
		c.load(p, 5, 10)
		d.settle(t)
		d.writer.set(false, true) // what it stores from here on nobody knows of
		c.w.produce(p, 20)
		time.Sleep(500 * time.Millisecond)
		c.kill(d)
		if n := len(c.verdicts.log); n > 0 {
			t.Errorf("%d rulings were written while all was well", n)
		}
		d = c.begin(false)
		d.settle(t)
		d.stop(t)
		c.judged(func(o int64) bool { return o >= 50 })
		if n, _ := counted(t, d.reg, "verdicts_missing_total"); n != float64(d.det.again) || n == 0 {
			t.Errorf("%v verdicts missing, %d decided anew", n, d.det.again)
		}
	})
}

// TestMissingVerdicts: a lost record costs the causes of its events, which then say
// that they were decided anew, and no others.
func TestMissingVerdicts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		c := newCourt(t, newWorld(24, p))
		d := c.begin(false)
		c.load(p, 5, 10)
		d.settle(t)
		d.writer.set(true, false)
		c.load(p, 60, 10)
		c.verdicts.mu.Lock()
		gone, err := testSealer.decode(p, c.verdicts.log[30].rec)
		if err != nil {
			t.Error(err)
		}
		c.verdicts.log = append(c.verdicts.log[:30:30], c.verdicts.log[31:]...)
		c.verdicts.mu.Unlock()
		d.writer.set(false, false)
		d.settle(t)
		d.stop(t)
		c.judged(func(o int64) bool { return o >= gone.first && o < gone.next })
	})
}

// TestForeignVerdictsChangeNothing: records of somebody who may write to the topic,
// and copies of ours, change no cause.
func TestForeignVerdictsChangeNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		c := newCourt(t, newWorld(25, p))
		d := c.begin(false)
		c.load(p, 5, 10)
		d.settle(t)
		forged := ruling{first: 0, next: 1 << 40}
		for o := range int64(2000) {
			forged.verdicts = append(forged.verdicts, verdict{o, 0, 1, pair{event.CauseBadRequest, 1, 0, 0}})
		}
		stranger := newSealer(secret.New("some other key")).encode(p, forged)
		d.writer.set(true, false)
		for range 30 {
			c.verdicts.mu.Lock()
			c.verdicts.log = append(c.verdicts.log, keptVerdict{p, event.At(time.Now()), stranger}, keptVerdict{p, event.At(time.Now()), []byte("{}")})
			if n := len(c.verdicts.log); n > 6 {
				c.verdicts.log = append(c.verdicts.log, keptVerdict{p, event.At(time.Now()), c.verdicts.log[n-5].rec})
			}
			c.verdicts.mu.Unlock()
			c.load(p, 2, 10)
		}
		d.writer.set(false, false)
		d.settle(t)
		d.stop(t)
		c.judged(never)
		if n, _ := counted(t, d.reg, "verdicts_foreign_total"); n == 0 {
			t.Error("no foreign record was counted")
		}
	})
}

// TestVerdictsOfATopicMadeAnew: the same coordinates of another record are another
// event.
func TestVerdictsOfATopicMadeAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		c := newCourt(t, newWorld(26, p))
		former := ruling{first: 0, next: 100}
		for o := range int64(100) {
			former.verdicts = append(former.verdicts, verdict{o, 0, event.At(time.Now().Add(-time.Minute)), pair{event.CauseBadRequest, 1, 0, 0}})
		}
		c.verdicts.log = []keptVerdict{{p, event.At(time.Now()), testSealer.encode(p, former)}}
		c.w.produce(p, 100)
		c.w.committed[p], c.w.detected[p] = 0, 100
		for o := int64(0); o < 100; o += 10 {
			c.w.findings[findingID(p, o)] = 1
		}
		d := c.begin(false)
		d.settle(t)
		d.stop(t)
		for ref, got := range c.stored {
			if got.cause == event.CauseBadRequest || !got.rediagnosed {
				t.Fatalf("offset %d got the verdict about another event: %+v", ref.Offset, got)
			}
		}
	})
}

// TestDetectionDoesNotWaitForVerdicts: a topic that takes nothing costs the causes
// of what is read again, and nothing else.
func TestDetectionDoesNotWaitForVerdicts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		c := newCourt(t, newWorld(27, p))
		c.verdicts.failing, c.verdicts.deaf = true, true
		d := c.begin(false)
		c.load(p, 5, 10)
		d.settle(t)
		d.writer.set(true, false)
		c.load(p, 60, 10)
		if s := d.p.Status()[0]; s.End-s.Live > 20 {
			t.Errorf("detection is behind: %+v", s)
		}
		if n := c.verdicts.writes; n < 5 || n > 30 {
			t.Errorf("%d writes were tried in a minute", n)
		}
		d.writer.set(false, false)
		d.settle(t)
		d.stop(t)
		if len(c.stored) < 500 {
			t.Errorf("%d events are stored", len(c.stored))
		}
		for _, op := range []string{"write", "read"} {
			if n, _ := counted(t, d.reg, "verdict_errors_total", op); n == 0 {
				t.Errorf("no failed %s was counted", op)
			}
		}
		c.w.verify(t)
	})
}

// TestVerdictsWaitForTheTopic: what could not be written is written when it can be.
func TestVerdictsWaitForTheTopic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		c := newCourt(t, newWorld(28, p))
		c.verdicts.failing = true
		d := c.begin(true)
		c.load(p, 30, 10)
		c.verdicts.mu.Lock()
		c.verdicts.failing = false
		c.verdicts.mu.Unlock()
		c.load(p, 10, 10)
		d.writer.set(false, false)
		d.settle(t)
		d.stop(t)
		c.judged(never)
	})
}

// TestVerdictsWaitWithinBounds: what waits to be written is bounded, and the oldest
// go first.
func TestVerdictsWaitWithinBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(30, testParts[0])
	c := newCourt(t, w)
	reg := metrics.New()
	pl, err := New(c.cfg, Deps{Source: w, Writer: &fakeWriter{}, Detector: newFakeDetector(w), Sink: w, Decoder: newTestDecoder(t), Metrics: reg,
		Verdicts: c.verdicts, VerdictKey: secret.New(c.key)})
	if err != nil {
		t.Fatal(err)
	}
	part := newPartition(pl, testParts[0], 0, Assignment{})
	const batch, batches = 10_000, 40
	for n := range int64(batches) {
		b := &Batch{Partition: part.id, First: n * batch, Next: (n + 1) * batch}
		for o := b.First; o < b.Next; o++ {
			b.Events = append(b.Events, event.Event{Type: event.TypeRequestUnauthorized, Ref: event.Ref{Offset: o}, Cause: event.CauseUnknownKey})
		}
		part.keep(b)
		if part.untold.size > maxUntold {
			t.Fatalf("%d bytes wait, the bound is %d", part.untold.size, maxUntold)
		}
	}
	u := &part.untold
	if last := u.entries[len(u.entries)-1].next; last != batch*batches || u.size < maxUntold/2 {
		t.Errorf("%d bytes wait, up to %d", u.size, last)
	}
	lost, _ := counted(t, reg, "verdicts_dropped_total")
	if want := batch * (batches - len(u.entries)); lost != float64(want) || want == 0 {
		t.Errorf("%v verdicts were dropped, want %d", lost, want)
	}
}

// TestVerdictsAreLookedForInTime: reading begins shortly before the first event, so
// that an outage is not paid for with all that the topic holds.
func TestVerdictsAreLookedForInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testParts[0]
		c := newCourt(t, newWorld(29, p))
		c.verdicts.behindBy = verdictSlack / 2 // its broker's clock is slow
		d := c.begin(false)
		time.Sleep(time.Hour)
		began := event.At(time.Now())
		d.writer.set(true, false)
		c.load(p, 60, 10)
		d.writer.set(false, false)
		d.settle(t)
		d.stop(t)
		c.judged(never)
		if len(c.verdicts.begunAt) != 1 || c.verdicts.begunAt[0] > began.Add(-verdictSlack+time.Minute) || c.verdicts.begunAt[0] < began.Add(-verdictSlack) {
			t.Errorf("reading began at %v, the outage at %v", c.verdicts.begunAt, began)
		}
	})
}
