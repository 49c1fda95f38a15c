package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
)

// Who reads a partition.
const (
	readerLive  = "detection"
	readerStore = "storage"
)

// partition is the state of one assigned partition. One goroutine reads it for
// detection, one feeds the writer; what both touch is atomic or in the handoff.
type partition struct {
	p   *Pipeline
	id  event.Partition
	log *slog.Logger

	// Of the reader.
	fresh     bool          // nothing of it was stored before
	started   bool          // start positions are settled
	filled    bool          // windows are filled
	fillFrom  int64         // next offset to replay
	missing   event.Instant // what lies before is neither stored nor replayed; 0: nothing
	pos       int64         // next offset to observe
	clock     *Clock
	pending   *pending // observed, but not yet delivered and handed over
	seen      map[string]event.Instant
	snapAfter event.Instant

	at     progress // of the reader
	untold untold   // verdicts that storage may need

	hurried bool // the middle of the replay was left out, or nothing was to be

	// Of the store side.
	assigned bool // the writer knows the partition
	join     joiner
	storeAt  progress

	committed int64         // of the assignment
	detected  int64         // of the assignment; below zero: unknown
	begun     chan struct{} // closed when started
	near, far refill        // where a replay may begin; settled by start
	around    span          // of start
	asked     bool          // the detector was asked to fill it from what is stored
	ready     chan struct{}
	h         *handoff

	acked    atomic.Int64
	livePos  atomic.Int64
	observed atomic.Int64
	end      atomic.Int64
	isReady  atomic.Bool
	running  atomic.Bool
	snapshot atomic.Pointer[offset.Snapshot]
	// storeClock is what the store side reads with; the reader renews it when it
	// detaches.
	storeClock atomic.Pointer[Clock]

	lag, storeLag, detached prometheus.Gauge
}

// pending is a batch that detection has seen; what it found must be delivered
// once, also when the delivery was interrupted.
type pending struct {
	batch    *Batch
	findings []finding.Finding
}

func newPartition(p *Pipeline, id event.Partition, committed int64, a Assignment) *partition {
	n := strconv.Itoa(int(id.ID))
	part := &partition{
		p: p, id: id, log: p.Log.With("topic", id.Topic, "partition", id.ID),
		committed: committed, detected: -1, ready: make(chan struct{}), begun: make(chan struct{}), seen: map[string]event.Instant{},
		clock:    NewClock(p.cfg.ClockMaxHosts),
		lag:      p.m.lag.WithLabelValues(id.Topic, n),
		storeLag: p.m.storeLag.WithLabelValues(id.Topic, n),
		detached: p.m.detached.WithLabelValues(id.Topic, n),
	}
	part.acked.Store(-1)
	if d, ok := a.Detected[id]; ok {
		part.detected = d
	}
	if s, ok := a.Clocks[id]; ok {
		part.clock = RestoreClock(s, p.cfg.ClockMaxHosts)
	}
	return part
}

func (t *partition) status() Status {
	s := Status{Partition: t.id, Live: t.livePos.Load(), Observed: t.observed.Load(), Stored: t.acked.Load(), End: t.end.Load(), Ready: t.isReady.Load(),
		Running: t.running.Load(), Progress: t.at.read(), StoreFailure: t.storeAt.read().Failure}
	if t.isReady.Load() {
		s.Detached = t.h.reading()
	}
	return s
}

// close gives the partition up. No goroutine of it may be active.
func (t *partition) close() {
	if t.pending != nil {
		t.pending.batch.Release()
		t.pending = nil
	}
	if t.h != nil {
		t.h.drop()
	}
	if t.assigned {
		t.p.Writer.Revoke(t.id)
		t.assigned = false
	}
}

// copyClock is a clock of its own for the store side, which reads at another
// pace.
func (t *partition) copyClock() *Clock {
	from := max(t.clock.from, t.pos)
	return RestoreClock(t.clock.est.Snapshot(from), t.p.cfg.ClockMaxHosts)
}

