package ingest

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/keysentry/keysentry/event"
)

// VerdictLog keeps what detection decided while storage is behind, in the order
// in which it was written. Its methods may be called concurrently.
type VerdictLog interface {
	// Write appends records of a partition; on nil they are durable and readable.
	Write(ctx context.Context, p event.Partition, records [][]byte) error
	// Begin is a position before which nothing lies that was written at or after t.
	Begin(ctx context.Context, p event.Partition, t event.Instant) (int64, error)
	// Read returns records of a partition from a position on, and where to read
	// next; end says that there were no more. What retention removed is passed
	// over. The records belong to the caller.
	Read(ctx context.Context, p event.Partition, position int64) (records [][]byte, next int64, end bool, err error)
}

// Bounds of keeping verdicts. Detection waits for a write at most verdictWait,
// and after a failure not at all for verdictPause. Storage can wait: it tries to
// read for verdictPatience before it has causes decided anew, and then goes on
// without for as long.
const (
	verdictWait     = time.Second
	verdictPause    = 5 * time.Second
	verdictPatience = time.Minute
	maxUntold       = 1 << 20 // bytes per partition
	// verdictSlack is how far the clocks of two brokers may be apart: verdicts are
	// looked for from so long before the append time of the first event.
	verdictSlack = 5 * time.Minute
)

// untold holds the rulings of batches that storage has not acknowledged and that
// were not written yet. It belongs to the reader of a partition. While all is well
// a ruling stays for as long as an insert takes, and is never written.
type untold struct {
	entries []untoldRuling
	size    int
	pause   time.Time // no writing before
}

type untoldRuling struct {
	next   int64
	record []byte
	count  int
	since  time.Time
}

// keep notes the verdicts of a batch that was just judged.
func (t *partition) keep(b *Batch) {
	if t.p.Verdicts == nil {
		return
	}
	now, u := time.Now(), &t.untold
	for _, r := range rulings(b) {
		rec := t.p.seal.encode(t.id, r)
		u.entries = append(u.entries, untoldRuling{r.next, rec, len(r.verdicts), now})
		u.size += len(rec)
	}
	for u.size > maxUntold {
		t.p.m.verdictsLost.Add(float64(u.entries[0].count))
		u.drop(1)
	}
}

// drop forgets the first n entries.
func (u *untold) drop(n int) {
	for i := range n {
		u.size -= len(u.entries[i].record)
		u.entries[i] = untoldRuling{}
	}
	u.entries = u.entries[n:]
}

// behind reports whether storage may lose what it was given before it is durable:
// it reads by itself, fails, or takes longer than it is given.
func (t *partition) behind(now time.Time) bool {
	u := &t.untold
	return t.h.reading() || !t.p.Writer.Healthy() || now.Sub(u.entries[0].since) >= t.p.cfg.DetachAfter
}

// tell writes the verdicts that are due: all that storage has not acknowledged,
// once it is behind. A failure is counted, and what is not written by the time
// that it is needed is decided anew.
func (t *partition) tell(ctx context.Context) {
	u, acked, stored := &t.untold, t.acked.Load(), 0
	for stored < len(u.entries) && u.entries[stored].next <= acked {
		stored++
	}
	u.drop(stored)
	if now := time.Now(); len(u.entries) > 0 && !now.Before(u.pause) && t.behind(now) {
		t.write(ctx, verdictWait)
	}
}

func (t *partition) write(ctx context.Context, wait time.Duration) {
	u := &t.untold
	records := make([][]byte, len(u.entries))
	n := 0
	for i, e := range u.entries {
		records[i] = e.record
		n += e.count
	}
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := t.p.Verdicts.Write(bounded, t.id, records)
	switch {
	case err == nil:
		t.p.m.verdictsWritten.Add(float64(n))
		u.drop(len(u.entries))
		u.pause = time.Time{}
	case ctx.Err() == nil:
		t.p.m.verdictErrors.WithLabelValues("write").Inc()
		if u.pause.IsZero() {
			t.log.Warn("verdicts could not be written; if this process ends before storage has caught up, causes are decided anew", "error", err)
		}
		u.pause = time.Now().Add(verdictPause)
	}
}

// tellRest writes what storage has not acknowledged when a run ends: the next one
// may be another process's. No goroutine of a partition may be active.
func (p *Pipeline) tellRest(ctx context.Context, parts []*partition) {
	if p.Verdicts == nil {
		return
	}
	var wg sync.WaitGroup
	for _, t := range parts {
		if acked := t.acked.Load(); len(t.untold.entries) > 0 && t.untold.entries[len(t.untold.entries)-1].next > acked {
			wg.Go(func() { t.write(context.WithoutCancel(ctx), verdictWait) })
		}
	}
	wg.Wait()
}

