package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// world is what outlives a daemon: the broker's log, the database, the consumer
// group's offsets and the journal.
type world struct {
	mu        sync.Mutex
	rng       *rand.Rand
	log       map[event.Partition][]Record
	logStart  map[event.Partition]int64
	flaky     bool // fetches and commits fail now and then
	maxFetch  int
	stored    map[event.Partition]map[int64]int
	committed map[event.Partition]int64
	detected  map[event.Partition]int64
	findings  map[string]int
	gaps      map[event.Partition][][2]int64 // per partition: [from, to) that the store side missed
	faults    []string
}

func newWorld(seed uint64, parts ...event.Partition) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 7)), log: map[event.Partition][]Record{}, logStart: map[event.Partition]int64{}, maxFetch: 40,
		stored: map[event.Partition]map[int64]int{}, committed: map[event.Partition]int64{}, detected: map[event.Partition]int64{},
		findings: map[string]int{}, gaps: map[event.Partition][][2]int64{}}
	for _, p := range parts {
		w.stored[p] = map[int64]int{}
		w.committed[p] = -1
	}
	return w
}

func (w *world) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// roll draws a number below n.
func (w *world) roll(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// produce appends n records, some of them broken.
func (w *world) produce(p event.Partition, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		o := int64(len(w.log[p]))
		r := goodRecord(o, event.At(time.Now()))
		if o%17 == 3 {
			r.Value = []byte(`{"broken`)
		}
		w.log[p] = append(w.log[p], r)
	}
}