// read follows the partition for detection until ctx ends. It goes on to the
// replay when stored is closed: what is stored is in the windows.
func (t *partition) read(ctx context.Context, share int64, stored <-chan struct{}) error {
	t.running.Store(true)
	defer t.running.Store(false)
	deadline := time.Now().Add(liveWithin)
	if err := t.start(ctx, share); err != nil {
		return unlessDone(ctx, err)
	}
	t.at.does(DoingFill)
	select {
	case <-ctx.Done():
		return nil
	case <-stored:
		t.at.waited()
		if ctx.Err() != nil {
			return nil
		}
	}
	if least := time.Now().Add(leastReplay); least.After(deadline) {
		deadline = least
	}
	if err := t.fill(ctx, deadline); err != nil {
		return unlessDone(ctx, err)
	}
	for ctx.Err() == nil {
		if err := t.flush(ctx); err != nil {
			return unlessDone(ctx, err)
		}
		if err := t.step(ctx); err != nil {
			return unlessDone(ctx, err)
		}
	}
	return nil
}

// fill re-reads what the windows need, silently, up to where detection had got.
func (t *partition) fill(ctx context.Context, deadline time.Time) error {
	began, first := time.Now(), t.fillFrom
	for !t.filled && t.fillFrom < t.pos {
		if !t.hurried && time.Now().After(deadline) {
			if err := t.hurry(ctx, began, t.fillFrom-first); err != nil {
				return err
			}
		}
		f, err := t.fetch(ctx, t.fillFrom)
		if gone := (*OffsetGone)(nil); errors.As(err, &gone) {
			if gone.LogStart <= t.fillFrom {
				return t.recreated(t.fillFrom, gone)
			}
			t.fillFrom = gone.LogStart
			continue
		}
		if err != nil {
			return err
		}
		if f.Next <= t.fillFrom {
			if t.fillFrom >= f.HighWatermark {
				break // detection was ahead of what the broker still has
			}
			continue
		}
		f.clip(t.pos)
		t.at.does(DoingJudge)
		b, err := t.p.Decoder.Decode(t.id, f, t.fillFrom, t.clock, event.At(t.p.Now()))
		if err != nil {
			return err
		}
		t.p.Detector.Replay(t.id, b.Events)
		t.p.m.replayed.Add(float64(len(b.Events)))
		t.fillFrom = b.Next
		b.Release()
		t.at.done()
	}
	if !t.filled {
		if t.missing != 0 {
			t.log.Warn("events of before are neither stored nor in kafka, or too many: rules that want them are learning", "before", t.missing.String())
			t.p.Detector.Missing(t.id, t.missing)
		}
		t.filled = true
		t.isReady.Store(true)
		close(t.ready)
	}
	return nil
}

// step reads once and shows the result to detection.
func (t *partition) step(ctx context.Context) error {
	f, err := t.fetch(ctx, t.pos)
	if gone := (*OffsetGone)(nil); errors.As(err, &gone) {
		return t.skip(ctx, gone)
	}
	if err != nil {
		return err
	}
	now := event.At(t.p.Now())
	if f.Next > t.pos {
		t.at.does(DoingJudge)
		b, err := t.p.Decoder.Decode(t.id, f, t.pos, t.clock, now)
		if err != nil {
			return err
		}
		began := time.Now()
		t.observed.Store(f.Next)
		found := t.p.Detector.Observe(t.id, b.Events)
		t.p.m.observe.Observe(time.Since(began).Seconds())
		t.pending = &pending{batch: b, findings: append(found, OwnFindings(b, t.seen, now)...)}
		t.at.done()
		t.pos = f.Next
		t.keep(b)
		t.checkpoint(now)
		if err := t.flush(ctx); err != nil {
			return err
		}
	}
	t.end.Store(f.HighWatermark)
	t.p.Detector.Progress(t.id, t.pos, f.HighWatermark, now)
	t.lag.Set(float64(max(0, f.HighWatermark-t.pos)))
	t.storeLag.Set(float64(max(0, f.HighWatermark-t.acked.Load())))
	return nil
}

// skip moves past offsets that retention removed and says which.
func (t *partition) skip(ctx context.Context, gone *OffsetGone) error {
	if gone.LogStart <= t.pos {
		return t.recreated(t.pos, gone)
	}
	now := event.At(t.p.Now())
	t.at.does(DoingDeliver)
	// Storage passes the gap with this batch, and what it has passed is committed: the
	// gap is durable first.
	if err := t.p.Sink.Journal(ctx, []finding.Finding{gapFinding(t.id, t.pos, gone.LogStart, readerLive, now)}); err != nil {
		return err
	}
	t.at.done()
	t.p.m.lost.WithLabelValues(t.id.Topic, readerLive).Add(float64(gone.LogStart - t.pos))
	t.log.Error("retention removed records before they were analysed", "from", t.pos, "to", gone.LogStart-1)
	t.pending = &pending{batch: &Batch{Partition: t.id, First: t.pos, Next: gone.LogStart, Lost: true}}
	t.pos = gone.LogStart
	return t.flush(ctx)
}