// joiner gives events that storage reads again the causes that detection gave
// them. It merges two sequences, both in the order of offsets: the events, and the
// rulings of their partition. It holds one ruling and what one read brought. It
// belongs to the store side of a partition.
//
// Of several rulings about one offset the first written counts: a member that
// was cut off, or one that took over below what the former had judged, repeats
// what was said already, and what was said first is what the findings quote that
// were journaled first. It needs no look ahead, so memory stays bounded.
type joiner struct {
	begun  bool
	pos    int64 // where to read next
	queue  [][]byte
	ruling ruling // empty: none
	dry    bool   // there were no more; until the next batch
	pause  time.Time
}

// settle sets the causes and traits of a batch that was read again: those of the
// verdicts, and new ones for refused events where there is none. An event that was
// not refused and has no verdict has no traits: none had been found, or nobody
// knows any more.
func (t *partition) settle(ctx context.Context, b *Batch) error {
	if t.p.Verdicts == nil {
		t.p.Detector.Diagnose(b.Events)
		return nil
	}
	t.p.Detector.Derive(b.Events)
	t.join.dry = false
	joined, missing := 0, 0
	anew := -1 // from here on to be decided anew
	flush := func(to int) {
		if anew >= 0 {
			t.p.Detector.Diagnose(b.Events[anew:to])
			anew = -1
		}
	}
	for i := range b.Events {
		e := &b.Events[i]
		v, err := t.verdictOf(ctx, e)
		switch {
		case err != nil:
			return err
		case v != nil:
			flush(i)
			joined++
			e.Cause, e.CauseConfidence, e.Traits, e.CauseGrounds = v.cause, v.confidence, v.traits, v.grounds
		case e.Refused():
			missing++
			if anew < 0 {
				anew = i
			}
		default:
			flush(i)
		}
	}
	flush(len(b.Events))
	t.p.m.verdictsJoined.Add(float64(joined))
	t.p.m.verdictsMissing.Add(float64(missing))
	return nil
}

// verdictOf is the verdict about an event, or nil when there is none. It fails
// only when ctx ends.
func (t *partition) verdictOf(ctx context.Context, e *event.Event) (*verdict, error) {
	j := &t.join
	if !j.pause.IsZero() {
		if time.Now().Before(j.pause) {
			return nil, nil
		}
		j.pause = time.Time{}
	}
	for j.ruling.next <= e.Ref.Offset && !j.dry {
		more, err := t.nextRuling(ctx, e)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			t.log.Warn("verdicts cannot be read; causes are decided anew for a while", "error", err)
			t.join = joiner{pause: time.Now().Add(verdictPatience)}
			return nil, nil
		}
		j.dry = !more
	}
	list := j.ruling.verdicts
	i := sort.Search(len(list), func(i int) bool {
		return list[i].offset > e.Ref.Offset || list[i].offset == e.Ref.Offset && list[i].idx >= e.Ref.Idx
	})
	if i == len(list) || list[i].offset != e.Ref.Offset || list[i].idx != e.Ref.Idx || list[i].at != e.ObservedAt {
		return nil, nil
	}
	return &list[i], nil
}

// nextRuling goes on to the next ruling that is ours; false says that there is
// none now.
func (t *partition) nextRuling(ctx context.Context, e *event.Event) (bool, error) {
	j := &t.join
	for {
		for len(j.queue) > 0 {
			rec := j.queue[0]
			j.queue = j.queue[1:]
			r, err := t.p.seal.decode(t.id, rec)
			if err != nil {
				t.p.m.verdictsForeign.Inc()
				continue
			}
			if r.next > j.ruling.next { // else all of it was said before
				j.ruling = r
				return true, nil
			}
		}
		end, err := t.readVerdicts(ctx, e.ObservedAt)
		if err != nil || end && len(j.queue) == 0 {
			return false, err
		}
	}
}

// readVerdicts reads more rulings, trying for as long as storage can wait. The
// first are those that may be about the first event, which was appended at.
func (t *partition) readVerdicts(ctx context.Context, at event.Instant) (end bool, err error) {
	j := &t.join
	bounded, cancel := context.WithTimeout(ctx, verdictPatience)
	defer cancel()
	for wait := backoffMin; ; wait = min(2*wait, backoffMax) {
		if !j.begun {
			j.pos, err = t.p.Verdicts.Begin(bounded, t.id, t.p.verdictsSince(t.id.Topic, at))
			j.begun = err == nil
		}
		if err == nil {
			var next int64
			if j.queue, next, end, err = t.p.Verdicts.Read(bounded, t.id, j.pos); err == nil {
				j.pos = next
				return end, nil
			}
		}
		t.p.m.verdictErrors.WithLabelValues("read").Inc()
		select {
		case <-bounded.Done():
			return false, err
		case <-time.After(wait):
			err = nil
		}
	}
}

// verdictsSince is from when on verdicts may be about events that were appended
// at the given time: a verdict is written after its event. The times of an import
// say nothing about that.
func (p *Pipeline) verdictsSince(topic string, at event.Instant) event.Instant {
	for _, t := range p.cfg.Topics {
		if t.Name == topic && t.observed() == ObservedProducer {
			return 0
		}
	}
	return max(0, at.Add(-verdictSlack))
}