func (w *world) Fetch(ctx context.Context, p event.Partition, from int64) (*Fetched, error) {
	for range 2 {
		f, err := w.read(p, from)
		if err != nil || f.Next > from {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return w.read(p, from)
}

func (w *world) read(p event.Partition, from int64) (*Fetched, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := int64(len(w.log[p]))
	if w.flaky && w.rng.IntN(20) == 0 {
		return nil, errors.New("connection reset")
	}
	if from < w.logStart[p] {
		return nil, &OffsetGone{Partition: p, Wanted: from, LogStart: w.logStart[p]}
	}
	if from > end {
		return nil, &OffsetGone{Partition: p, Wanted: from, LogStart: w.logStart[p]}
	}
	to := min(end, from+1+w.rng.Int64N(int64(w.maxFetch)))
	return &Fetched{Records: append([]Record(nil), w.log[p][from:to]...), Next: to, HighWatermark: end, LogStart: w.logStart[p]}, nil
}

func (w *world) OffsetAt(_ context.Context, p event.Partition, t event.Instant) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for o := w.logStart[p]; o < int64(len(w.log[p])); o++ {
		if w.log[p][o].Time >= t {
			return o, nil
		}
	}
	return int64(len(w.log[p])), nil
}

// Commit checks the promise of a commit: everything below it is stored, and it
// never goes back.
func (w *world) Commit(_ context.Context, offsets map[event.Partition]int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flaky && w.rng.IntN(5) == 0 {
		return errors.New("coordinator is loading")
	}
	for p, o := range offsets {
		if o <= w.committed[p] {
			w.fault("%v: commit went from %d to %d", p, w.committed[p], o)
		}
		for i := max(0, w.committed[p]); i < o; i++ {
			if w.stored[p][i] == 0 && !w.missed(p, i) {
				w.fault("%v: committed %d, but %d is not stored", p, o, i)
			}
		}
		w.committed[p] = o
	}
	return nil
}

func (w *world) missed(p event.Partition, o int64) bool {
	for _, g := range w.gaps[p] {
		if o >= g[0] && o < g[1] {
			return true
		}
	}
	return false
}

// Deliver journals findings and the detected position.
func (w *world) Deliver(_ context.Context, found []finding.Finding, p event.Partition, position int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range found {
		w.findings[f.ID]++
	}
	if p.Topic == "" {
		return nil
	}
	if position <= w.detected[p] {
		w.fault("%v: detected went from %d to %d", p, w.detected[p], position)
	}
	w.detected[p] = position
	return nil
}

// Journal journals findings at once.
func (w *world) Journal(ctx context.Context, found []finding.Finding) error {
	return w.Deliver(ctx, found, event.Partition{}, 0)
}

// fakeWriter stores after a while, in order, what was appended. killed, it stores
// or forgets what is in flight and acknowledges nothing any more.
type fakeWriter struct {
	w     *world
	ch    chan writerJob
	stop  chan struct{}
	wg    sync.WaitGroup
	delay time.Duration

	mu     sync.Mutex
	down   bool
	killed bool
}

type writerJob struct {
	b     *Batch
	acked func(int64)
}

func newFakeWriter(w *world, delay time.Duration) *fakeWriter {
	f := &fakeWriter{w: w, ch: make(chan writerJob, 2), stop: make(chan struct{}), delay: delay}
	f.wg.Go(f.run)
	return f
}

func (f *fakeWriter) Assign(context.Context, event.Partition, int64) error {
	if !f.Healthy() {
		return errors.New("ClickHouse is down")
	}
	return nil
}

func (f *fakeWriter) Append(ctx context.Context, b *Batch, acked func(int64)) error {
	select {
	case f.ch <- writerJob{b, acked}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeWriter) Healthy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.down
}

func (f *fakeWriter) Revoke(event.Partition) {}

func (f *fakeWriter) set(down, killed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.killed = down, f.killed || killed
}

func (f *fakeWriter) run() {
	for {
		select {
		case <-f.stop:
			return
		case j := <-f.ch:
			for wait := f.delay; wait > 0 || !f.Healthy(); wait = 0 {
				select {
				case <-f.stop:
					return
				case <-time.After(max(wait, 10*time.Millisecond)):
				}
			}
			f.insert(j)
		}
	}
}

func (f *fakeWriter) insert(j writerJob) {
	f.mu.Lock()
	killed := f.killed
	f.mu.Unlock()
	f.w.mu.Lock()
	if !killed || f.w.rng.IntN(2) == 0 {
		for i := range j.b.Events {
			f.w.stored[j.b.Partition][j.b.Events[i].Ref.Offset]++
		}
		for i := range j.b.Rejects {
			f.w.stored[j.b.Partition][j.b.Rejects[i].Ref.Offset]++
		}
	}
	f.w.mu.Unlock()
	next := j.b.Next
	j.b.Release()
	if !killed {
		j.acked(next)
	}
}

func (f *fakeWriter) close() {
	close(f.stop)
	f.wg.Wait()
}

// fakeDetector checks that events come in order, each once, and finds something
// in every tenth.
type fakeDetector struct {
	w        *world
	lookback time.Duration
	mu       sync.Mutex
	next     map[event.Partition]int64 // after the last seen; replays and observations
	live     map[event.Partition]bool
	pace     time.Duration // of Replay, for each event
	replayed int
	from     map[event.Partition]int64 // first offset replayed
	fill     func(context.Context, []event.Standing) ([]event.Standing, error)
	asked    [][]event.Standing
	missing  map[event.Partition]event.Instant
	assigns  int
	again    int
}

func newFakeDetector(w *world) *fakeDetector {
	return &fakeDetector{w: w, lookback: time.Minute, next: map[event.Partition]int64{}, from: map[event.Partition]int64{},
		missing: map[event.Partition]event.Instant{}, live: map[event.Partition]bool{}}
}

func (d *fakeDetector) Lookback() int64 { return int64(d.lookback) }

func (d *fakeDetector) RegistrySince(end event.Instant) event.Instant {
	return end.Add(-min(d.lookback, time.Minute))
}

func (d *fakeDetector) Fill(ctx context.Context, at []event.Standing) ([]event.Standing, error) {
	d.mu.Lock()
	d.asked = append(d.asked, at)
	d.mu.Unlock()
	if d.fill == nil {
		return at, errors.New("nothing is stored")
	}
	return d.fill(ctx, at)
}

func (d *fakeDetector) Missing(p event.Partition, before event.Instant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.missing[p] = before
}

func (d *fakeDetector) Assign([]event.Partition) { d.assigns++ }

func (d *fakeDetector) Replay(p event.Partition, events []event.Event) {
	time.Sleep(d.pace * time.Duration(len(events)))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replayed += len(events)
	if _, ok := d.from[p]; !ok && len(events) > 0 {
		d.from[p] = events[0].Ref.Offset
	}
	d.order(p, events)
	if d.live[p] {
		d.w.fault("%v: replay after live", p)
	}
}

func (d *fakeDetector) order(p event.Partition, events []event.Event) {
	for i := range events {
		o := events[i].Ref.Offset
		if last, ok := d.next[p]; ok && o < last {
			d.w.mu.Lock()
			d.w.fault("%v: offset %d was seen twice", p, o)
			d.w.mu.Unlock()
		}
		d.next[p] = o + 1
	}
}

func (d *fakeDetector) Observe(p event.Partition, events []event.Event) []finding.Finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live[p] = true
	d.order(p, events)
	var out []finding.Finding
	for i := range events {
		events[i].Cause, events[i].CauseConfidence = event.CauseUnknownKey, 1
		if events[i].Ref.Offset%10 == 0 {
			out = append(out, finding.Finding{ID: findingID(p, events[i].Ref.Offset)})
		}
	}
	return out
}

func findingID(p event.Partition, o int64) string { return fmt.Sprintf("%v@%d", p, o) }

func (d *fakeDetector) Progress(event.Partition, int64, int64, event.Instant) {}

func (d *fakeDetector) Tick(event.Instant) []finding.Finding { return nil }

func (d *fakeDetector) Derive([]event.Event) {}

func (d *fakeDetector) Diagnose(events []event.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.again += len(events)
	for i := range events {
		events[i].Rediagnosed = true
	}
}