// recreated is the error for a partition that ends before our position: going on
// would give two records the same coordinates.
func (t *partition) recreated(pos int64, gone *OffsetGone) error {
	return fmt.Errorf("partition %s has no offset %d, its log starts at %d: was the topic deleted and made again? "+
		"Consume it with a new group into a fresh database, or under a new topic name", t.id, pos, gone.LogStart)
}

// flush delivers what detection found and hands the batch to storage. While
// storage is behind the verdicts are durable before detected passes them.
func (t *partition) flush(ctx context.Context) error {
	t.tell(ctx)
	if t.pending == nil {
		return nil
	}
	b := t.pending.batch
	t.at.does(DoingDeliver)
	if err := t.p.Sink.Deliver(ctx, t.pending.findings, t.id, b.Next); err != nil {
		return err
	}
	t.pending = nil
	t.livePos.Store(b.Next)
	t.at.done()
	t.at.does(DoingHand)
	defer t.at.done()
	if t.h.offer(ctx, b, t.p.cfg.DetachAfter, func() bool { return !t.p.Writer.Healthy() }) {
		t.storeClock.Store(t.copyClock())
		t.p.m.detaches.Inc()
		t.log.Warn("storage is behind: detection goes on alone, storage will read again", "from", t.h.position())
		t.tell(ctx)
	}
	return nil
}

// checkpoint publishes the clock estimates once a minute.
func (t *partition) checkpoint(now event.Instant) {
	if now < t.snapAfter {
		return
	}
	t.snapAfter = now.Add(time.Minute)
	s := t.clock.est.Snapshot(max(t.clock.from, t.pos))
	t.snapshot.Store(&s)
}

// Waiting after a failed fetch.
const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 2 * time.Second
)

// fetch reads from offset for detection, as often as it takes. It fails with
// *OffsetGone, or when ctx ends.
func (t *partition) fetch(ctx context.Context, from int64) (*Fetched, error) {
	t.at.does(DoingRead)
	return t.fetchAs(ctx, from, &t.at)
}

func (t *partition) fetchAs(ctx context.Context, from int64, at *progress) (*Fetched, error) {
	var f *Fetched
	err := t.retry(ctx, "fetch", at, func() (err error) {
		f, err = t.p.Source.Fetch(ctx, t.id, from)
		if err == nil && f.Next < from {
			err = fmt.Errorf("the answer ends at %d, before the wanted offset %d", f.Next, from)
		}
		return err
	})
	return f, err
}

func (t *partition) offsetAt(ctx context.Context, at event.Instant) (int64, error) {
	var o int64
	t.at.does(DoingRead)
	err := t.retry(ctx, "list offsets", &t.at, func() (err error) {
		o, err = t.p.Source.OffsetAt(ctx, t.id, at)
		return err
	})
	return o, err
}

// retry repeats f with growing pauses until it succeeds, finds its offset gone,
// or ctx ends. The first failure in a row is logged.
func (t *partition) retry(ctx context.Context, what string, at *progress, f func() error) error {
	for wait := backoffMin; ; wait = min(2*wait, backoffMax) {
		err := f()
		if gone := (*OffsetGone)(nil); err == nil || errors.As(err, &gone) {
			at.asked(nil)
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		at.asked(err)
		t.p.m.fetchErrors.WithLabelValues(t.id.Topic).Inc()
		if wait == backoffMin {
			t.log.Warn(what+" failed; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// unlessDone is err, or nil when it only says that ctx ended.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// clip forgets what lies at or above offset to.
func (f *Fetched) clip(to int64) {
	if f.Next <= to {
		return
	}
	n := len(f.Records)
	for n > 0 && f.Records[n-1].Offset >= to {
		n--
	}
	f.Records = f.Records[:n]
	kept := f.Unreadable[:0]
	for _, u := range f.Unreadable {
		if u.To = min(u.To, to); u.From < u.To {
			kept = append(kept, u)
		}
	}
	f.Unreadable = kept
	f.Next = to
}
